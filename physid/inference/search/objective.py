"""Objectives of a search: FitObjective, what a fit makes small, and PointObjective, residuals with their Jacobian.

Both work in the transformed space: x [Q] is unbounded, and every x is one value of each unknown inside its domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.options import FitPlan
from physid.inference.problem import Point, Problem
from physid.inference.search.monitor import Monitor
from physid.inference.search.start_points import box


class Solvable(Protocol):
    """A least-squares problem at several x [Q], solved as one batch; None where a solve fails."""

    def many(self, xs: Sequence[Array], /) -> list[Point | None]:
        """The problem at every x."""

    def limited(self, seconds: float | None) -> None:
        """Let no solve take longer than `seconds` of wall clock."""


class PointObjective:
    """Residuals of a problem and their Jacobian at any x, every evaluation told to the monitor as one of `phase`.

    `measure` is the cost for the monitor, half the sum of squares by default; `width` is the number of leading
    elements of x that are unknowns of the fit. With `renew`, estimated noise is renewed at every accepted point.
    """

    def __init__(
        self,
        problem: Solvable,
        monitor: Monitor,
        phase: str,
        *,
        measure: Callable[[Point], float] | None = None,
        width: int | None = None,
        renew: Callable[[Point], Point] | None = None,
    ) -> None:
        self.problem, self.monitor, self.phase = problem, monitor, phase
        self.measure, self.width, self.renew = measure, width, renew

    def __call__(self, x: Array) -> Point | None:
        """The point at `x`; None where the solve fails."""
        return self.points([x], [0])[0]

    def points(self, xs: Sequence[Array], numbers: Sequence[int]) -> list[Point | None]:
        """The points of the starts `numbers` at `xs`, as one batch; None where a solve fails."""
        self.problem.limited(self.monitor.left)
        found = self.problem.many(xs)
        for number, x, point in zip(numbers, xs, found, strict=True):
            cost = math.inf if point is None else point.cost if self.measure is None else self.measure(point)
            self.saw(number, x[: self.width], cost)
        return found

    def saw(self, number: int, x: Array, cost: float) -> None:
        """One evaluation of the start `number`."""
        self.monitor.saw(self.phase, x, cost)

    def renewed(self, point: Point) -> Point:
        """The accepted point, with the noise that is estimated there."""
        return point if self.renew is None else self.renew(point)


class FitObjective:
    """The objective of a fit in the transformed unknowns x [Q]: its cost, residuals, Jacobian and gradient at any x.

    `bounds` [Q, 2] is a box in which nearly all starts of a multistart would lie; the cost is defined beyond it, and
    infinite where the equation cannot be solved. `natural(x)` gives the values of the unknowns.
    Every evaluation is counted, told to the progress, and ends by the fit's time limit.
    """

    def __init__(self, problem: Problem, plan: FitPlan, monitor: Monitor) -> None:
        self.problem, self.plan, self.monitor = problem, plan, monitor
        self.phase = "full"
        self.best: tuple[Array, float] | None = None
        self.evaluated: Callable[[], object] = lambda: None  # called after every evaluation
        self._last: Point | None = None

    @property
    def names(self) -> list[str]:
        """The names of the unknowns [Q]."""
        return [entry.name for entry in self.problem.vector.entries]

    @property
    def bounds(self) -> Array:
        """A box [Q, 2] around the fit's start: the ranges that priors and domains leave, else some factors of ten."""
        return box(self.problem.vector, self.problem.vector.get())

    def natural(self, x: Array) -> Array:
        """The values [Q] of the unknowns at x [Q]."""
        return self.problem.vector.natural(np.asarray(x, dtype=np.float64))

    def cost(self, x: Array) -> float:
        """Half the sum of squared residuals at x [Q]; infinite where the solve fails."""
        return float(self.costs([x])[0])

    def costs(self, xs: Sequence[Array] | Array) -> Array:
        """The costs [N] at several x [N, Q], solved as one batch."""
        rows = [np.array(x, dtype=np.float64).reshape(len(self.problem.vector)) for x in xs]
        self.problem.limited(self.monitor.left)
        found = self.problem.many(rows)
        costs = [math.inf if point is None else point.cost for point in found]
        for x, point, cost in zip(rows, found, costs, strict=True):
            self._last = point or self._last
            self.monitor.saw(self.phase, x, cost)
            self.note(x, cost)
        return np.array(costs)

    def note(self, x: Array, cost: float) -> None:
        """One evaluation at x, which may be the best."""
        if self.best is None or cost < self.best[1]:
            self.best = x.copy(), cost
        self.evaluated()

    def residuals(self, x: Array) -> Array:
        """The residuals [N] at x [Q]. Errors: Diverged where the solve fails."""
        return self._at(x).residual

    def jacobian(self, x: Array) -> Array:
        """The derivatives [N, Q] of the residuals at x [Q]. Errors: Diverged where the solve fails."""
        return self._at(x).jacobian

    def gradient(self, x: Array) -> Array:
        """The derivatives [Q] of the cost at x [Q]; zero where the solve fails."""
        try:
            point = self._at(x)
        except Diverged:
            return np.zeros(len(self.problem.vector))
        return np.asarray(point.jacobian.T @ point.residual)

    def _at(self, x: Array) -> Point:
        """The point at x, that of the last evaluation where it is the same."""
        x = np.array(x, dtype=np.float64)
        if self._last is None or not np.array_equal(self._last.x, x):
            self.costs([x])
        if self._last is None or not np.array_equal(self._last.x, x):
            raise Diverged(f"the solve fails there: {self.problem.message}")
        return self._last
