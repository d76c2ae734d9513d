"""What the engine promises of a solve: times, dense output, failures, limits, evaluations, events."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor

from physid.errors import InputError
from physid.ode import CONTROLS, METHODS, Fixed, Solution, SolveError, Status, solve

EVERY = pytest.mark.parametrize("name", METHODS)
ADAPTIVE = [name for name, tableau in METHODS.items() if tableau.adaptive]
Function = Callable[[Tensor, Tensor], Tensor]


def vanderpol(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[1], (0.15 - y[0] ** 2) * y[1] - y[0]])


def start(*values: float) -> Tensor:
    return torch.tensor(values or (2.0, 0.0), dtype=torch.float64)


def pendulum(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[1], -torch.sin(y[0]) + 0.1 * torch.cos(t)])


def run(name: str, f: Function, y0: Tensor, t: Any, tolerance: float = 1e-6, **options: Any) -> Any:
    control = options.pop("control", None if METHODS[name].adaptive else Fixed(0.05))
    return solve(f, y0, t, solver=name, rtol=tolerance, atol=tolerance, control=control, **options)


@EVERY
@pytest.mark.parametrize("reverse", [False, True])
def test_f_is_evaluated_inside_the_interval_only(name: str, reverse: bool) -> None:
    asked: list[float] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        asked.append(float(t))
        return pendulum(t, y)

    t = torch.tensor([0.1, 0.2, 1.0, 1.7, 2.0], dtype=torch.float64)
    run(name, f, start(), t.flip(0) if reverse else t)
    assert len(asked) >= METHODS[name].stages
    assert min(asked) >= 0.1
    assert max(asked) <= 2.0
    assert (2.0 if reverse else 0.1) in asked


@EVERY
def test_the_result_does_not_depend_on_the_outputs(name: str) -> None:
    few = torch.tensor([0.0, 1.3, 4.0], dtype=torch.float64)
    many = torch.unique(torch.cat([torch.linspace(0, 4, 301, dtype=torch.float64), few]))
    sparse, dense = run(name, vanderpol, start(), few), run(name, vanderpol, start(), many)
    assert torch.equal(sparse.grid, dense.grid)
    assert torch.equal(sparse.y[-1], dense.y[-1])
    there = int(torch.searchsorted(many, few[1]))
    assert float((sparse.y[1] - dense.y[there]).abs().max()) < 1e-14
    interior = len(METHODS[name].extra_c) * dense.statistics.accepted
    assert dense.statistics.evaluations - sparse.statistics.evaluations <= interior


@pytest.mark.parametrize("name", ADAPTIVE)
def test_states_agree_with_scipy(name: str) -> None:
    t = np.linspace(0.0, 10.0, 41)
    truth = solve_ivp(
        lambda t, y: [y[1], (0.15 - y[0] ** 2) * y[1] - y[0]], (0, 10), [2.0, 0.0], "DOP853", t, rtol=1e-13, atol=1e-13
    )
    tolerance = 1e-6 if METHODS[name].order < 4 else 1e-9
    found = run(name, vanderpol, start(), torch.tensor(t), tolerance)
    assert (
        float((found.y - torch.tensor(truth.y.T)).abs().max()) < (5e3 if METHODS[name].order < 3 else 100) * tolerance
    )


@EVERY
def test_there_and_back_repeated_and_single_times(name: str) -> None:
    there = run(
        name, vanderpol, start(), [0.0, 0.5, 0.5, 1.5], 1e-7, control=None if METHODS[name].adaptive else Fixed(1e-3)
    )
    assert torch.equal(there.y[1], there.y[2])
    back = run(
        name, vanderpol, there.y[-1], [1.5, 0.5, 0.0], 1e-7, control=None if METHODS[name].adaptive else Fixed(1e-3)
    )
    error = {1: 5e-3, 2: 1e-4}.get(METHODS[name].order, 1e-5)
    assert float((back.y[-1] - start()).abs().max()) < error
    alone = run(name, vanderpol, start(), [0.7])
    assert torch.equal(alone.y, start()[None])
    still = run(name, vanderpol, start(), [0.7, 0.7])
    assert torch.equal(still.y, start().expand(2, 2))


def test_the_last_step_is_checked_for_its_error() -> None:
    def kick(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t > 0.99, 1e4 * torch.sin(400 * t), 0.0).expand(1)

    t = [0.0, 1.0]
    found = solve(kick, start(0.0), t, solver="dopri5", rtol=1e-7, atol=1e-7, first_step=0.9)
    truth = 1e4 * (math.cos(400 * 0.99) - math.cos(400.0)) / 400
    assert float(found.y[-1][0]) == pytest.approx(truth, abs=1e-3)
    assert found.statistics.rejected > 0


@pytest.mark.parametrize("name", [name for name in ADAPTIVE if METHODS[name].fsal])
@pytest.mark.parametrize("control", CONTROLS)
def test_evaluations_are_those_of_first_same_as_last(name: str, control: str) -> None:
    found = run(name, vanderpol, start(), [0.0, 3.0], 1e-5, control=control)
    statistics = found.statistics
    attempts = statistics.accepted + statistics.rejected
    first = 2  # f(t0, y0), and one of the guess of the first step
    assert statistics.evaluations == first + attempts * (METHODS[name].stages - 1)
    backward = found.statistics.backward_evaluations
    assert backward == 0


def test_time_stays_exact_for_single_precision_states() -> None:
    seen: list[torch.dtype] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.append(t.dtype)
        return torch.ones_like(y)

    origin = 1e6
    times = torch.tensor([origin, origin + 1e-3], dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"f sees t in steps of 0\.12"):
        found = solve(f, torch.zeros(1), times, solver="rk4", control=Fixed(1e-4))
    assert float(found.y[-1][0]) == pytest.approx(1e-3, rel=1e-5)
    assert isinstance(found.grid, Tensor)
    assert found.grid.dtype == torch.float64
    assert len(found.grid) == 11


NAN = float("nan")
FAILURES: list[tuple[str, Function, dict[str, Any], Status, str]] = [
    ("at the start", lambda t, y: y * torch.tensor([1.0, NAN]), {}, Status.NOT_A_NUMBER, "component 1 near t = 0"),
    ("later", lambda t, y: torch.where(t < 0.5, y, NAN), {}, Status.NOT_A_NUMBER, "component 0, 1 near t = 0."),
    ("square", lambda t, y: y**2, {}, Status.BLOW_UP, "grows without bound near t = 0.5"),
    (
        "rough",
        lambda t, y: torch.sign(torch.sin(1e9 * t)) * 1e6 + 0 * y,
        {"max_steps": 200},
        Status.MAX_STEPS,
        "200 steps",
    ),
    ("steps", lambda t, y: torch.cos(50 * t) + 0 * y, {"max_steps": 20}, Status.MAX_STEPS, "raise max_steps"),
    (
        "slow",
        lambda t, y: torch.cos(5e6 * t) + 0 * y,
        {"time_limit": 1e-3, "max_steps": 10**9},
        Status.TIME_LIMIT,
        "time limit reached only",
    ),
]


@pytest.mark.parametrize(
    ("f", "options", "status", "words"), [case[1:] for case in FAILURES], ids=[c[0] for c in FAILURES]
)
def test_every_failure_is_a_status_with_a_sentence(
    f: Function, options: dict[str, Any], status: Status, words: str
) -> None:
    t = torch.linspace(0, 3, 31, dtype=torch.float64)
    found = solve(f, start(2.0, 2.0), t, rtol=1e-8, atol=1e-8, throw=False, **options)
    assert found.status is status
    assert words in found.message
    assert not found.ok
    reached = torch.isfinite(found.y).all(1)  # type: ignore[arg-type]
    assert bool(reached[0])
    assert not bool(reached[-1])
    assert int(reached.sum()) == int(reached.long().cumprod(0).sum()), "states up to where the solve came, then none"
    with pytest.raises(SolveError) as caught:
        solve(f, start(2.0, 2.0), t, rtol=1e-8, atol=1e-8, **options)
    assert isinstance(caught.value.solution, Solution)


def test_stiffness_is_suspected_and_the_remedy_named() -> None:
    def stiff(t: Tensor, y: Tensor) -> Tensor:
        return -2000.0 * (y - torch.cos(t))

    found = solve(stiff, start(0.0), [0.0, 10.0], rtol=1e-5, atol=1e-5)
    assert found.ok
    assert found.statistics.stiff
    assert "Radau" in found.message
    with pytest.raises(SolveError, match="looks stiff"):
        solve(stiff, start(0.0), [0.0, 100.0], rtol=1e-5, atol=1e-5, max_steps=5000)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"f": lambda t, y: y[:1]}, "f returned a tensor of shape (1,)"),
    ({"f": lambda t, y: y.float()}, "dtype torch.float32"),
    ({"f": lambda t, y: None}, "f returned a NoneType"),
    ({"f": 3}, "f is int"),
    ({"t": [0.0, 1.0, 0.5]}, "entry 2 turns back from 1 to 0.5"),
    ({"t": [0.0, float("inf")]}, "finite"),
    ({"t": []}, "t"),
    ({"rtol": -1e-3}, "rtol=-0.001: a tolerance"),
    ({"atol": float("nan")}, "atol=nan"),
    ({"solver": "dopri6"}, "Did you mean 'dopri"),
    ({"control": "pic"}, "unknown step-size controller 'pic'"),
    ({"gradient": "acca"}, "Did you mean 'aca'"),
    ({"engine": "eagle"}, "Did you mean 'eager'"),
    ({"y0": torch.ones(2, dtype=torch.long)}, "use y0.double()"),
    ({"y0": torch.ones(0)}, "no elements"),
    ({"max_step": -1.0}, "max_step=-1.0"),
    ({"first_step": 0.0}, "first_step=0.0"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_arguments_that_cannot_work_are_refused(change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"f": vanderpol, "y0": start(), "t": [0.0, 1.0]} | change
    with pytest.raises(InputError) as caught:
        solve(arguments.pop("f"), arguments.pop("y0"), arguments.pop("t"), **arguments)
    assert words in str(caught.value)


@given(
    times=st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    reverse=st.booleans(),
    tolerance=st.sampled_from([1e-4, 1e-8]),
    name=st.sampled_from(["bosh3", "dopri5", "tsit5", "dopri8"]),
)
def test_any_ordered_times_give_the_exponential(times: list[float], reverse: bool, tolerance: float, name: str) -> None:
    t = torch.tensor(sorted(times, reverse=reverse), dtype=torch.float64)
    found = solve(lambda t, y: -0.7 * y, start(1.0, -2.0), t, solver=name, rtol=tolerance, atol=tolerance)
    truth = start(1.0, -2.0) * torch.exp(-0.7 * (t - t[0]))[:, None]
    assert found.ok
    assert float((found.y - truth).abs().max()) < 200 * tolerance * float(truth.abs().max())  # type: ignore[operator]


def test_an_event_ends_the_solve_and_its_time_has_a_gradient() -> None:
    g = torch.tensor(9.81, dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([10.0, 1.0], dtype=torch.float64, requires_grad=True)
    found = solve(
        lambda t, y: torch.stack([y[1], -g]),
        y0,
        torch.linspace(0, 3, 31).double(),
        rtol=1e-9,
        atol=1e-9,
        event_fn=lambda t, y: y[0],
    )
    assert found.status is Status.EVENT
    assert found.event_time is not None
    exact = (1 + math.sqrt(1 + 2 * 9.81 * 10)) / 9.81
    assert float(found.event_time.detach()) == pytest.approx(exact, rel=1e-9)
    slopes = torch.autograd.grad(found.event_time, [y0, g])
    root = math.sqrt(1 + 2 * 9.81 * 10)
    by_g = -exact / 9.81 + 10 / (9.81 * root)
    assert [float(x) for x in slopes[0]] == pytest.approx([1 / root, exact / root], rel=1e-6)
    assert float(slopes[1]) == pytest.approx(by_g, rel=1e-6)
