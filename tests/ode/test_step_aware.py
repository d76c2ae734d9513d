"""The gradient that follows the lengths of the steps, against a plain adaptive loop left to autograd as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from variants import some

from physid.errors import InputError
from physid.machine import compiler_command
from physid.ode import ACA, METHODS, Fixed, solve
from physid.ode.control import CONTROLS
from physid.ode.methods.catalogue import Tableau

DOUBLE = torch.float64
AWARE = ACA(step_aware=True)
needs_compiler = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")
ENGINES = pytest.mark.parametrize("engine", ["eager", pytest.param("auto", marks=needs_compiler)])
METHODS_SEEN = ["heun_euler", "fehlberg2", "bosh3", "dopri5", "tsit5", "dopri8"]
TOLERANCE = 1e-4
FIRST = 0.8  # step
COARSE = {"heun_euler": 3e-3}  # by which the solvers of low order take no more steps than the others
Field = Callable[[Tensor, Tensor], Tensor]


def size(error: Tensor, parts: list[int]) -> Tensor:
    """The largest root mean square of a scaled error's parts."""
    return torch.stack([part.square().mean().sqrt() for part in error.split(parts)]).max()


def rated(m: Tableau, h: Tensor, k: list[Tensor], scale: Tensor, parts: list[int]) -> Tensor:
    """The error of a step over the tolerance."""
    rows = [torch.tensor(row, dtype=DOUBLE) for row in (m.error, m.error3) if row]
    ratio, *other = [size(h * torch.einsum("s,sn->n", row, torch.stack(k[: len(row)])) / scale, parts) for row in rows]
    return ratio if not other else ratio**2 / (ratio**2 + 0.01 * other[0] ** 2).sqrt()


def summed(weights: Sequence[float], rows: list[Tensor], y: Tensor) -> Tensor:
    """A weighted sum of the first rows, nothing at all being zero."""
    return sum((w * row for w, row in zip(weights, rows, strict=False)), torch.zeros_like(y))


def loop(
    f: Field,
    y: Tensor,
    t: Tensor,
    solver: str,
    control: str = "i",
    longest: float = math.inf,
    parts: list[int] | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, list[int]]:
    """States at t and the numbers of accepted and rejected attempts, with the graph of all of them."""
    m, c, rows, now, tried = METHODS[solver], CONTROLS[control], [y], t[0], [0, 0]
    way = (t - t[0]).detach().abs()
    wanted, after = FIRST * (t[-1] - t[0]).detach().sign(), False
    ratios, powers = torch.ones(2, dtype=DOUBLE), torch.tensor([-c.p - c.i - c.d, c.p + 2 * c.d, -c.d], dtype=DOUBLE)
    while len(rows) < len(t):
        length = wanted.clamp(-longest, longest)
        cut = bool((now + 1.01 * length - t[0]).detach().abs() >= way[-1])
        end = t[-1] if cut else now + length
        h, k = end - now, list[Tensor]()
        for node, a in zip((*m.c, *m.extra_c), (*m.a, *m.extra_a), strict=True):
            k.append(f(now + node * h, y + h * summed(a, k, y)))
        y1 = y + h * summed(m.b, k, y)
        scale = torch.maximum(y.abs(), y1.abs()) * tolerance + tolerance
        ratio = rated(m, h, k, scale, parts or [len(y)])
        good = bool(ratio.detach() <= 1)
        tried[not good] += 1
        last = torch.cat([ratio[None], ratios])
        factor = (c.safety * (last ** (powers * m.exponent)).prod()).clamp(c.shrink, c.grow)
        factor = factor if good and not after else factor.clamp(max=1.0)
        proposal = factor * h
        while good and len(rows) < len(t) and bool(way[len(rows)] <= (end - t[0]).detach().abs()):
            theta = (t[len(rows)] - now) / h
            b = theta ** torch.arange(1, len(m.dense[0]) + 1) @ torch.tensor(m.dense, dtype=DOUBLE).T
            rows.append(y + h * torch.einsum("s,sn->n", b, torch.stack(k)))
        if good:
            y, now, ratios = y1, end, last[:2]
        if not (good and cut and bool(proposal.detach().abs() < wanted.detach().abs())):
            wanted = proposal
        after = not good
    return torch.stack(rows), tried


