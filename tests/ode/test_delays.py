"""Inputs read at other times than t, and jumps that move with unknowns: values, gradients and fits against truth."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from variants import some

import physid
from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.inference.batch import Carried
from physid.machine import compiler_command
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown
from physid.ode import Integrator, sensitivities, solve

DOUBLE = torch.float64
TIMES = np.array([0.0, 0.5, 1.1, 1.9, 2.4, 3.3, 4.0])
VALUES = np.array([1.0, -0.5, -0.5, 2.0, 0.3, 1.5, -1.0])
ASKED = (1.7, 4.0)
GUESS = {"delay": 0.73, "gain": 0.7}
WEIGHT = np.array([1.0, 0.5])
NATIVE = pytest.param("native", marks=pytest.mark.skipif(compiler_command() is None, reason="no C compiler"))
ENGINES = pytest.mark.parametrize("engine", ["eager", NATIVE])


class Late(Model):
    """A damped pendulum pushed by what was read some time ago, and braked by its square."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    input_names: ClassVar[tuple[str, ...]] = ("u",)
    delay = Unknown(0.73)
    gain = Unknown(0.7)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (u,) = self.inputs(t - self.delay)
        x, v = y.unbind(-1)
        return torch.stack((v, self.gain * u - torch.sin(x) - 0.3 * v * (1 + u * u)), -1)


def driven(model: Model, kind: str = "hold", times: Any = TIMES, values: Any = VALUES) -> Any:
    model.drive(Inputs.through(times, values, ["u"], kind))
    return model


def signal(s: float, kind: str) -> float:
    """The input, which before its first sample has the value of that one."""
    if kind == "hold":
        return float(VALUES[max(int(np.searchsorted(TIMES, s, side="right")) - 1, 0)])
    return float(np.interp(s, TIMES, VALUES))


@cache
def truth(kind: str, delay: float = 0.73, gain: float = 0.7) -> float:
    """The weighted sum over the asked states, by SciPy from one jump or kink to the next."""
    y, total = np.array([0.4, -0.2]), 0.0
    for low, high in pairwise(sorted({0.0, 4.0, *(s for s in TIMES + delay if 0 < s < 4)})):
        held = signal((low + high) / 2 - delay, kind)

        def rate(t: float, y: Any, held: float = held) -> Any:
            u = held if kind == "hold" else signal(t - delay, kind)
            return [y[1], gain * u - np.sin(y[0]) - 0.3 * y[1] * (1 + u * u)]

        run = solve_ivp(rate, (low, high), y, "DOP853", dense_output=True, rtol=1e-13, atol=1e-13)
        total += sum(float(np.dot(WEIGHT, run.sol(a))) for a in ASKED if low < a <= high)  # type: ignore[misc]
        y = run.y[:, -1]
    return total


def by_differences(kind: str, step: float = 1e-4) -> list[float]:
    ends = [[truth(kind, **{name: value + s * step}) for s in (1, -1)] for name, value in GUESS.items()]
    return [(high - low) / (2 * step) for high, low in ends]


def loss(model: Model, engine: str, gradient: str = "aca", **options: Any) -> tuple[Tensor, Any]:
    y0, t = torch.tensor([0.4, -0.2], dtype=DOUBLE), torch.tensor([0.0, *ASKED], dtype=DOUBLE)
    settings = {"rtol": 1e-9, "atol": 1e-9, **options}
    found = solve(model, y0, t, engine=engine, gradient=gradient, **settings)
    assert isinstance(found.y, Tensor)
    return (found.y[1:] @ torch.from_numpy(WEIGHT)).sum(), found


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ("eager", "hold"),
        pytest.param("native", "linear", marks=NATIVE.marks),
        pytest.param("eager", "linear", marks=pytest.mark.slow),
        pytest.param("native", "hold", marks=[*NATIVE.marks, pytest.mark.slow]),
    ],
)
def test_a_delay_has_its_gradient_across_jumps_and_kinks(kind: str, engine: str) -> None:
    wanted = by_differences(kind)
    for gradient in ("aca", "forward") if engine == "native" else ("aca", "forward", "naive", "adjoint"):
        model = driven(Late(), kind)
        value, found = loss(model, engine, gradient)
        assert found.engine == engine
        assert float(value.detach()) == pytest.approx(truth(kind), abs=1e-8)
        grads = torch.autograd.grad(value, list(model.free().values()))
        assert [g.item() for g in grads] == pytest.approx(wanted, rel=1e-6)


