"""Probes: tangents in the error norm, by which the tolerance holds for the gradient, too."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from variants import some

from physid.errors import InputError
from physid.machine import compiler_command
from physid.ode import ACA, Integrator, Probes, misfit, odeint, sensitivities
from physid.ode import solve as solve_typed
from physid.ode.directions import Directions
from physid.ode.eager.march import March

DOUBLE = torch.float64
needs_compiler = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")
ENGINES = pytest.mark.parametrize("engine", ["eager", pytest.param("native", marks=needs_compiler)])
MORE = [
    pytest.param(*one, marks=[needs_compiler, pytest.mark.slow]) for one in (("eager", "aca"), ("native", "forward"))
]
CROSSED = pytest.mark.parametrize(  # each engine by default with one gradient
    ("engine", "gradient"), [("eager", "forward"), pytest.param("native", "aca", marks=needs_compiler), *MORE]
)


def solve(*arguments: Any, **options: Any) -> Any:
    """The solution, whose states are one tensor or several."""
    return solve_typed(*arguments, **options)


def tensor(*values: float, grad: bool = False) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE, requires_grad=grad)


def shaken(a: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """An oscillator that an amplitude `a` [1] shakes: x'' = a cos 3 t - 25 x."""
    return lambda t, y: torch.stack([y[1], a[0] * torch.cos(3 * t) - 25 * y[0]])


def prey(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Predator and prey [.., 2] with rates `p` [4]."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        x, z = y.unbind(-1)
        return torch.stack([p[0] * x - p[1] * x * z, p[2] * x * z - p[3] * z], -1)

    return field


def orbit(mu: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A planet [4] about a sun of strength `mu` [1]."""
    return lambda t, y: torch.cat([y[2:], -mu[0] * y[:2] / (y[:2] @ y[:2]) ** 1.5])


START = (0.2, 0.0, 0.0, 3.0)  # of an orbit of eccentricity .8


def rates() -> Tensor:
    return tensor(1.1, 0.4, 0.1, 0.4, grad=True)


def steps(found: Any) -> tuple[Tensor, int]:
    return found.grid, found.statistics.rejected


@CROSSED
def test_a_derivative_that_moves_alone_is_seen(engine: str, gradient: str) -> None:
    """At rest nothing but the derivative by the amplitude moves: (cos 3 t - cos 5 t) / 16."""
    a = tensor(0.0, grad=True)
    options: dict[str, Any] = {"gradient": gradient, "engine": engine, "rtol": 1e-5, "atol": 1e-6, "solver": "dopri8"}
    found = solve(shaken(a), tensor(0.0, 0.0), [0.0, 10.0], probes=1, **options)
    (slope,) = torch.autograd.grad(found.y[-1, 0], a)
    assert float(slope[0]) == pytest.approx((math.cos(30) - math.cos(50)) / 16, rel=1e-3)
    assert found.engine == engine
    assert found.statistics.tangents > 0
    bare = solve(shaken(a), tensor(0.0, 0.0), [0.0, 10.0], **options)
    assert bare.gradient_error is None
    assert bare.statistics.accepted < 20


