"""Batched multi-start: many starts as one batch, by multiple shooting first, then a race on the full horizon."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.inference.problem import Point, Problem
from physid.inference.search.full_horizon import FAIR, ROUGH, is_near
from physid.inference.search.gradient_matching import match
from physid.inference.search.levenberg_marquardt import (
    Iterate,
    LevenbergMarquardt,
    LevenbergMarquardtState,
    StoppingRule,
)
from physid.inference.search.monitor import Monitor
from physid.inference.search.multiple_shooting import WELDED, WELDS, Segments
from physid.inference.search.objective import PointObjective, Solvable
from physid.inference.search.one_start import Start
from physid.inference.search.optimizer import Phase
from physid.modelling.state_sizes import intervals
from physid.ode import Integrator

STEPS, STEPS_PER_INTERVAL = 2000, 20  # the first budget of a start's solve, until others show what one takes
GROWTH = 10  # of that budget, as long as no start can be solved with it


class StartsObjective(PointObjective):
    """The points of some starts, `numbers`, every evaluation told to the monitor as that of its start."""

    def __init__(self, problem: Solvable, monitor: Monitor, phase: str, numbers: Sequence[int], width: int) -> None:
        super().__init__(problem, monitor, phase, width=width)
        self.numbers = numbers

    def saw(self, number: int, x: Array, cost: float) -> None:
        """One evaluation of a start."""
        self.monitor.saw(self.phase, x, cost, start=self.numbers[number])


class BatchedStarts:
    """The starts of a batch on their way: their unknowns, how they ended, and how often each was evaluated."""

    def __init__(self, problem: Problem, monitor: Monitor, begins: list[Array], auto: bool = False) -> None:
        self.problem, self.monitor, self.begins, self.auto = problem, monitor, begins, auto
        self.xs = list(begins)
        self.ends: list[Iterate | None] = [None] * len(begins)
        self.evaluations = [0] * len(begins)
        self.stopped: set[int] = set()  # starts whose first solve took more than its budget of steps

    def weld(self, integrator: Integrator) -> Generator[Phase, LevenbergMarquardtState, None]:
        """Move every start to where welded segments lead it; one that they cannot solve stays."""
        pieces, q = Segments(self.problem, integrator), len(self.problem.vector)
        zs, going = [pieces.begin(x) for x in self.xs], list(range(len(self.xs)))
        for weight in WELDS:
            if not going:
                break
            pieces.weld = weight
            phase = f"segments, weld {weight:g}"
            at = StartsObjective(pieces, self.monitor, phase, going, q)
            end = yield Phase(phase, LevenbergMarquardt(ROUGH), at, np.array([zs[i] for i in going]))
            for i, one in zip(going, end.starts, strict=True):
                self.evaluations[i] += 1 if one is None else one.evaluations
                if one is not None:
                    zs[i], self.xs[i] = one.x, one.x[:q]
            there = [i for i, one in zip(going, end.starts, strict=True) if one is not None]
            gaps = pieces.gaps([zs[i] for i in there])
            going = [i for i, gap in zip(there, gaps, strict=True) if gap >= WELDED]

    def race(self) -> Generator[Phase, Any, None]:
        """Least squares on the full horizon, a race."""
        points, count = (yield from self._begin()), len(self.begins)
        optimizer = LevenbergMarquardt(StoppingRule(offset=1e-4, ftol=1e-8), race=True)
        at = self._full([i % count for i in range(len(points))])
        end = yield Phase("race", optimizer, at, state=optimizer.begun(points))
        for i in range(count):
            both = [one for one in end.starts[i::count] if one is not None]
            self.evaluations[i] += sum(one.evaluations - 1 for one in both)
            self.ends[i] = best = min(both, key=lambda one: one.costs[-1], default=None)
            if best is not None:
                self.xs[i] = best.x

    def record(self, number: int) -> Start:
        """Record of a start."""
        end, natural = self.ends[number], self.problem.vector.natural
        lost = "over budget" if number in self.stopped else "diverged"
        status, cost = (lost, math.inf) if end is None else (end.status, end.costs[-1])
        begin, there = (natural(one[number]).tolist() for one in (self.begins, self.xs))
        return Start(number, begin, there, cost, status, self.evaluations[number])

    def _begin(self) -> Generator[Phase, Any, list[Point | None]]:
        """The better one of where a start began and where the segments led it, for every start.

        Where none explains a fair part of the data, the others follow: all may have been led to one bad optimum.
        """
        points = self._within_budget(self.xs)
        same = all(x is begin for x, begin in zip(self.xs, self.begins, strict=True))
        others = points.copy() if same else self._within_budget(self.begins)
        for i, (point, other) in enumerate(zip(points, others, strict=True)):
            if other is not None and (point is None or other.cost < point.cost):
                points[i], others[i] = other, point
        if self.auto and points[0] is None:
            moved = yield from match(self.problem, self.monitor, self.begins[0])
            points[0] = None if moved is None else self._points([0], [moved])[0]
        fair = any(one is not None and is_near(self.problem, one, FAIR) for one in points)
        return points if same or fair or not self.auto else points + others

    def _within_budget(self, xs: list[Array]) -> list[Point | None]:
        """The points at `xs`, where each solve may take so many steps, and more only where others took as many.

        A start whose equation is stiff there does not hold up the others; those that were stopped are tried again when
        it is known what a solve takes, and all are with a larger budget when none could be solved.
        """
        problem, numbers = self.problem, list(range(len(xs)))
        most, budget = problem.integrator.most_steps, first_budget(problem)
        while True:
            problem.patience = budget
            points = self._points(numbers, xs)
            if any(points) or not problem.spent or budget >= most:
                break
            budget = min(GROWTH * budget, most)
        late = sorted(problem.spent)
        self.stopped |= set(late)
        if late and any(points) and problem.patience > budget:
            again = self._points(late, [xs[i] for i in late])
            self.stopped -= {i for i, point in zip(late, again, strict=True) if point is not None}
            for i, point in zip(late, again, strict=True):
                points[i] = point
        return points

    def _points(self, numbers: Sequence[int], xs: Sequence[Array]) -> list[Point | None]:
        """The points of some starts at `xs`, as one batch."""
        for number in numbers:
            self.evaluations[number] += 1
        return self._full(numbers).points(xs, range(len(numbers)))

    def _full(self, numbers: Sequence[int]) -> StartsObjective:
        return StartsObjective(self.problem, self.monitor, "full", numbers, len(self.problem.vector))


def first_budget(problem: Problem) -> int:
    """The steps that the first solve of a start may take."""
    return STEPS + STEPS_PER_INTERVAL * max(map(intervals, problem.experiments))