@ENGINES
def test_second_derivatives_follow_the_jumps(engine: str) -> None:
    model = driven(Late())
    value, _ = loss(model, engine)
    first = torch.autograd.grad(value, list(model.free().values()), create_graph=True)
    assert [g.item() for g in first] == pytest.approx(by_differences("hold"), rel=1e-6)
    second = torch.autograd.grad(first[0], model.free()["delay"])[0].item()
    assert second == pytest.approx((truth("hold", 0.735) - 2 * truth("hold") + truth("hold", 0.725)) / 25e-6, rel=1e-4)


@ENGINES
def test_the_gradient_is_that_of_an_independent_loop(engine: str) -> None:
    """Midpoint steps over the accepted grid, and at every jump y + (tau - its value) (f before - f after)."""
    model = driven(Late())
    value, found = loss(model, engine, solver="midpoint", control=physid.ode.Fixed(0.21))
    ours = torch.autograd.grad(value, list(model.free().values()))
    y, grid, states = torch.tensor([0.4, -0.2], dtype=DOUBLE), found.grid.tolist(), {}
    taus = [switch + model.delay for switch in model.driver.switches]
    for t, end in pairwise(grid):
        for tau in taus:
            if t > 0 and abs(t - float(tau.detach())) < 1e-12:
                before, after = (model.field(torch.tensor(t + s, dtype=DOUBLE), y) for s in (-1e-9, 1e-9))
                y = y + (tau - tau.detach()) * (before - after)
        times = torch.tensor([t + 1e-12, (t + end) / 2], dtype=DOUBLE)
        h = end - t
        k = model.field(times[1], y + h / 2 * model.field(times[0], y))
        start, first, y = y, model.field(times[0], y), y + h * k
        for a in ASKED:  # the dense output of the method: a parabola
            if t < a <= end:
                share = (a - t) / h
                states[a] = start + h * ((share - share**2) * first + share**2 * k)
    theirs = torch.autograd.grad(sum(states.values()) @ torch.from_numpy(WEIGHT), list(model.free().values()))
    assert torch.allclose(torch.stack(ours), torch.stack(theirs), rtol=1e-9)


class Other(Model):
    """Reads of every straight kind, at jumps that coincide with each other and with asked times."""

    state_names: ClassVar[tuple[str, ...]] = ("x",)
    input_names: ClassVar[tuple[str, ...]] = ("u",)
    delay = Unknown(1.0)
    scale = Unknown(0.5)
    kind: ClassVar[str] = ""

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        at = {
            "ahead": lambda: self.inputs(t + 0.3 * self.delay)[0],
            "scaled": lambda: self.inputs(t * self.scale + 0.1)[0],
            "backwards": lambda: self.inputs(8.0 - t * self.scale)[0] + 0 * self.delay,
            "twice": lambda: self.inputs(t - self.delay)[0] * (1 + self.inputs(t - self.delay)[0]),
            "two": lambda: self.scale * self.inputs(t)[0] + self.inputs(t - self.delay)[0],
            "window": lambda: self.inputs(t[..., None] - self.delay * torch.linspace(0, 1, 5, dtype=DOUBLE))[0].mean(
                -1
            ),
            "constant": lambda: self.inputs(2.5)[0] * self.inputs(torch.tensor(6.5, dtype=DOUBLE))[0] + 0 * t,
        }[self.kind]()
        return (at * (1 + 0.1 * t))[..., None] - 0.3 * y

    def sum(
        self, engine: str = "eager", gradient: str = "aca", times: Any = (0.0, 1.7, 4.0, 7.5)
    ) -> tuple[Tensor, Any]:
        y0 = torch.tensor([0.4], dtype=DOUBLE)
        found = solve(
            self, y0, torch.tensor(times, dtype=DOUBLE), engine=engine, gradient=gradient, rtol=1e-9, atol=1e-9
        )
        assert isinstance(found.y, Tensor)
        return found.y[1:].sum(), found


def other(reads: str, delay: float = 1.0, scale: float = 0.5, kind: str = "hold") -> Other:
    model = driven(
        Other(delay=delay, scale=scale), kind, np.arange(9.0), np.array([1, -0.5, -0.5, 2, 0.3, 1.5, -1, 0.7, 0.2])
    )
    model.__class__ = type("Other", (Other,), {"kind": reads})
    return model  # type: ignore[no-any-return]