@needs_compiler
@pytest.mark.parametrize("gradient", ["aca", pytest.param("forward", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("solver", "control"), some([("dopri5", "pid"), ("bosh3", "pi"), ("dopri8", "i")], ("dopri5", "pid"))
)
def test_engines_take_the_same_steps(gradient: str, solver: str, control: str) -> None:
    p, y0 = rates(), tensor(2.0, 0.5, grad=True)
    found = [
        solve(
            prey(p), y0, [0.0, 1.0, 7.0], solver=solver, control=control, rtol=1e-3, atol=1e-5, gradient=gradient,
            probes=2, engine=engine,
        )
        for engine in ("eager", "native")
    ]  # fmt: skip
    (ours, refused), (theirs, also) = (steps(one) for one in found)
    assert refused == also
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    eager, native = (torch.autograd.grad(one.y[1:].sum(), [p, y0]) for one in found)
    for mine, other in zip(eager, native, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9)
    if solver != "bosh3":
        assert found[0].gradient_error == pytest.approx(found[1].gradient_error, rel=1e-2)


@ENGINES
def test_a_sample_is_the_same_alone_and_in_a_batch(engine: str) -> None:
    p = rates()
    y0 = torch.tensor([[2.0, 0.5], [0.3, 3.0], [0.0, 1.0], *([[1.0, 1.0]] * 5)], dtype=DOUBLE)
    options: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6, "probes": 1, "engine": engine}
    batch = solve(prey(p), y0, [0.0, 6.0], batched=True, **options)
    for i in range(4):
        alone = solve(prey(p), y0[i], [0.0, 6.0], **options)
        torch.testing.assert_close(batch.grid[i], alone.grid, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(batch.y[:, i], alone.y, rtol=1e-11, atol=1e-12)
    assert len({len(grid) for grid in batch.grid}) > 1
    assert batch.gradient_error is not None
    assert batch.gradient_error < 1e-2


@ENGINES
def test_parameters_of_their_own_take_the_direction_that_they_take_alone(engine: str) -> None:
    y0, k = torch.ones(6, 1, dtype=DOUBLE), torch.linspace(0.1, 3, 6, dtype=DOUBLE)[:, None].requires_grad_()
    options: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-7, "probes": 2, "engine": engine}
    batch = solve(lambda t, y: -(k * k + k) * y * y, y0, [0.0, 3.0], batched=True, **options)
    assert batch.engine == engine
    for i in (0, 3, 5):
        own = k.detach()[i].requires_grad_()
        alone = solve(lambda t, y, own=own: -(own * own + own) * y * y, y0[i], [0.0, 3.0], **options)
        torch.testing.assert_close(batch.grid[i], alone.grid, rtol=1e-10, atol=1e-12)


@CROSSED
def test_the_steps_are_the_same_with_and_without_a_gradient(engine: str, gradient: str) -> None:
    p, y0 = rates(), tensor(2.0, 0.5)
    options: dict[str, Any] = {"gradient": gradient, "probes": 1, "engine": engine, "rtol": 1e-5, "atol": 1e-5}
    wanted = solve(prey(p), y0, [0.0, 6.0], **options)
    with torch.no_grad():
        bare = solve(prey(p), y0, [0.0, 6.0], **options)
    assert torch.equal(wanted.grid, bare.grid)
    assert torch.equal(wanted.y, bare.y)


@ENGINES
def test_probes_end_at_the_directional_derivative(engine: str) -> None:
    p, y0, grid = rates(), tensor(2.0, 0.5), [0.0, 2.5]
    integrator = Integrator("dopri8", 1e-8, 1e-8, engine=engine, probes=Probes(3, seed=7))
    problem = integrator.pose(prey(p), y0, grid, None, False)
    along = Directions.of(problem, Probes(3, seed=7))
    found = integrator.solve(prey(p), y0, grid)
    with torch.no_grad():
        ended = March(problem).run().tangents
    exact = sensitivities(prey(p), y0, grid, params=[p], integrator=replace(integrator, probes=0))
    wanted = along.start @ exact.y0[-1].T + along.params[0] @ exact.params[0][-1].T
    assert ended is not None
    torch.testing.assert_close(ended, wanted, rtol=1e-6, atol=1e-7)
    assert found.gradient_error is not None
    assert found.gradient_error < 1e-5


@ENGINES
def test_the_units_of_unknowns_and_states_do_not_matter(engine: str) -> None:
    grids = []
    for by, length in ((1.0, 1.0), (1e-9, 1e6)):
        p = (tensor(1.1, 0.4, 0.1, 0.4) / by).requires_grad_()
        scales = tensor(1.0, 1 / length, 1 / length, 1.0) * by
        found = solve(
            lambda t, y, p=p, s=scales: prey(p * s)(t, y), tensor(2.0, 0.5) * length, [0.0, 6.0],
            rtol=1e-5, atol=1e-7 * length, probes=1, engine=engine,
        )  # fmt: skip
        grids.append(found.grid)
    torch.testing.assert_close(*grids, rtol=1e-8, atol=1e-8)


@CROSSED
def test_sizes_of_zero_leave_a_direction_out(engine: str, gradient: str) -> None:
    p, y0 = rates(), tensor(2.0, 0.5)
    options: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5, "gradient": gradient, "engine": engine, "params": [p]}
    plain = solve(prey(p), y0, [0.0, 6.0], **options)
    none = solve(prey(p), y0, [0.0, 6.0], probes=Probes(sizes=(0.0,) * 4, initial=(0.0, 0.0)), **options)
    assert torch.equal(plain.grid, none.grid)
    some = solve(prey(p), y0, [0.0, 6.0], probes=Probes(sizes=(0.0, 5.0, 0.0, 0.0), initial=(0.0, 0.0)), **options)
    assert len(some.grid) > len(plain.grid)


