"""Least squares along a bent valley, and where it ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from physid.arrays import Array
from physid.inference.problem import Point
from physid.inference.search.geodesic_acceleration import along, promises
from physid.inference.search.trust_region import Found, Stop, least

STEEP = 1e3  # of the walls
STOP = Stop(ftol=1e-2, evaluations=400)


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


def walked(valley: Valley, how: Callable[[Valley, Point], Found]) -> Found:
    start = valley(np.array([-1.9, 2.0]))
    assert start is not None
    return how(valley, start)


def test_a_bent_valley_is_walked_to_its_end_in_a_fraction_of_the_evaluations() -> None:
    bent, straight = Valley(), Valley()
    found = walked(bent, lambda valley, start: along(valley, start, STOP, lambda point: point.cost < 1e-20))
    other = walked(straight, lambda valley, start: least(valley, start, Stop(ftol=1e-12, evaluations=2000)))
    assert found.converged
    assert found.message == "the errors no longer matter beside the data"
    np.testing.assert_allclose(found.point.x, [1.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(other.point.x, [1.0, 1.0], atol=1e-9)
    assert bent.asked < 0.5 * straight.asked


def test_an_end_in_noise_is_one_and_a_limit_is_told() -> None:
    noise = np.random.default_rng(0).normal(size=40)
    found = walked(Valley(noise), lambda valley, start: along(valley, start, STOP, lambda _: False))
    assert found.converged
    assert found.message in ("the fit no longer improves", "no step would improve the fit")
    valley = Valley()
    short = walked(valley, lambda _, start: along(valley, start, Stop(evaluations=10), lambda _: False))
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

    first = valley(np.array(start))
    assert first is not None
    found = along(valley, first, STOP, enough)
    assert found.converged
    assert found.point.cost == min(costs) < 1e-20
