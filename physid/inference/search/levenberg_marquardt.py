"""Levenberg-Marquardt with the exact Jacobian, for one start or many: every start has a damping of its own.

Marquardt's damping with Moré's scaling by the largest column norms so far and Nielsen's rule for its growth; where the
problem is linear, steps become those of Gauss and Newton. The steps of all starts are evaluated as one batch. Scales of
estimated noise are renewed wherever a step is accepted (variable projection over the sigmas), so that they and the
unknowns are found together.

Source: Marquardt (1963); Moré (1978); Nielsen (1999); Bates and Watts (1981) for the relative offset.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.problem import Point
from physid.inference.search.optimality import RANK, column_sizes, compressed, removable
from physid.inference.search.optimizer import TRANSIENT, Phase

WINDOW = 5  # iterations over which the rate of a start is judged
PATIENCE = 10  # iterations before any start is judged
WIDE = 300  # columns from which on the normal equations are solved
LINEAR = 0.01, 1e-3  # a fall this near to that of the linear problem, and the damping's factor: Gauss-Newton from there
FIRST = 1.0  # of the length of the first step, in units of the columns: a change of the prediction by its own size
FAITHFUL = 0.25  # of the fall of the linear problem: more shows that a small fall is the last
LARGEST = 1e14  # damping beyond which a start is stuck
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
    """One start on its way: its unknowns, the sizes of its columns, its damping, costs so far, and what became of it.

    `status` is empty while it goes on, then "converged", "not converged", "hopeless" or "over budget".
    """

    x: Array
    size: Array
    costs: list[float]
    damping: float = 1e-3
    growth: float = 2.0
    status: str = ""
    message: str = ""
    evaluations: int = 1
    point: Point | None = field(default=None, repr=False, compare=False, metadata=TRANSIENT)

    @staticmethod
    def at(point: Point) -> Iterate:
        """The start at a point."""
        return Iterate(point.x, column_sizes(point), [point.cost], point=point)

    @staticmethod
    def alone(point: Point) -> Iterate:
        """The one start at a point, damped so that the first step changes the prediction by its own size at most."""
        found = Iterate.at(point)
        while found.damping < LARGEST and float(np.linalg.norm(found.step()[0] * found.size)) > FIRST:
            found.damping *= 10.0
        return found

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
        """The damped Gauss-Newton step, and by how much the cost would fall if the problem were linear."""
        point = self.here if len(self.x) > WIDE else compressed(self.here)
        jacobian, residual = point.jacobian / self.size, point.residual
        step = damped(jacobian, residual, self.damping)
        left = residual + jacobian @ step
        return step / self.size, point.cost - 0.5 * float(left @ left)

    def take(self, trial: Point | None, step: Array, gain: float, stop: StoppingRule, objective: Residuals) -> None:
        """Accept or reject a trial point, and set the damping for the next step."""
        self.evaluations += 1
        before = self.costs[-1]
        fall = before - trial.cost if trial is not None else -math.inf
        if trial is not None and fall > 0:
            ratio = fall / gain if gain > 0 else 0.0
            self.damping *= LINEAR[1] if abs(ratio - 1.0) < LINEAR[0] else max(1 / 3, 1.0 - (2.0 * ratio - 1.0) ** 3)
            self.growth = 2.0
            self.point = objective.renewed(trial)
            self.x = self.point.x
            self.size = np.maximum(self.size, column_sizes(self.point))
            if fall <= stop.ftol * before and ratio > FAITHFUL:
                self.ends("converged", "the fit no longer improves")
        else:
            self.damping *= self.growth
            self.growth *= 2.0
            tiny = float(np.linalg.norm(step * self.size)) <= stop.xtol * float(np.linalg.norm(self.here.residual))
            if tiny or (0 <= gain <= stop.ftol * before):
                self.ends("converged", "the steps no longer change the unknowns")
            elif self.damping > LARGEST:
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
        make = Iterate.alone if len(points) == 1 else Iterate.at
        state = LevenbergMarquardtState([None if one is None else make(one) for one in points])
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
                length = float(np.linalg.norm(one.here.residual))
                if removable(one.here) <= max(self.stop.offset * length, self.stop.floor):
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


def damped(jacobian: Array, residual: Array, damping: float) -> Array:
    """The s [Q] that minimises |residual + jacobian s|^2 + damping |s|^2, without directions that have no say.

    Wide Jacobians are those of many segments, and sparse: their normal equations take a thousandth of the time of
    singular values, and what these lose in accuracy does not matter to steps that are tried anyway.
    """
    if jacobian.shape[1] > WIDE:
        sparse = csr_array(jacobian)
        normal = (sparse.T @ sparse).toarray()
        normal[np.diag_indices_from(normal)] += damping
        try:
            return np.asarray(-cho_solve(cho_factor(normal, overwrite_a=True), jacobian.T @ residual))
        except np.linalg.LinAlgError:  # not positive definite to round-off
            pass
    u, s, vt = np.linalg.svd(jacobian, full_matrices=False)
    factor = np.where(s > RANK * s[0], s / (s * s + damping), 0.0)
    return np.asarray(-vt.T @ (factor * (u.T @ residual)))


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
