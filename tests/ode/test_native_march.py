"""The compiled march beside the eager one: states and gradients on a given grid, statuses, sentences, batches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from variants import some

from physid.errors import InputError
from physid.machine import compiler_command
from physid.ode import ACA, METHODS, Fixed, Integrator, SolveError, Status, odeint, sensitivities, solve

pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")

ENGINES = ("native", "eager")
Field = Callable[[Tensor, Tensor], Tensor]


def spinning(k: Tensor) -> Field:
    """A nonlinear, time-dependent field on two numbers with a parameter [3]."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v + k[2] * torch.cos(t), -k[0] * torch.sin(x) - k[1] * v * t], -1)

    return field


def start(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Parameter [3] and state [2] that require gradients."""
    k = torch.tensor([1.3, 0.2, 0.4], dtype=dtype, requires_grad=True)
    return k, torch.tensor([0.7, -0.3], dtype=dtype, requires_grad=True)


def times(*values: float) -> Tensor:
    """Times that require gradients."""
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def both(t: Tensor, dtype: torch.dtype = torch.float64, **options: Any) -> list[list[Tensor]]:
    """States and gradients by parameter, state and times, by either engine."""
    found = []
    for engine in ENGINES:
        k, y0 = start(dtype)
        solution = solve(spinning(k), y0, t, engine=engine, **options)
        assert solution.engine == engine
        assert isinstance(solution.y, Tensor)
        weight = torch.linspace(-1, 1, solution.y.numel(), dtype=dtype).view_as(solution.y)
        found.append([solution.y.detach(), *torch.autograd.grad((weight * solution.y).sum(), [k, y0, t])])
    return found


def close(native: Tensor, eager: Tensor, tolerance: float) -> None:
    """Equal, relative to the largest component."""
    difference, size = (native - eager).detach().abs().max(), eager.detach().abs().max()
    assert float(difference) <= tolerance * max(1e-300, float(size))


@pytest.mark.parametrize("solver", METHODS)
def test_states_and_gradients_on_a_given_grid(solver: str) -> None:
    t = times(0.1, 0.1, 0.13, 0.4, 0.55, 0.9, 1.2)
    for native, eager in zip(*both(t, solver=solver, control=Fixed(0.07)), strict=True):
        close(native, eager, 1e-12)


@pytest.mark.parametrize("solver", METHODS)
def test_steps_onto_the_asked_times_move_with_them(solver: str) -> None:
    t = times(0.0, 0.1, 0.25, 0.25, 0.4)
    for native, eager in zip(*both(t, solver=solver, control="fixed"), strict=True):
        close(native, eager, 1e-12)


@pytest.mark.parametrize(
    ("solver", "control", "longest"),  # the last of those of low order
    some(
        product(
            ["heun_euler", "fehlberg2", "bosh3", "dopri5", "tsit5", "dopri8"], ["i", "paper", "pi", "pid"], [2.0, 9.0]
        ),
        *(("heun_euler", "i", 2.0), ("fehlberg2", "paper", 2.0), ("bosh3", "pi", 2.0)),
        *(("dopri5", "pid", 2.0), ("tsit5", "paper", 2.0), ("dopri8", "pi", 2.0)),
    ),
)
def test_controllers_take_the_same_decisions(solver: str, control: str, longest: float) -> None:
    grids, counts = [], []
    for engine in ENGINES:
        k, y0 = start()
        t = torch.linspace(0, 9.0 if METHODS[solver].order > 3 else longest, 5, dtype=torch.float64)
        with torch.no_grad():
            solution = solve(spinning(4 * k), y0, t, solver=solver, control=control, rtol=1e-5, engine=engine)
        grids.append(solution.grid)
        counts.append((solution.statistics.accepted, solution.statistics.rejected, solution.statistics.evaluations))
    assert counts[0] == counts[1]
    assert torch.allclose(grids[0], grids[1], rtol=0, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"exact": True},
        {"first_step": 0.01},
        {"max_step": 0.05},
        {"exact": True, "solver": "dopri8", "rtol": 1e-9},
        {"rtol": torch.tensor([1e-5, 1e-8]), "atol": torch.tensor([1e-4, 1e-9])},
    ],
    ids=["exact", "first step", "largest step", "exact dopri8", "tolerances by component"],
)
def test_options_act_alike(options: dict[str, Any]) -> None:
    for native, eager in zip(*both(times(0.0, 0.4, 1.1, 2.5), **options), strict=True):
        close(native, eager, 1e-9)


def test_time_runs_backwards_stands_still_and_repeats() -> None:
    for t in (times(2.0, 1.5, 1.5, 0.2), times(0.3, 0.3), times(0.3), times(0.0, 0.0, 1.0, 1.0)):
        for native, eager in zip(*both(t), strict=True):
            close(native, eager, 1e-10)


def test_single_precision() -> None:
    native, eager = both(times(0.1, 0.4, 1.1, 2.5), torch.float32, control=Fixed(0.05), solver="tsit5")
    assert native[0].dtype == torch.float32
    for ours, theirs in zip(native, eager, strict=True):
        close(ours, theirs, 2e-6)


def test_tuple_states_are_measured_part_by_part() -> None:
    found = []
    for engine in ENGINES:
        k, y0 = start()

        def field(t: Tensor, state: tuple[Tensor, Tensor], k: Tensor = k) -> tuple[Tensor, Tensor]:
            slow, fast = state
            return -k[1] * slow, torch.stack([fast[1], -40 * fast[0]]) + slow[0]

        parts = (torch.ones(1, dtype=torch.float64), y0)
        t = torch.linspace(0, 3, 7, dtype=torch.float64)
        solution = solve(field, parts, t, engine=engine, rtol=torch.tensor([1e-3, 1e-6]))
        gradient = torch.autograd.grad(solution.y[1].sum() + solution.y[0].sum(), [k, y0])
        found.append([solution.y[0], solution.y[1], *gradient])
        assert solution.engine == engine
    for native, eager in zip(*found, strict=True):
        close(native, eager, 1e-10)


@pytest.mark.parametrize("solver", ["rk4", "dopri5", "dopri8"])
def test_sensitivities_agree_and_give_the_gradient(solver: str) -> None:
    t = torch.tensor([0.0, 0.3, 0.31, 1.0, 1.0], dtype=torch.float64)
    found = []
    for engine in ENGINES:
        k, y0 = start()
        integrator = Integrator(solver, control=Fixed(0.08), engine=engine)
        by = sensitivities(spinning(k), y0, t, params=[k], integrator=integrator)
        assert by.solution.engine == engine
        found.append([by.y0, *by.params])
        residual = torch.linspace(-1, 2, 10, dtype=torch.float64).view(5, 2)
        y = integrator.solve(spinning(k), y0, t).y
        assert isinstance(y, Tensor)
        slope = torch.autograd.grad(y, [k, y0], residual)
        close(torch.einsum("tn,tnq->q", residual, by.params[0]), slope[0], 1e-12)
        close(torch.einsum("tn,tnm->m", residual, by.y0), slope[1], 1e-12)
    for native, eager in zip(*found, strict=True):
        close(native, eager, 1e-12)


def test_gradient_forward_equals_aca() -> None:
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    found = []
    for gradient in ("aca", "forward"):
        k, y0 = start()
        solution = solve(spinning(k), y0, t, engine="native", gradient=gradient)
        assert isinstance(solution.y, Tensor)
        found.append(torch.autograd.grad(solution.y.square().sum(), [k, y0]))
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, 1e-12)


def test_second_derivatives_replay() -> None:
    second = []
    for engine in ENGINES:
        k, y0 = start()
        t = torch.linspace(0, 1, 4, dtype=torch.float64)
        solution = solve(spinning(k), y0, t, engine=engine, control=Fixed(0.1))
        assert isinstance(solution.y, Tensor)
        first = torch.autograd.grad(solution.y.square().sum(), [k, y0], create_graph=True)
        second.append(torch.autograd.grad(first[0].sum() + first[1].square().sum(), [k, y0]))
    for native, eager in zip(*second, strict=True):
        close(native, eager, 1e-11)


@pytest.mark.parametrize(
    ("solver", "control"),
    some(product(["heun_euler", "dopri5", "dopri8"], ["i", "pid"]), ("dopri5", "pid"), ("dopri8", "i")),
)
def test_gradients_that_follow_the_step_sizes(solver: str, control: str) -> None:
    options: dict[str, Any] = {"solver": solver, "control": control, "rtol": 1e-4, "atol": 1e-5}
    calm = times(3.0, 1.0, 0.5) if solver != "dopri8" else times(1.0, 0.8, 0.5)
    aware = ACA(step_aware=True)
    native, eager = both(calm, gradient=aware, **options)
    for ours, theirs in zip(native, eager, strict=True):
        close(ours, theirs, 1e-9)
    k, y0 = start()
    naive = solve(spinning(k), y0, calm, engine="eager", gradient="naive", **options)
    assert naive.statistics.rejected == 0
    assert isinstance(naive.y, Tensor)
    weight = torch.linspace(-1, 1, naive.y.numel(), dtype=torch.float64).view_as(naive.y)
    slopes = torch.autograd.grad((weight * naive.y).sum(), [k, y0, calm])
    frozen = both(calm, **options)[1][1:]
    for ours, theirs, still in zip(native[1:], slopes, frozen, strict=True):
        close(ours, theirs, 1e-10)
        assert not torch.equal(still, theirs)


def test_a_step_aware_gradient_through_rejected_attempts_is_left_to_torch() -> None:
    k = torch.tensor([3.0, 0.2, 0.4], dtype=torch.float64)
    t = times(0.0, 2.0, 6.0)
    found = []
    for engine in ("auto", "eager"):
        damping = k.clone().requires_grad_()
        y0 = torch.tensor([2.9, -0.3], dtype=torch.float64, requires_grad=True)
        options: dict[str, Any] = {"first_step": 0.9, "rtol": 1e-5, "gradient": ACA(step_aware=True)}
        solution = solve(spinning(damping), y0, t, engine=engine, **options)
        assert solution.statistics.rejected > 0
        assert solution.engine == "eager"
        assert isinstance(solution.y, Tensor)
        found.append(torch.autograd.grad(solution.y[-1].sum(), [damping, y0]))
    for one, other in zip(*found, strict=True):
        close(one, other, 1e-12)
    with pytest.raises(InputError, match="step-aware gradient of a solve with rejected attempts"):
        solve(spinning(damping), y0, t, engine="native", **options)


FAILURES: dict[str, tuple[Field, dict[str, Any]]] = {
    "not a number": (lambda t, y: torch.sqrt(0.5 - t) * y, {}),
    "not a number at the start": (lambda t, y: torch.log(t) * y, {}),
    "grows without bound": (lambda t, y: y * y, {"max_steps": 10_000}),
    "fixed steps that explode": (lambda t, y: torch.exp(y * y), {"solver": "rk4", "control": Fixed(0.2)}),
    "too many steps": (lambda t, y: torch.cos(40 * t) + 0 * y, {"max_steps": 5}),
    "stiff": (lambda t, y: -1e6 * (y - torch.cos(t)), {"max_steps": 700}),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_have_the_same_status_and_sentence(name: str) -> None:
    field, options = FAILURES[name]
    t = torch.tensor([0.0, 0.2, 1.4], dtype=torch.float64)
    y0 = torch.ones(2, dtype=torch.float64)
    native, eager = (solve(field, y0, t, engine=engine, throw=False, **options) for engine in ENGINES)
    assert native.engine == "native"
    assert native.status is eager.status
    assert native.message[:50] == eager.message[:50]
    assert torch.equal(torch.isnan(native.y), torch.isnan(eager.y))  # type: ignore[arg-type]
    with pytest.raises(SolveError, match=r"near t|t ="):
        solve(field, y0, t, engine="native", **options)


class Landing:
    """A tame f onto whose jumps steps land: what a step wants to be is much longer than what it is."""

    switches = 0.01 * torch.arange(1, 100, dtype=torch.float64)

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.rate * (y - 1.0)


def test_only_what_is_stiff_is_called_so() -> None:
    t, near = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.full((2,), 1.0 + 1e-7, dtype=torch.float64)
    for engine in ENGINES:
        tame = solve(Landing(0.5), near, t, engine=engine, throw=False, max_steps=20)
        assert tame.status is Status.MAX_STEPS
        assert "stiff" not in tame.message
        stiff = solve(Landing(1e5), 2 * near, t, engine=engine, throw=False, max_steps=700)
        assert stiff.status is Status.MAX_STEPS
        assert "f looks stiff" in stiff.message


def test_the_time_limit_ends_a_march() -> None:
    t = torch.tensor([0.0, 1e9], dtype=torch.float64)
    y0 = torch.ones(2, dtype=torch.float64)
    solution = solve(
        lambda t, y: torch.cos(y * 50), y0, t, engine="native", time_limit=0.05, max_steps=10**9, throw=False
    )
    assert solution.status is Status.TIME_LIMIT


def test_what_stays_eager_says_why() -> None:
    k, y0 = start()
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    cases: list[tuple[str, Callable[[str], Any]]] = [
        ("naive", lambda engine: solve(spinning(k), y0, t, gradient="naive", engine=engine)),
        ("adjoint", lambda engine: solve(spinning(k), y0, t, gradient="adjoint", engine=engine)),
        ("complex", lambda engine: solve(lambda t, y: 1j * y, y0.detach().to(torch.complex128), t, engine=engine)),
    ]
    for part, run in cases:
        solution = run("auto")
        assert solution.engine == "eager"
        assert part in solution.engine_note
        assert "\n" not in solution.engine_note
        with pytest.raises(InputError, match=part):
            run("native")
    norm = {"norm": lambda e: e.abs().max()}
    assert torch.isfinite(odeint(spinning(k), y0, t, options=norm)).all()
    with pytest.raises(InputError, match="norm"):
        odeint(spinning(k), y0, t, options=norm, engine="native")
    with pytest.raises(InputError, match="eagle"):
        solve(spinning(k), y0, t, engine="eagle")