def pulsed(k: Tensor) -> Field:
    """A pendulum [2] that is struck at t = 2, so that steps which have grown are rejected there."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, 8 * k[2] * torch.exp(-40 * (t - 2) ** 2) - k[0] * torch.sin(x) - k[1] * v * t], -1)

    return field


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Parameters [3], state [2] and times [6] that require gradients."""
    k = torch.tensor([1.3, 0.2, 0.4], dtype=DOUBLE, requires_grad=True)
    t = torch.tensor([0.1, 0.3, 0.3, 0.95, 2.2, 3.7], dtype=DOUBLE)
    return k, torch.tensor([0.7, -0.3], dtype=DOUBLE, requires_grad=True), t.requires_grad_()


def aware(f: Any, y0: Any, t: Any, tolerance: float = TOLERANCE, **options: Any) -> Any:
    """The solution with the gradient under test."""
    settings = {"engine": "eager", "first_step": FIRST, "gradient": AWARE, "rtol": tolerance, "atol": tolerance}
    return solve(f, y0, t, **(settings | options))  # type: ignore[arg-type]


def gradients(y: Tensor, wanted: list[Tensor], again: bool = False) -> list[Tensor]:
    """Of a weighted sum of states; with `again`, of a weighted sum of these gradients instead."""
    weight = torch.cos(torch.arange(y.numel(), dtype=DOUBLE)).view(y.shape).to(y.dtype)
    found = torch.autograd.grad((weight * y).sum(), wanted, create_graph=again, retain_graph=True)
    if not again:
        return list(found)
    return list(torch.autograd.grad(sum((g * g.detach().cos()).sum() for g in found), wanted))  # type: ignore[arg-type]


