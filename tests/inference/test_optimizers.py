"""Optimizers: ours beside SciPy's, and states that go on as if nothing had been."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares
from variants import some

from physid import fit
from physid.arrays import Array
from physid.datasets import load
from physid.formats import read_archive
from physid.inference.assemble import assemble
from physid.inference.fit_options import FitOptions
from physid.inference.options import resolve
from physid.inference.problem import Point
from physid.inference.search import multiple_shooting, strategies
from physid.inference.search.first_order import AdamState
from physid.inference.search.levenberg_marquardt import StoppingRule, minimised
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import FitObjective
from physid.inference.search.optimality import Linearised
from physid.inference.search.optimise import strategy_of
from physid.inference.search.optimizer import Optimum, StrategyState, search
from physid.models import Pendulum
from physid.runs import writer
from physid.runs.codec import decode, encode

Residual = Callable[[Array], tuple[Array, Array]]
T = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
V = np.array([10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78])


def misra1a(b: Array) -> tuple[Array, Array]:
    """NIST's Misra1a, monomolecular adsorption, whose certified values are 2.3894212918E+02 and 5.5015643181E-04."""
    fall = np.exp(-b[1] * 1e-4 * T)
    return b[0] * (1 - fall) - V, np.column_stack([1 - fall, b[0] * 1e-4 * T * fall])


def rosenbrock(x: Array) -> tuple[Array, Array]:
    """Rosenbrock (1960), whose minimum is at (1, 1)."""
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])


def freudenstein(x: Array) -> tuple[Array, Array]:
    """Freudenstein and Roth (1963), with a minimum at (5, 4) and a local one."""
    a, b = x
    residual = np.array([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])
    return residual, np.array([[1.0, 10 * b - 3 * b**2 - 2], [1.0, 3 * b**2 + 2 * b - 14]])


def kowalik(x: Array) -> tuple[Array, Array]:
    """Kowalik and Osborne (1968), four unknowns of which two are hardly determined."""
    y = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    u = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    up, down = u * u + u * x[1], u * u + u * x[2] + x[3]
    slope = [up / down, x[0] * u / down, -x[0] * up * u / down**2, -x[0] * up / down**2]
    return x[0] * up / down - y, np.column_stack(slope)


def value(function: Residual, start: Array, step: Array) -> Array:
    return function(start + step)[0]


def slope(function: Residual, start: Array, step: Array) -> Array:
    return function(start + step)[1]


class Curve:
    """Residuals of a function, and how often they were asked for."""

    def __init__(self, function: Residual) -> None:
        self.function, self.asked = function, 0

    def points(self, xs: Sequence[Array], numbers: Sequence[int]) -> list[Point | None]:
        self.asked += len(xs)
        return [Point(x, *self.function(x)) for x in xs]

    def renewed(self, point: Point) -> Point:
        return point


CURVES: list[tuple[Residual, list[float]]] = [
    (misra1a, [500.0, 1.0]),
    (misra1a, [250.0, 5.0]),
    (rosenbrock, [-1.2, 1.0]),
    (freudenstein, [15.0, 7.0]),
    (kowalik, [0.25, 0.39, 0.415, 0.39]),
]


def test_levenberg_marquardt_is_at_the_optima_of_scipy_in_no_more_evaluations_in_all() -> None:
    ours, theirs = 0, 0
    for function, start in CURVES:
        x, curve = np.array(start), Curve(function)
        (first,) = curve.points([x], [0])
        assert first is not None
        found = minimised(curve, first, StoppingRule(floor=1e-9, evaluations=500))
        ask = (
            partial(value, function, x),
            np.zeros_like(x),
            partial(slope, function, x),
        )  # as fits had it: from the start
        trust = least_squares(*ask, x_scale="jac", ftol=1e-12, xtol=1e-12, gtol=None)
        assert found.status == "converged"
        assert found.costs[-1] <= trust.cost * (1 + 1e-9) + 1e-18
        np.testing.assert_allclose(found.x, x + trust.x, rtol=1e-4)
        ours, theirs = ours + curve.asked, theirs + trust.nfev
    assert ours <= theirs


class Edge(Curve):
    """A curve that cannot be solved where x[1] > 10."""

    def points(self, xs: Sequence[Array], numbers: Sequence[int]) -> list[Point | None]:
        self.asked += len(xs)
        return [None if x[1] > 10.0 else Point(x, *self.function(x)) for x in xs]


def faint(x: Array) -> tuple[Array, Array]:
    """x[1] is a logarithm of what it stands for, as raw numbers of positive unknowns: at -40 it has next to no say."""
    e = np.exp(x[1])
    return np.array([x[0] + 1.0, e - 2.0]), np.array([[1.0, 0.0], [0.0, e]])


def test_an_unknown_that_has_lost_its_say_is_found_again() -> None:
    curve = Edge(faint)
    (first,) = curve.points([np.array([0.9, -40.0])], [0])
    assert first is not None
    found = minimised(curve, first, StoppingRule(evaluations=300))
    assert found.status == "converged"
    np.testing.assert_allclose(found.x, [-1.0, np.log(2.0)], atol=1e-6)