@ENGINES
def test_the_gradient_gains_and_its_error_is_told(engine: str) -> None:
    tolerance = 1e-5

    def slope(**options: Any) -> tuple[Tensor, Any]:
        mu = tensor(1.0, grad=True)
        found = solve(orbit(mu), tensor(*START), [0.0, 6.0], engine=engine, **options)
        return torch.autograd.grad(found.y[-1, :2].sum(), mu)[0], found

    truth, _ = slope(rtol=1e-12, atol=1e-12, solver="dopri8")
    plain, _ = slope(rtol=tolerance, atol=tolerance)
    probed, found = slope(rtol=tolerance, atol=tolerance, probes=1)
    before, after = (float((x - truth).abs() / truth.abs()) for x in (plain, probed))
    assert after < before
    assert found.gradient_error is not None
    assert after / 10 < found.gradient_error < 30 * after


@ENGINES
def test_tuples_jumps_and_least_steps(engine: str) -> None:
    k = tensor(0.7, grad=True)

    def field(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return y[1], -k * y[0].sin() + torch.where(t < 1, 0 * t, 2 + 0 * t)

    y0 = (tensor(0.5), tensor(0.0))
    jumps = {"jump_t": tensor(1.0), "min_step": 1e-3}
    for probes in (0, 2):
        out = odeint(field, y0, tensor(0.0, 3.0), rtol=1e-6, atol=1e-6, options=jumps, engine=engine, probes=probes)
        (slope,) = torch.autograd.grad(out[0][-1].sum(), k)
        if probes == 0:
            plain = slope
    torch.testing.assert_close(slope, plain, rtol=1e-3, atol=0)


@needs_compiler
def test_engines_agree_on_tuples_with_jumps() -> None:
    k, y0 = tensor(0.7, grad=True), (tensor(0.5), tensor(0.0))
    found = [
        odeint(
            lambda t, y: (y[1], -k * y[0].sin() + torch.where(t < 1, 0 * t, 2 + 0 * t)), y0, tensor(0.0, 3.0),
            rtol=1e-5, atol=1e-5, options={"jump_t": tensor(1.0)}, engine=engine, probes=2,
        )[0][-1]
        for engine in ("eager", "native")
    ]  # fmt: skip
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-13)


@ENGINES
def test_a_sum_of_squares_takes_the_steps_of_its_solve(engine: str) -> None:
    p, y0, t = rates(), tensor(2.0, 0.5, grad=True), tensor(0.0, 2.0, 6.0)
    integrator = Integrator(rtol=1e-4, atol=1e-4, engine=engine, probes=1)
    target = torch.zeros(3, 2, dtype=DOUBLE)
    total = misfit(prey(p), y0, t, target, integrator=integrator)
    found: Any = integrator.solve(prey(p), y0, t)
    torch.testing.assert_close(total, found.y.square().sum(), rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(x, [p, y0]) for x in (total, found.y.square().sum()))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=0)


@ENGINES
def test_few_checkpoints_give_the_same_gradient(engine: str) -> None:
    p, y0 = rates(), tensor(2.0, 0.5)
    slopes = []
    for most in (None, 3):
        found = solve(prey(p), y0, [0.0, 6.0], rtol=1e-5, atol=1e-5, checkpoints=most, probes=1, engine=engine)
        slopes.append(torch.autograd.grad(found.y.sum(), p)[0])
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=0)


@ENGINES
def test_a_derivative_that_does_not_exist_ends_no_solve(engine: str) -> None:
    """The square root has no derivative at 0, where this solution begins and stays in its second component."""
    a = tensor(0.5, grad=True)
    found = solve(
        lambda t, y: torch.stack([-y[0], a[0] * y[1].sqrt() * 0]), tensor(1.0, 0.0), [0.0, 1.0], engine=engine, probes=1
    )
    assert found.y[-1, 0].item() == pytest.approx(math.exp(-1), rel=1e-6)