def close(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for new, old in zip(found, wanted, strict=True):
        assert float((new - old).abs().max()) <= tolerance * float(old.abs().max())


@cache
def truth(solver: str, control: str, longest: float = math.inf, again: bool = False) -> tuple[list[Tensor], list[int]]:
    """The gradients of the plain loop with the struck pendulum, and its attempts: one for both engines."""
    k, y0, t = inputs()
    states, tried = loop(pulsed(k), y0, t, solver, control, longest, tolerance=COARSE.get(solver, TOLERANCE))
    return gradients(states, [k, y0, t], again), tried


def mixed() -> list[Any]:
    """Every engine, control, longest step and method; by default every method twice, and the rest once or twice."""
    found = []
    for engine, (control, longest), solver in product(
        ("eager", "auto"), (("i", math.inf), ("i", 0.45), ("pi", math.inf), ("pid", 0.45)), METHODS_SEEN
    ):
        some = {("i", math.inf): METHODS_SEEN, ("i", 0.45): ["bosh3"], ("pi", math.inf): ["tsit5"]}
        default = solver in some.get((control, longest), METHODS_SEEN)
        if engine == "auto":
            default = (control, solver) in (("pid", "dopri5"), ("pid", "heun_euler"))
        marks = ([] if default else [pytest.mark.slow]) + ([needs_compiler] if engine == "auto" else [])
        found.append(pytest.param(engine, control, longest, solver, marks=marks))
    return found


@pytest.mark.parametrize(("engine", "control", "longest", "solver"), mixed())
def test_it_is_the_derivative_of_the_recursion(engine: str, control: str, longest: float, solver: str) -> None:
    (k, y0, t), tolerance = inputs(), COARSE.get(solver, TOLERANCE)
    found = aware(pulsed(k), y0, t, tolerance, solver=solver, control=control, max_step=longest, engine=engine)
    wanted, tried = truth(solver, control, longest)
    assert [found.statistics.accepted, found.statistics.rejected] == tried
    assert tried[1] > 0
    close(gradients(found.y, [k, y0, t]), wanted, 2e-8 if solver == "dopri8" else 1e-9)


@ENGINES
@pytest.mark.parametrize("solver", ["bosh3", "dopri5"])
def test_it_is_the_naive_gradient(engine: str, solver: str) -> None:
    k, y0, t = inputs()
    found = aware(pulsed(k), y0, t, 1e-3, solver=solver, engine=engine)
    naive = aware(pulsed(k), y0, t, 1e-3, solver=solver, gradient="naive")
    assert found.statistics.rejected == naive.statistics.rejected > 0
    close(gradients(found.y, [k, y0, t]), gradients(naive.y, [k, y0, t]), 1e-9)


@needs_compiler
def test_compiled_code_follows_steps_without_rejections_and_refuses_others() -> None:
    k, y0, t = inputs()
    options: dict[str, Any] = {"first_step": 0.01, "max_step": 0.05}
    found = aware(pulsed(k), y0, t, engine="native", **options)
    assert (found.engine, found.statistics.rejected) == ("native", 0)
    close(
        gradients(found.y, [k, y0, t]),
        gradients(aware(pulsed(k), y0, t, engine="eager", **options).y, [k, y0, t]),
        1e-9,
    )
    other = aware(pulsed(k), y0, t, engine="auto")
    assert other.engine == "eager"
    assert "rejected attempts" in other.engine_note
    with pytest.raises(InputError, match="rejected attempts"):
        aware(pulsed(k), y0, t, engine="native")


@needs_compiler
@pytest.mark.parametrize(("solver", "times"), [("dopri5", [0.0, 0.5, 2.1]), ("tsit5", [0.0, 1.5, 2.2])])
def test_engines_agree_where_the_last_of_many_stops_cuts_a_rejected_step(solver: str, times: list[float]) -> None:
    k, y0, _ = inputs()
    t = torch.tensor(times, dtype=DOUBLE, requires_grad=True)
    native, eager = (
        gradients(aware(pulsed(k), y0, t, solver=solver, exact=True, engine=one).y, [k, y0, t])
        for one in ("auto", "eager")
    )
    close(native, eager, 1e-10)


@pytest.mark.parametrize(
    ("engine", "solver", "control"),
    [
        ("eager", "heun_euler", "i"),
        ("eager", "dopri5", "pid"),
        pytest.param("auto", "dopri5", "pid", marks=needs_compiler),
        pytest.param("eager", "heun_euler", "pid", marks=pytest.mark.slow),
        pytest.param("eager", "dopri5", "i", marks=pytest.mark.slow),
        pytest.param("auto", "heun_euler", "i", marks=[needs_compiler, pytest.mark.slow]),
        pytest.param("auto", "heun_euler", "pid", marks=[needs_compiler, pytest.mark.slow]),
        pytest.param("auto", "dopri5", "i", marks=[needs_compiler, pytest.mark.slow]),
    ],
)
def test_second_derivatives(engine: str, solver: str, control: str) -> None:
    (k, y0, t), tolerance = inputs(), COARSE.get(solver, TOLERANCE)
    y = aware(pulsed(k), y0, t, tolerance, solver=solver, control=control, engine=engine).y
    wanted, tried = truth(solver, control, again=True)
    assert tried[1] > 0
    close(gradients(y, [k, y0, t], again=True), wanted, 1e-8)


def test_parts_of_a_tuple_backwards_in_time() -> None:
    k, y0, t = inputs()
    t = t.detach().flip(0).requires_grad_()

    def apart(t: Tensor, y: tuple[Tensor, ...]) -> Any:
        return pulsed(k)(t, torch.cat(y)).split([1, 1])

    found = aware(apart, y0.split([1, 1]), t)
    states, tried = loop(pulsed(k), y0, t, "dopri5", parts=[1, 1])
    assert [found.statistics.accepted, found.statistics.rejected] == tried
    close(gradients(torch.cat(found.y, -1), [k, y0, t]), gradients(states, [k, y0, t]), 1e-9)


@pytest.mark.parametrize("engine", ["eager", pytest.param("auto", marks=[needs_compiler, pytest.mark.slow])])
def test_samples_of_their_own_steps_are_as_alone(engine: str) -> None:
    k, _, t = inputs()
    y0 = torch.tensor([[0.7, -0.3], [2.0, 4.0], [0.0, 0.0]], dtype=DOUBLE, requires_grad=True)
    batch = aware(pulsed(k), y0, t, control="pid", batched=True, engine=engine)
    alone = torch.stack([aware(pulsed(k), y, t, control="pid").y for y in y0], 1)
    assert batch.statistics.rejected > 0
    for again in (True, False):
        close(gradients(batch.y, [k, y0, t], again), gradients(alone, [k, y0, t], again), 1e-9)


def test_a_sample_that_fails_leaves_the_gradients_of_the_others() -> None:
    k = torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)
    y0, t = torch.tensor([[2.0], [0.1]], dtype=DOUBLE), torch.tensor([0.0, 1.0], dtype=DOUBLE)
    both = aware(lambda t, y: k * y**2, y0, t, batched=True, throw=False)
    assert [status.ok for status in both.statuses] == [False, True]
    alone = aware(lambda t, y: k * y**2, y0[1], t)
    (ours,), (theirs,) = (torch.autograd.grad(y, k) for y in (both.y[-1, 1, 0], alone.y[-1, 0]))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-12)