@cache
def numeric(reads: str, step: float = 1e-6, **options: Any) -> list[float]:
    def at(**values: Any) -> Tensor:
        return other(reads, **values).sum(**options)[0]

    with torch.no_grad():
        ends = [[at(**{name: value + s * step}) for s in (1, -1)] for name, value in START]
    return [float(high - low) / (2 * step) for high, low in ends]


START = (("delay", 1.0), ("scale", 0.5))


@pytest.mark.parametrize(
    ("gradient", "reads"),
    [
        *(("aca", reads) for reads in ("ahead", "backwards", "twice", "window")),
        *(("forward", "window"), ("adjoint", "two")),
        *(pytest.param("aca", one, marks=pytest.mark.slow) for one in ("scaled", "two")),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in (("forward", "twice"), ("adjoint", "ahead"))),
        *(pytest.param("forward", one, marks=pytest.mark.slow) for one in ("ahead", "scaled", "backwards", "two")),
        *(pytest.param("adjoint", one, marks=pytest.mark.slow) for one in ("scaled", "backwards", "twice", "window")),
    ],
)
def test_jumps_that_meet_have_the_derivative_of_differences(reads: str, gradient: str) -> None:
    """Switches, asked times and delays are whole numbers here, as guesses are."""
    model = other(reads)
    value, _ = model.sum(gradient=gradient)
    found = torch.autograd.grad(value, list(model.free().values()), allow_unused=True, materialize_grads=True)
    assert [g.item() for g in found] == pytest.approx(numeric(reads), rel=2e-5, abs=2e-5)


@pytest.mark.skipif(compiler_command() is None, reason="no C compiler")
@pytest.mark.parametrize(
    "reads", some(["backwards", "twice", "two", "window", "constant"], "backwards", "two", "window")
)
def test_compiled_reads_are_those_of_torch(reads: str) -> None:
    delay = {"twice": 1.0}.get(reads, 1.37)  # apart from each other, where there are two of them
    sums = [other(reads, delay=delay).sum(engine) for engine in ("native", "eager")]
    assert [found.engine for _, found in sums] == ["native", "eager"]
    assert float(sums[0][0].detach()) == pytest.approx(float(sums[1][0].detach()), rel=1e-12)


@pytest.mark.skipif(compiler_command() is None, reason="no C compiler")
def test_jumps_that_meet_and_move_apart_run_eagerly_with_the_reason() -> None:
    _, found = other("two").sum("auto")
    assert (found.engine, "jumps at one time that move apart" in found.engine_note) == ("eager", True)


def test_backwards_in_time() -> None:
    times = (7.5, 4.0, 1.7, 0.0)
    model = other("two")
    value, _ = model.sum(times=times)
    found = torch.autograd.grad(value, list(model.free().values()))
    assert [g.item() for g in found] == pytest.approx(numeric("two", times=times), rel=1e-5)


class Switched(Model):
    """An f of its own that switches at an unknown time."""

    state_names: ClassVar[tuple[str, ...]] = ("x",)
    at = Unknown(1.3)

    @property
    def switches(self) -> Tensor:
        """When f switches."""
        return self.at[None]

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t < self.at, 2.0 + 0 * t, -1.0 + 0 * t)[..., None] - y


@ENGINES
@pytest.mark.parametrize("gradient", ["aca", "forward"])
def test_an_unknown_switch_time(engine: str, gradient: str) -> None:
    """x' = 2 - x until a, then -1 - x: x(t) = -1 + (x(a) + 1) exp(a - t), and dx/da = 3 exp(a - t)."""
    model, t = Switched(), torch.tensor([0.0, 1.0, 2.0], dtype=DOUBLE)
    found = solve(model, torch.zeros(1, dtype=DOUBLE), t, engine=engine, gradient=gradient, rtol=1e-10, atol=1e-10)
    assert isinstance(found.y, Tensor)
    assert found.engine == engine
    assert found.statistics.rejected <= 2
    grad = torch.autograd.grad(found.y[2].sum(), model.free()["at"], retain_graph=True)[0]
    assert grad.item() == pytest.approx(3 * np.exp(-0.7), rel=1e-8)
    assert torch.autograd.grad(found.y[1].sum(), model.free()["at"])[0].item() == pytest.approx(0.0, abs=1e-12)