def test_an_estimate_after_the_unknowns_have_changed_is_refused() -> None:
    p = rates()
    found = solve(prey(p), tensor(2.0, 0.5), [0.0, 1.0], probes=1, engine="eager")
    with torch.no_grad():
        p.mul_(2)
    with pytest.raises(InputError, match="have changed since the solve"):
        _ = found.gradient_error


@ENGINES
def test_the_estimate_outlives_pickling(engine: str) -> None:
    options: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4, "probes": 1, "engine": engine}
    p = rates()
    found, late = (solve(prey(p), tensor(10.0, 5.0), [0.0, 6.0], **options) for _ in range(2))
    assert "gradient_error" not in vars(copy.copy(found))
    again = pickle.loads(pickle.dumps(found))
    assert again.gradient_error == found.gradient_error
    assert 1e-7 < again.gradient_error < 1e-2
    assert pickle.loads(pickle.dumps(again)).gradient_error == found.gradient_error
    with torch.no_grad():
        p.mul_(2)
    again = pickle.loads(pickle.dumps(late))
    assert torch.equal(again.y, late.y)
    with pytest.raises(InputError, match="have changed since the solve"):
        _ = again.gradient_error


@ENGINES
def test_samples_that_fail_have_no_estimate(engine: str) -> None:
    """y' = y^2 from 2 has no end beyond .5, from .1 it has: the estimate is that of the one that is left."""
    options: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3, "probes": 1, "engine": engine, "throw": False}
    p = tensor(1.0, grad=True)
    both = solve(lambda t, y: p * y * y, tensor(2.0, 0.1)[:, None], [0.0, 1.0], batched=True, max_steps=50, **options)
    alone = solve(lambda t, y: p * y * y, tensor(0.1)[None], [0.0, 1.0], batched=True, **options)
    assert [status.ok for status in both.statuses] == [False, True]
    assert both.gradient_error == pytest.approx(alone.gradient_error, rel=1e-6)
    short = solve(lambda t, y: p * y * y, tensor(0.1), [0.0, 1.0], max_steps=1, **options)
    assert math.isnan(short.gradient_error)
    assert math.isnan(pickle.loads(pickle.dumps(short)).gradient_error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": 1.0}, "a whole number of them"),
        ({"probes": -1}, "from 1 to 64"),
        ({"probes": True}, "a whole number of them"),
        ({"probes": 1, "control": "fixed"}, "fixed length"),
        ({"probes": 1, "solver": "rk4"}, "fixed length"),
        ({"probes": 1, "gradient": "naive"}, "expected gradient 'aca' or 'forward'"),
        ({"probes": 1, "gradient": "adjoint"}, "expected gradient 'aca' or 'forward'"),
        ({"probes": 1, "gradient": ACA(step_aware=True)}, "step-aware"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        solve(lambda t, y: -y, tensor(1.0), [0.0, 1.0], **options)


def test_sizes_that_do_not_fit_are_refused() -> None:
    p, y0 = rates(), tensor(2.0, 0.5)
    for given, words in (
        (Probes(sizes=(1.0,)), "1 sizes of parameters, of which there are 4"),
        (Probes(initial=(1.0,)), "1 sizes of the initial state, which has 2"),
    ):
        with pytest.raises(InputError, match=words):
            solve(prey(p), y0, [0.0, 1.0], probes=given)
    with pytest.raises(InputError, match="not negative"):
        Probes(sizes=(-1.0,))
    with pytest.raises(InputError, match="complex"):
        solve(lambda t, y: 1j * y, torch.ones(1, dtype=torch.complex128), [0.0, 1.0], probes=1)
    with pytest.raises(InputError, match=r"torch\.func"):
        torch.func.grad(lambda y: solve(prey(p), y, [0.0, 1.0], probes=1).y.sum())(y0)
    norm = torch.nn.BatchNorm1d(1, dtype=DOUBLE)
    with pytest.raises(InputError, match="batch norm"):
        solve(lambda t, y: norm(y), torch.randn(4, 1, dtype=DOUBLE), [0.0, 1.0], probes=1)
