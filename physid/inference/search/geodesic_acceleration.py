"""Least squares along a bent valley: Levenberg-Marquardt with geodesic acceleration.

Weights of a network lie in a long, narrow, bent valley of the cost. A damped step v is a straight line, and leaves such
a valley unless it is short; half its acceleration a bends it along:

    (J^T J + damping D^2) v = -J^T r,   (J^T J + damping D^2) a = -J^T r_vv,   x <- x + v + a / 2,

where r_vv is the second derivative of the residuals along v, by a difference, and D holds the largest column norms so
far. A step whose acceleration is no small part of it is too long. The damping follows Nielsen's rule.

Source: Transtrum and Sethna (2012), arXiv:1201.5885; Moré (1978); Nielsen (1999).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import beta

from physid.arrays import Array
from physid.inference.problem import Point, Problem, spread
from physid.inference.search.trust_region import RANK, Evaluate, Found, Stop

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
    size = np.linalg.norm(point.jacobian, axis=0)
    return bool(size.any()) and _Linear(point, np.where(size > 0, size, 1.0)).beyond_noise()


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


def along(evaluate: Evaluate, start: Point, stop: Stop, enough: Callable[[Point], bool]) -> Found:
    """The least-squares optimum from the point `start`; a point where `evaluate` gives None is a rejected step.

    It has converged where a step would remove nothing more (as in `least`), where a point is `enough`, and where the
    cost falls by less than `stop.ftol` while no step would remove more than it would of noise.
    """
    size = np.linalg.norm(start.jacobian, axis=0)
    here = _Linear(start, np.where(size > 0, size, 1.0))
    costs, damping, growth, left = [start.cost], FIRST, 2.0, stop.evaluations
    while True:
        point, length = here.point, float(np.sqrt(2.0 * here.point.cost))
        if here.removable <= max(stop.offset * length, stop.floor):
            return Found(point, True, "no step would improve the fit")
        if enough(point):
            return Found(point, True, "the errors no longer matter beside the data")
        if damping > LARGEST:
            return Found(point, False, "no step improves the fit")
        if left < 2:
            return Found(point, False, "the limit of evaluations was reached")
        step, bent, used = _step(evaluate, here, damping)
        left -= used
        trial = None if bent is None else evaluate(point.x + bent / here.size)
        left -= bent is not None
        if trial is None or not trial.cost < point.cost:
            damping, growth = damping * growth, 2.0 * growth
            continue
        rest = point.residual + here.moved(step)
        ratio = (point.cost - trial.cost) / max(point.cost - 0.5 * float(rest @ rest), 1e-300)
        damping, growth = damping * max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3), 2.0
        here = _Linear(trial, np.maximum(here.size, np.linalg.norm(trial.jacobian, axis=0)))
        costs.append(trial.cost)
        if costs[-2] - costs[-1] < stop.ftol * costs[-2] and not here.beyond_noise():
            return Found(trial, True, "the fit no longer improves")
        if len(costs) > WINDOW and costs[-1 - WINDOW] - costs[-1] < stop.ftol * costs[-1 - WINDOW]:
            return Found(trial, False, "the fit hardly improves any more")


def _step(evaluate: Evaluate, here: _Linear, damping: float) -> tuple[Array, Array | None, int]:
    """The damped step [Q] in units of size, the same bent along the valley, None if too long, and the evaluations."""
    point = here.point
    step = here.damped(point.residual, damping)
    near = evaluate(point.x + DIFFERENCE * step / here.size)
    if near is None:
        return step, None, 1
    second = 2.0 / DIFFERENCE * ((near.residual - point.residual) / DIFFERENCE - here.moved(step))
    bend = here.damped(second, damping)
    long = 2.0 * float(np.linalg.norm(bend)) > BEND * float(np.linalg.norm(step))
    return step, None if long else step + 0.5 * bend, 1
