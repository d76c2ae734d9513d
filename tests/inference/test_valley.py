"""Least squares along a bent valley, and where it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from physid.arrays import Array
from physid.inference.problem import Point
from physid.inference.search.geodesic_acceleration import GeodesicAcceleration, GeodesicState, promises
from physid.inference.search.levenberg_marquardt import StoppingRule, minimised

STEEP = 1e3  # of the walls
STOP = StoppingRule(ftol=1e-2, evaluations=400)


class Valley:
    """Residuals (1 - x, STEEP (y - x^2), more), and how often they were asked for. Source: Rosenbrock (1960)."""

    def __init__(self, more: Array | None = None) -> None:
        self.more, self.asked = np.zeros(20) if more is None else more, 0

    def __call__(self, z: Array) -> Point | None:
        self.asked += 1
        x, y = z
        if abs(x) > 5:
            return None
        residual = np.array([1 - x, STEEP * (y - x * x), *self.more])
        table = np.zeros((len(residual), 2))
        table[:2] = [[-1, 0], [-2 * STEEP * x, STEEP]]
        return Point(z, residual, table)

    def points(self, xs: Sequence[Array], numbers: Sequence[int]) -> list[Point | None]:
        return [self(x) for x in xs]

    def renewed(self, point: Point) -> Point:
        return point


def along(
    valley: Valley, enough: Callable[[Point], bool], stop: StoppingRule = STOP, start: tuple[float, float] = (-1.9, 2.0)
) -> GeodesicState:
    optimizer = GeodesicAcceleration(stop, enough)
    state = optimizer.init(valley, np.array(start))
    while not optimizer.done(state):
        state = optimizer.step(valley, state)
    return state


def test_a_bent_valley_is_walked_to_its_end_in_a_fraction_of_the_evaluations() -> None:
    bent, straight = Valley(), Valley()
    found = along(bent, lambda point: point.cost < 1e-20)
    start = straight(np.array([-1.9, 2.0]))
    assert start is not None
    other = minimised(straight, start, StoppingRule(ftol=1e-12, evaluations=2000))
    assert found.converged
    assert found.message == "the errors no longer matter beside the data"
    np.testing.assert_allclose(found.x, [1.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(other.x, [1.0, 1.0], atol=1e-9)
    assert bent.asked < 0.5 * straight.asked


def test_an_end_in_noise_is_one_and_a_limit_is_told() -> None:
    noise = np.random.default_rng(0).normal(size=40)
    found = along(Valley(noise), lambda _: False)
    assert found.converged
    assert found.message in ("the fit no longer improves", "no step would improve the fit")
    valley = Valley()
    short = along(valley, lambda _: False, StoppingRule(evaluations=10))
    assert (short.converged, short.message) == (False, "the limit of evaluations was reached")
    assert valley.asked <= 11


def test_noise_promises_nothing_and_what_a_model_can_explain_does() -> None:
    random = np.random.default_rng(1)
    told = 0
    for _ in range(400):
        table = random.normal(size=(100, 12)) * 10.0 ** random.uniform(-4, 4, size=12)
        noise = random.normal(size=100)
        told += promises(Point(np.zeros(12), noise, table))
        scaled = table / np.linalg.norm(table, axis=0)
        assert promises(Point(np.zeros(12), noise + 5 * scaled.sum(1), table))
    assert told <= 12  # 4 on average, at the level of .01
    assert not promises(Point(np.zeros(3), np.ones(2), np.eye(2, 3)))
    assert not promises(Point(np.zeros(2), np.ones(3), np.zeros((3, 2))))
    assert not promises(Point(np.zeros(2), np.zeros(3), np.ones((3, 2))))


@pytest.mark.parametrize("start", [(-1.9, 2.0), (3.0, -4.0), (0.0, 0.0)])
def test_every_accepted_point_is_better_than_the_one_before(start: tuple[float, float]) -> None:
    valley, costs = Valley(), []

    def enough(point: Point) -> bool:
        costs.append(point.cost)
        return point.cost < 1e-20

    found = along(valley, enough, start=start)
    assert found.converged
    assert found.costs[-1] == min(costs) < 1e-20