def test_steps_are_as_long_as_the_radius_or_those_of_gauss_and_newton() -> None:
    random = np.random.default_rng(4)
    for columns in (3, 90):  # by singular values, and by normal equations
        jacobian, residual = random.standard_normal((200, columns)), random.standard_normal(200)
        jacobian[:, 1] = jacobian[:, 0] + 1e-3 * jacobian[:, 2]
        linear = Linearised(Point(np.zeros(columns), residual, jacobian), np.ones(columns))
        newton = -np.linalg.lstsq(jacobian, residual)[0]
        whole, gain, damping = linear.step(1e9)
        np.testing.assert_allclose(whole, newton, rtol=1e-6, atol=1e-9)
        assert damping == 0.0
        assert gain == pytest.approx(0.5 * (residual @ residual - ((residual + jacobian @ newton) ** 2).sum()))
        assert linear.removable == pytest.approx(float(np.linalg.norm(jacobian @ newton)))
        for part in (0.5, 1e-2, 1e-6):
            radius = part * float(np.linalg.norm(newton))
            step, gain, damping = linear.step(radius, damping)
            assert 0.89 * radius < np.linalg.norm(step) <= radius * (1 + 1e-12)
            left = residual + jacobian @ step
            assert gain == pytest.approx(0.5 * (residual @ residual - left @ left), rel=1e-6)
            direction = -np.linalg.solve(jacobian.T @ jacobian + damping * np.eye(columns), jacobian.T @ residual)
            np.testing.assert_allclose(step / np.linalg.norm(step), direction / np.linalg.norm(direction), atol=1e-6)
    nothing = Linearised(Point(np.zeros(2), np.ones(3), np.zeros((3, 2))), np.ones(2))
    assert (nothing.removable, nothing.step(1.0)[1]) == (0.0, 0.0)


def posed(options: Mapping[str, Any]) -> tuple[FitObjective, Callable[[FitObjective], Optimum]]:
    """The objective of a fit of a far-off pendulum, and what searches its optimum."""
    data = load("pendulum", points=24, noise=0.05)
    plan = resolve(FitOptions(**options))
    problem = assemble(Pendulum(length=1.6, friction=0.4), [data], plan)
    plan = replace(plan, integrator=problem.integrator)
    objective = FitObjective(problem, plan, Monitor())
    start = problem.vector.get()
    return objective, lambda fit: search(strategy_of(problem, plan), fit, start)


ALWAYS: tuple[dict[str, Any], ...] = {}, {"strategy": "grow"}, {"noise": "normal"}, {"optimizer": "adam", "epochs": 12}
PLANS: list[dict[str, Any]] = [
    {},
    {"strategy": "full"},
    {"strategy": "grow"},
    {"strategy": "match"},
    {"noise": "normal"},
    {"starts": 3, "seed": 1},
    {"optimizer": "adam", "epochs": 12},
]


@pytest.mark.parametrize("options", some(PLANS, *ALWAYS), ids=str)
def test_a_state_is_data_from_which_a_search_goes_on_to_the_same_end(options: dict[str, Any]) -> None:
    """Cut off after half of its steps; the state is what JSON says of it."""
    objective, run = posed(options)
    states: list[tuple[str, Array | None, float]] = []

    def keep(monitor: Monitor) -> None:
        states.append((json.dumps(encode(monitor.state)), monitor.best, monitor.lowest))

    objective.monitor.keep = keep
    whole = run(objective)
    assert whole.status in ("converged", "not converged")
    assert len(states) > 3
    for text, best, lowest in (states[len(states) // 2], states[-2]):
        again, go_on = posed(options)
        again.monitor.state, again.monitor.best, again.monitor.lowest = decode(json.loads(text)), best, lowest
        found = go_on(again)
        assert (found.status, found.message) == (whole.status, whole.message)
        np.testing.assert_allclose(found.x, whole.x, rtol=1e-9, atol=1e-12)
        assert found.starts == whole.starts
        assert len(again.monitor.history) <= len(objective.monitor.history) + 6


def test_checkpoints_hold_what_adam_needs() -> None:
    monitor, x = Monitor(), np.array([1.0, 2.0])
    monitor.begin(x)
    monitor.saw("adam", np.array([1.0, 3.0]), 0.1 + 0.2)
    monitor.saw("adam", np.array([1.0, 4.0]), np.inf)
    adam = AdamState(x, x, np.array([0.1, 1e-300]), x, 0.1, epoch=3)
    monitor.hold(StrategyState(x, running=adam, stage="adam"))
    again = Monitor()
    data = writer.checkpoint(monitor, "abc")
    assert writer.recall(again, read_archive(data), "abc") == 0
    assert again.history == monitor.history
    assert again.stage == "adam"
    assert again.state.running.epoch == 3
    assert again.state.running.first.tolist() == [0.1, 1e-300]
    assert again.best is not None
    assert again.best.tolist() == [1.0, 3.0]
    assert again.lowest == monitor.lowest
    with pytest.raises(ValueError, match="belongs to another fit"):
        writer.recall(again, read_archive(data), "abd")


def phases(length: float) -> tuple[set[str], Array]:
    """The phases of a fit of a pendulum that begins at a length, and where it ended."""
    found = fit(Pendulum(length=length, friction=0.4), load("pendulum", points=24, noise=0.05))
    assert found.status == "converged"
    return {row["phase"].partition(",")[0] for row in found.history}, found.x


def test_segments_that_cost_too_much_are_tried_where_the_full_horizon_explains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fair, optimum = phases(0.8)
    assert fair == {"full", "segments"}
    monkeypatch.setattr(multiple_shooting, "COLUMNS", 0)
    once, x = phases(0.8)
    assert once == {"full"}
    np.testing.assert_allclose(x, optimum, rtol=1e-6)
    monkeypatch.setattr(strategies, "FAIR", 0.0)  # nothing is explained then
    after, x = phases(0.8)
    assert after == {"full", "segments"}
    np.testing.assert_allclose(x, optimum, rtol=1e-6)