@ENGINES
def test_lanes_with_delays_of_their_own(engine: str) -> None:
    """Each lane equals a solve of its own, delay and gain travelling with its state."""
    model = driven(Late())
    field = Carried(model, [model.raw.delay, model.raw.gain], torch.Size([2]))
    thetas = torch.tensor([[0.73, 0.7], [0.41, 0.9], [1.2, 0.3]], dtype=DOUBLE)
    start = torch.cat([torch.tensor([[0.4, -0.2]], dtype=DOUBLE).expand(3, -1), thetas], 1)
    t = torch.tensor([0.0, *ASKED], dtype=DOUBLE)
    how = Integrator("dopri8", 1e-10, 1e-10, engine=engine)
    found = sensitivities(field, start, t, params=(), integrator=how, batched=True)
    assert found.solution.engine == engine
    for lane, (delay, gain) in enumerate(thetas.tolist()):
        alone = driven(Late(delay=delay, gain=gain))
        raws = list(alone.free().values())
        one = sensitivities(alone, start[lane, :2], t, params=raws, integrator=how)
        by = torch.stack(list(one.params), -1)
        assert torch.allclose(found.y0[:, lane, :2, 2:], by.reshape(3, 2, 2), rtol=1e-6, atol=1e-7)


def test_samples_with_delays_of_their_own() -> None:
    """A batch with one delay for each sample, by torch."""

    class Batch(Late):
        delay = Unknown([0.73, 0.41])

    batch = driven(Batch())
    y0 = torch.tensor([[0.4, -0.2], [0.4, -0.2]], dtype=DOUBLE)
    t = torch.tensor([0.0, *ASKED], dtype=DOUBLE)
    y = solve(batch, y0, t, batched=True, rtol=1e-9, atol=1e-9, engine="eager").y
    assert isinstance(y, Tensor)
    grads = torch.autograd.grad((y[1:, 0] @ torch.from_numpy(WEIGHT)).sum(), batch.free()["delay"])[0]
    assert grads.tolist() == pytest.approx([by_differences("hold")[0], 0.0], rel=1e-6)


def test_what_is_not_known_or_cannot_be_followed_is_refused() -> None:
    class Ahead(Late):
        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return self.inputs(t + self.delay)[0][..., None] + 0 * y

    class Stateful(Late):
        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return self.inputs(t - self.delay * (1 + 0.1 * y[..., 0]))[0][..., None] - y

    with pytest.raises(InputError, match=r"known from 0 to 4, but they are needed from 0 to 4\.73"):
        loss(driven(Ahead(), "linear"), "eager")
    loss(driven(Ahead()), "eager")  # held on
    with pytest.raises(InputError, match="depends on the state"):
        loss(driven(Stateful()), "eager")
    with torch.no_grad():
        loss(driven(Stateful()), "eager")
    model = driven(Stateful(), "linear")
    value, _ = loss(model, "eager")
    assert torch.isfinite(torch.autograd.grad(value, model.free()["delay"])[0])
    unlanded = Late()
    unlanded.drive(Inputs.through(TIMES, VALUES, ["u"], land=False))
    with pytest.raises(InputError, match="land=False"):
        loss(unlanded, "eager")
    with pytest.raises(InputError, match="step_aware"):
        solve(driven(Late()), torch.zeros(2, dtype=DOUBLE), [0.0, 4.0], gradient=physid.ode.ACA(step_aware=True))


@pytest.mark.parametrize("kind", ["hold", "linear", "cubic"])
def test_before_its_first_sample_an_input_keeps_that_value(kind: str) -> None:
    early = Inputs.through(TIMES, VALUES, ["u"], kind)
    t = torch.tensor([-5.0, -0.1, 0.0], dtype=DOUBLE, requires_grad=True)
    assert early(t).flatten().tolist() == [1.0, 1.0, 1.0]
    if kind != "hold":
        assert torch.autograd.grad(early(t).sum(), t)[0][:2].tolist() == [0.0, 0.0]
    later = Inputs.through(TIMES + 1, VALUES, ["u"], kind)
    both = Inputs.stack([early, later])(torch.tensor([-0.5, 0.5], dtype=DOUBLE))
    assert both.flatten().tolist() == [1.0, 1.0]