def test_float32_is_good_to_float32() -> None:
    found = []
    for dtype in (torch.float32, DOUBLE):
        k, y0, t = inputs()
        single = k.to(dtype)
        y = aware(pulsed(single), y0.to(dtype), t, 1e-2, solver="heun_euler", first_step=0.05, params=[single]).y
        assert y.dtype == dtype
        found.append(gradients(y, [k, y0, t]))
    close(found[0], found[1], 1e-4)


@ENGINES
def test_fixed_steps_have_nothing_to_follow(engine: str) -> None:
    found = []
    for gradient in (AWARE, "aca"):
        k, y0, t = inputs()
        y = aware(pulsed(k), y0, t, solver="rk4", control=Fixed(), engine=engine, gradient=gradient).y
        found.append(gradients(y, [k, y0, t]))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, at the first torch.func call
@pytest.mark.parametrize("engine", some(["eager", "auto"], "auto"))
def test_function_transforms_and_entangled_tensors_follow_too(engine: str) -> None:
    k, y0, t = inputs()
    start, tangent = y0.detach(), torch.tensor([1.0, -2.0], dtype=DOUBLE)

    def last(y: Tensor) -> Any:
        return aware(pulsed(k.detach()), y, t.detach(), engine=engine).y[-1]

    states, _ = loop(pulsed(k.detach()), y0, t.detach(), "dopri5")
    jacobian = torch.stack([torch.autograd.grad(y, y0, retain_graph=True)[0] for y in states[-1]])
    close([torch.func.jacrev(last)(start)], [jacobian], 1e-9)
    close([torch.func.jvp(last, (start,), (tangent,))[1]], [jacobian @ tangent], 1e-9)

    x = torch.tensor(0.4, dtype=DOUBLE, requires_grad=True)
    made = x.exp()
    y = aware(lambda t, y: -made * y + x, torch.ones(1, dtype=DOUBLE), t, engine=engine).y
    states, _ = loop(lambda t, y: -made * y + x, torch.ones(1, dtype=DOUBLE), t, "dopri5")
    close(gradients(y, [x]), gradients(states, [x]), 1e-9)


class Held:
    """A tensor that a graph has saved; `now` and `most` count the bytes of all."""

    now = most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.bytes = tensor, tensor.numel() * tensor.element_size()
        Held.now += self.bytes
        Held.most = max(Held.most, Held.now)

    def __del__(self) -> None:
        Held.now -= self.bytes


@pytest.mark.parametrize("solver", some(["heun_euler", "dopri8"], "heun_euler"))
def test_memory_is_that_of_the_checkpoints(solver: str) -> None:
    """Between the passes a state and nine numbers a step; in the backward pass the graph of one step beside them."""
    width, most = 500, []
    for span in (1.0, 3.0):
        rate = torch.full((width,), -0.5, dtype=DOUBLE, requires_grad=True)
        y0, t = torch.ones(width, dtype=DOUBLE), torch.tensor([0.0, span], dtype=DOUBLE)
        Held.now = Held.most = 0
        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
            found = aware(lambda t, y, rate=rate: rate * y, y0, t, 1.0, solver=solver, max_step=0.04)
            steps = found.statistics.accepted
            assert steps >= span / 0.04
            assert found.statistics.checkpoint_bytes / steps <= 1.2 * (8 * width + 24) + 64
            assert Held.now <= 4 * 8 * width
            (slope,) = torch.autograd.grad(found.y[-1].sum(), rate)
        most.append(Held.most)
        assert float(slope[0]) == pytest.approx(span * math.exp(-0.5 * span), rel=1e-2)
    assert most[1] <= 1.01 * most[0]
