"""Levenberg-Marquardt with the exact Jacobian, for one start or many: every start has a trust region of its own.

A step is that of Gauss and Newton where it lies within the trust region, else damped to its radius, in units of the
largest column norms so far. The steps of all starts are evaluated as one batch. Scales of estimated noise are renewed
wherever a step is accepted (variable projection over the sigmas), so that they and the unknowns are found together.

Source: Marquardt (1963); Moré (1978); Bates and Watts (1981) for the relative offset.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.problem import Point
from physid.inference.search.optimality import Linearised, column_sizes, removable
from physid.inference.search.optimizer import TRANSIENT, Phase

WINDOW = 5  # iterations over which the rate of a start is judged
PATIENCE = 10  # iterations before any start is judged
FIRST = 10.0  # radius of the first step, in units of the columns: a change of the prediction by ten times its own size
POOR, FAIR = 0.25, 0.75  # of the fall of the linear problem: less shortens the radius, more of a full step doubles it
SHORTER, LONGER = 0.25, 2.0  # the radius then, in lengths of the step
FAINT = 1e-10  # of the largest column: one below it, of an unknown at the end of its range, counts as that large
FULL = 0.85  # of the radius: a step that was as long as it might be
SMALLEST = 1e-14  # radius below which a start is stuck
BUDGET = 4  # times the iterations that the others took: more no start gets that is behind one that has converged


@dataclass(frozen=True)
class StoppingRule:
    """When to stop: by the relative offset, the relative change of the cost and of x, the number of evaluations.

    The relative offset is the length of the part of the residuals that a Gauss-Newton step would still remove over that
    of the residuals; a part below `floor` is the solver's own error.
    """

    offset: float = 1e-6
    floor: float = 0.0
    ftol: float = 1e-12
    xtol: float = 1e-12
    evaluations: int = 100


class Residuals(Protocol):
    """Residuals and their Jacobian, as Levenberg-Marquardt asks for them."""

    def points(self, xs: Sequence[Array], numbers: Sequence[int], /) -> list[Point | None]:
        """The points of the starts `numbers` at `xs`; None where a solve fails, which is a rejected step."""

    def renewed(self, point: Point, /) -> Point:
        """The accepted point, with the noise that is estimated there."""


@dataclass
class Iterate:
    """One start on its way: its unknowns, the sizes of its columns, its radius, costs so far, and what became of it.

    `damping` is that of its last step, 0 within the radius; `longest` is the length of the longest step that was taken,
    `last` that of the last one if it was not damped, else 0; `rejected` counts the steps since then, not taken.
    `status` is empty while it runs, then "converged", "not converged", "hopeless" or "over budget".
    """

    x: Array
    size: Array
    costs: list[float]
    radius: float = FIRST
    damping: float = 0.0
    longest: float = 0.0
    last: float = 0.0
    rejected: int = 0
    status: str = ""
    message: str = ""
    evaluations: int = 1
    point: Point | None = field(default=None, repr=False, compare=False, metadata=TRANSIENT)
    linear: Linearised | None = field(default=None, repr=False, compare=False, metadata=TRANSIENT)

    @staticmethod
    def at(point: Point) -> Iterate:
        """The start at a point."""
        return Iterate(point.x, _sizes(point), [point.cost], point=point)

    @property
    def linearised(self) -> Linearised:
        """The linear problem where it is, which is factorised once."""
        if self.linear is None or self.linear.point is not self.here:
            self.linear = Linearised(self.here, self.size)
        return self.linear

    @property
    def here(self) -> Point:
        """The point where it is. Errors: Diverged when it could not be solved there again."""
        if self.point is None:
            raise Diverged("the solve fails where the fit stood")
        return self.point

    def ends(self, status: str, message: str) -> None:
        """It goes no further."""
        self.status, self.message = status, message

    def step(self) -> tuple[Array, float]:
        """The step within the radius, and by how much the cost would fall if the problem were linear."""
        step, gain, self.damping = self.linearised.step(self.radius, self.damping)
        return step / self.size, gain

    def take(self, trial: Point | None, step: Array, gain: float, stop: StoppingRule, objective: Residuals) -> None:
        """Accept or reject a trial point, and set the radius of the next step."""
        self.evaluations += 1
        before, length = self.costs[-1], float(np.linalg.norm(step * self.size))
        fall = before - trial.cost if trial is not None else -math.inf
        ratio = fall / gain if gain > 0 else 0.0
        self.rejected = 0 if fall > 0 else self.rejected + 1
        if ratio < POOR:
            self.radius = length * SHORTER ** max(1, self.rejected)
        elif ratio > FAIR and length > FULL * self.radius:
            self.radius = LONGER * length
        if trial is not None and fall > 0:
            self.point = objective.renewed(trial)
            self.x = self.point.x
            self.size = np.maximum(self.size, _sizes(self.point))
            following = math.inf if self.damping else length * min(1.0, length / (self.last or length))
            self.longest, self.last = max(self.longest, length), 0.0 if self.damping else length
            if fall <= stop.ftol * before and ratio > POOR:
                self.ends("converged", "the fit no longer improves")
            elif ratio > POOR and following <= stop.xtol * self.longest:
                self.ends("converged", "the steps no longer change the unknowns")
        else:
            tiny = length <= stop.xtol * float(np.linalg.norm(self.here.residual))
            if tiny or (0 <= gain <= stop.ftol * before):
                self.ends("converged", "the steps no longer change the unknowns")
            elif self.radius < SMALLEST:
                self.ends("not converged", "no step improves the fit")
        self.costs.append(self.here.cost)


@dataclass
class LevenbergMarquardtState:
    """The iterations so far, and where every start is; None for one that could not be solved where it began."""

    starts: list[Iterate | None]
    iteration: int = 0


class LevenbergMarquardt:
    """Levenberg-Marquardt: least squares by damped Gauss-Newton steps, from one start or many.

    With `race`, a start is "hopeless", and stopped, that at its rate of the last iterations could not catch up with
    the best one in all iterations that are left, and "over budget" that took many times those of the starts that
    converged.
    """

    def __init__(self, stop: StoppingRule | None = None, race: bool = False) -> None:
        self.stop, self.race = stop or StoppingRule(), race

    def init(self, objective: Residuals, x: Array) -> LevenbergMarquardtState:
        """The state of a start at x [Q], or of several at x [S, Q]."""
        xs = list(np.atleast_2d(x))
        return self.begun(objective.points(xs, range(len(xs))))

    def begun(self, points: Sequence[Point | None]) -> LevenbergMarquardtState:
        """The state of starts at points that are known already."""
        state = LevenbergMarquardtState([None if one is None else Iterate.at(one) for one in points])
        self._judge(state)
        return state

    def step(self, objective: Residuals, state: LevenbergMarquardtState) -> LevenbergMarquardtState:
        """One evaluation for every start that has not ended."""
        self._recall(objective, state)
        running = [(i, one) for i, one in enumerate(state.starts) if one is not None and not one.status]
        moves = [one.step() for _, one in running]
        trials = [one.x + step for (_, one), (step, _) in zip(running, moves, strict=True)]
        points = objective.points(trials, [i for i, _ in running])
        for (_, one), point, (step, gain) in zip(running, points, moves, strict=True):
            one.take(point, step, gain, self.stop, objective)
        state.iteration += 1
        self._judge(state)
        return state

    def done(self, state: LevenbergMarquardtState) -> bool:
        """Whether all starts have ended."""
        return all(one is None or one.status for one in state.starts)

    def _recall(self, objective: Residuals, state: LevenbergMarquardtState) -> None:
        """Evaluate the starts again where they are, after a checkpoint."""
        lost = [(i, one) for i, one in enumerate(state.starts) if one is not None and one.point is None]
        if not lost:
            return
        found = objective.points([one.x for _, one in lost], [i for i, _ in lost])
        for (i, one), point in zip(lost, found, strict=True):
            if point is None:
                state.starts[i] = None
            else:
                one.point = objective.renewed(point)

    def _judge(self, state: LevenbergMarquardtState) -> None:
        """End the starts that are at an optimum, at the limit of evaluations, or beaten in a race."""
        there, left = [one for one in state.starts if one is not None], self.stop.evaluations - state.iteration
        for one in there:
            if not one.status and left <= 0:
                one.ends("not converged", "the limit of evaluations was reached")
            elif not one.status and self.stop.offset:
                least = max(self.stop.offset * float(np.linalg.norm(one.here.residual)), self.stop.floor)
                if one.linearised.removable <= least and removable(one.here) <= least:
                    one.ends("converged", "no step would improve the fit")
        if self.race and state.iteration >= PATIENCE:
            _judge_race(there, left)
            _judge_budget(there)


def descent(
    stage: str, objective: Residuals, start: Array | Point, stop: StoppingRule
) -> Generator[Phase, LevenbergMarquardtState, Iterate | None]:
    """Levenberg-Marquardt from x [Q], or from a known point, as a phase: where it ends, None if x cannot be solved."""
    optimizer = LevenbergMarquardt(stop)
    if isinstance(start, Point):
        end = yield Phase(stage, optimizer, objective, state=optimizer.begun([start]))
    else:
        end = yield Phase(stage, optimizer, objective, start)
    return end.starts[0]


def minimised(objective: Residuals, point: Point, stop: StoppingRule) -> Iterate:
    """The end of Levenberg-Marquardt from one known point, run here and now."""
    optimizer = LevenbergMarquardt(stop)
    state = optimizer.begun([point])
    while not optimizer.done(state):
        state = optimizer.step(objective, state)
    (one,) = state.starts
    return one or Iterate.at(point)


def _sizes(point: Point) -> Array:
    """The sizes [Q] of the columns, in which steps are measured."""
    size = column_sizes(point)
    return np.asarray(np.maximum(size, FAINT * size.max()))


def _judge_race(starts: list[Iterate], left: int) -> None:
    """Stop the starts that fall behind for good; one alone has none to fall behind."""
    if len(starts) < 2:
        return
    best = min(one.costs[-1] for one in starts)
    for one in starts:
        if one.status or not best > 0 or len(one.costs) <= WINDOW:
            continue
        rate = math.log(max(one.costs[-1 - WINDOW], 1e-300) / max(one.costs[-1], 1e-300)) / WINDOW
        if math.log(one.costs[-1] / best) > 0.1 + rate * left:
            one.ends("hopeless", "at its rate it would not have caught up with the best start")


def _judge_budget(starts: list[Iterate]) -> None:
    """Stop the starts that have had many times the iterations of those that converged, and are behind one of these."""
    done = [one for one in starts if one.status == "converged"]
    if not done:
        return
    best = min(one.costs[-1] for one in done)
    most = BUDGET * max(PATIENCE, int(np.median([len(one.costs) for one in done])))
    for one in starts:
        if not one.status and len(one.costs) > most and one.costs[-1] > best:
            one.ends("over budget", f"it took more than {most} iterations, and others converged")
