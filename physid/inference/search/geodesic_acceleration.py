"""Geodesic acceleration: Levenberg-Marquardt along curved valleys, by second directional derivatives.

Weights of a network lie in a long, narrow, bent valley of the cost. A damped step v is a straight line, and leaves such
a valley unless it is short; half its acceleration a bends it along:

    (J^T J + damping D^2) v = -J^T r,   (J^T J + damping D^2) a = -J^T r_vv,   x <- x + v + a / 2,

where r_vv is the second derivative of the residuals along v, by a difference, and D holds the largest column norms so
far. A step whose acceleration is no small part of it is too long. The damping follows Nielsen's rule.

Source: Transtrum and Sethna (2012), arXiv:1201.5885; Moré (1978); Nielsen (1999).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import beta

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.problem import Point, Problem, spread
from physid.inference.search.levenberg_marquardt import Residuals, StoppingRule
from physid.inference.search.optimality import RANK, column_sizes
from physid.inference.search.optimizer import TRANSIENT

DIFFERENCE = 0.1  # of a step, over which r_vv is taken
BEND = 0.75  # of the length of a step: more acceleration means that it is too long
FIRST = 1e-3  # damping
LARGEST = 1e14  # damping beyond which no step is left
WINDOW = 10  # accepted steps over which a fit must improve: after a sharp bend the first ones are short
EXACT = 1e-5  # an rms error, in units of the spread of a channel, below which nothing is left to improve
LEVEL = 0.01  # of the test whether a step would remove no more of the residuals than of noise


class _Linear:
    """The linear problem at a point, its columns in units of `size` [Q]."""

    def __init__(self, point: Point, size: Array) -> None:
        self.point, self.size = point, size
        self.u, s, self.vt = np.linalg.svd(point.jacobian / size, full_matrices=False)
        there = s > RANK * s[0]
        self.s, self.rank = np.where(there, s, 0.0), int(there.sum())
        self.removable = float(np.linalg.norm(self.u[:, there].T @ point.residual))

    def damped(self, residual: Array, damping: float) -> Array:
        """The damped step [Q], in units of `size`, that takes away from `residual` [rows] what it can."""
        factor = np.divide(self.s, self.s**2 + damping, where=self.s > 0, out=np.zeros_like(self.s))
        return np.asarray(-self.vt.T @ (factor * (self.u.T @ residual)))

    def moved(self, step: Array) -> Array:
        """The change of the residuals [rows] by a step in units of `size`."""
        return np.asarray(self.u @ (self.s * (self.vt @ step)))

    def beyond_noise(self) -> bool:
        """Whether a Gauss-Newton step would remove more of the residuals than it would of white noise.

        Of noise its part is, squared, beta distributed: as many dimensions as the rank out of as many as residuals.
        """
        rows, rank = len(self.point.residual), self.rank
        if rank >= rows or not self.point.cost > 0:
            return False
        part = self.removable**2 / (2.0 * self.point.cost)
        return bool(part > beta.ppf(1.0 - LEVEL, 0.5 * rank, 0.5 * (rows - rank)))


def promises(point: Point) -> bool:
    """Whether a step would remove more of the residuals at a point, were the problem linear, than of noise."""
    return bool(point.jacobian.any()) and _Linear(point, column_sizes(point)).beyond_noise()


def exact(problem: Problem, point: Point) -> bool:
    """Whether the predictions are as near to the data as can matter: within known noise, or EXACT of every channel."""
    if problem.sigma is not None:
        return 2.0 * point.cost <= problem.count
    if point.seen is None:
        return False
    apart = np.where(problem.mask, point.seen - problem.measured, 0.0)
    counts = np.maximum(problem.mask.sum(0), 1)
    spreads = [spread(problem.measured[:, [m]], problem.mask[:, [m]]) for m in range(problem.mask.shape[1])]
    return bool((np.sqrt((apart**2).sum(0) / counts) <= EXACT * np.array(spreads)).all())


@dataclass
class GeodesicState:
    """State of the walk along a valley: point, damping, costs so far, evaluations left, and ending."""

    x: Array
    size: Array
    costs: list[float]
    left: int
    damping: float = FIRST
    growth: float = 2.0
    message: str = ""
    converged: bool = False
    here: _Linear | None = field(default=None, repr=False, compare=False, metadata=TRANSIENT)

    def ends(self, converged: bool, message: str) -> None:
        """It goes no further."""
        self.converged, self.message = converged, message


class GeodesicAcceleration:
    """The optimizer along a bent valley.

    It has converged where a step would remove nothing more (as in Levenberg-Marquardt), where a point is `enough`, and
    where the cost falls by less than `stop.ftol` while no step would remove more than it would of noise.
    """

    def __init__(self, stop: StoppingRule, enough: Callable[[Point], bool]) -> None:
        self.stop, self.enough = stop, enough

    def init(self, objective: Residuals, x: Array) -> GeodesicState:
        """The state at x [Q]. Errors: Diverged where the solve fails."""
        point = _at(objective, x)
        if point is None:
            raise Diverged("the solve fails where the fit began")
        return self.begun(point)

    def begun(self, point: Point) -> GeodesicState:
        """The state at a point that is known already."""
        size = column_sizes(point)
        here = _Linear(point, size)
        state = GeodesicState(point.x, size, [point.cost], self.stop.evaluations, here=here)
        self._judge(state, here)
        return state

    def step(self, objective: Residuals, state: GeodesicState) -> GeodesicState:
        """One step along the valley, taken or not: two evaluations."""
        if state.here is None:  # after a checkpoint
            point = _at(objective, state.x)
            if point is None:
                raise Diverged("the solve fails where the fit stood")
            state.here = _Linear(point, state.size)
        here = state.here
        step, bent, used = _step(objective, here, state.damping)
        state.left -= used
        trial = None if bent is None else _at(objective, here.point.x + bent / here.size)
        state.left -= bent is not None
        if trial is None or not trial.cost < here.point.cost:
            state.damping, state.growth = state.damping * state.growth, 2.0 * state.growth
        else:
            here = self._take(state, here, step, trial)
        if not state.message:
            self._judge(state, here)
        return state

    def done(self, state: GeodesicState) -> bool:
        """Whether it has ended."""
        return bool(state.message)

    def _take(self, state: GeodesicState, here: _Linear, step: Array, trial: Point) -> _Linear:
        """Accept the trial point, and linearise there."""
        rest = here.point.residual + here.moved(step)
        ratio = (here.point.cost - trial.cost) / max(here.point.cost - 0.5 * float(rest @ rest), 1e-300)
        state.damping, state.growth = state.damping * max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3), 2.0
        state.x, state.size = trial.x, np.maximum(state.size, np.linalg.norm(trial.jacobian, axis=0))
        state.here = there = _Linear(trial, state.size)
        state.costs.append(trial.cost)
        if state.costs[-2] - trial.cost < self.stop.ftol * state.costs[-2] and not there.beyond_noise():
            state.ends(True, "the fit no longer improves")
        elif len(state.costs) > WINDOW:
            before = state.costs[-1 - WINDOW]
            if before - trial.cost < self.stop.ftol * before:
                state.ends(False, "the fit hardly improves any more")
        return there

    def _judge(self, state: GeodesicState, here: _Linear) -> None:
        """End the walk at an optimum, at a point that is enough, and where no step or evaluation is left."""
        length = float(np.sqrt(2.0 * state.costs[-1]))
        if here.removable <= max(self.stop.offset * length, self.stop.floor):
            state.ends(True, "no step would improve the fit")
        elif self.enough(here.point):
            state.ends(True, "the errors no longer matter beside the data")
        elif state.damping > LARGEST:
            state.ends(False, "no step improves the fit")
        elif state.left < 2:
            state.ends(False, "the limit of evaluations was reached")


def _at(objective: Residuals, x: Array) -> Point | None:
    """The point at x [Q]; None where the solve fails."""
    return objective.points([x], [0])[0]


def _step(objective: Residuals, here: _Linear, damping: float) -> tuple[Array, Array | None, int]:
    """The damped step [Q] in units of size, the same bent along the valley, None if too long, and the evaluations."""
    point = here.point
    step = here.damped(point.residual, damping)
    near = _at(objective, point.x + DIFFERENCE * step / here.size)
    if near is None:
        return step, None, 1
    second = 2.0 / DIFFERENCE * ((near.residual - point.residual) / DIFFERENCE - here.moved(step))
    bend = here.damped(second, damping)
    long = 2.0 * float(np.linalg.norm(bend)) > BEND * float(np.linalg.norm(step))
    return step, None if long else step + 0.5 * bend, 1
