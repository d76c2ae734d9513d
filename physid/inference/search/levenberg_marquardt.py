"""Levenberg-Marquardt for many starts at once: every evaluation is one batch, every start has a damping of its own.

Marquardt's damping with Moré's scaling by the largest column norms so far and Nielsen's rule for its growth. The scales
of estimated noise are renewed wherever a step is accepted (variable projection over the sigmas), so that they and the
unknowns are found together.

Source: Marquardt (1963); Moré (1978); Nielsen (1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from physid.arrays import Array
from physid.inference.problem import Point
from physid.inference.search.trust_region import RANK, Found, Stop, removable

WINDOW = 5  # iterations over which the rate of a start is judged
PATIENCE = 10  # iterations before any start is judged
WIDE = 300  # columns from which on the normal equations are solved
LARGEST = 1e14  # damping beyond which a start is stuck
BUDGET = 4  # times the iterations that the others took: more no start gets that is behind one that has converged

Evaluate = Callable[[Sequence[int], Sequence[Array]], list[Point | None]]
Renew = Callable[[int, Point], Point]


@dataclass
class Track:
    """One start on its way: where it is, its damping, and what became of it."""

    point: Point
    size: Array
    damping: float = 1e-3
    growth: float = 2.0
    status: str = ""
    message: str = ""
    evaluations: int = 1

    def __post_init__(self) -> None:
        """The costs so far, one for each iteration."""
        self.costs = [self.point.cost]

    def step(self) -> tuple[Array, float]:
        """The damped Gauss-Newton step, and by how much the cost would fall if the problem were linear."""
        jacobian, residual = self.point.jacobian / self.size, self.point.residual
        step = damped(jacobian, residual, self.damping)
        left = residual + jacobian @ step
        return step / self.size, self.point.cost - 0.5 * float(left @ left)


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


def least_wide(evaluate: Callable[[Array], Point | None], start: Point, stop: Stop) -> Found:
    """`least` for one start of a problem with a wide Jacobian."""
    (track,) = least_many(lambda _, xs: [evaluate(x) for x in xs], [start], stop)
    if track is None:
        return Found(start, False, "the solve fails where the fit began")
    return Found(track.point, track.status == "converged", track.message)


def least_many(
    evaluate: Evaluate,
    starts: Sequence[Point | Track | None],
    stop: Stop,
    renew: Renew | None = None,
    race: bool = True,
    hold: Callable[[int, list[Track | None]], object] | None = None,
    first: int = 0,
) -> list[Track | None]:
    """The optima from many starting points, None where there is none; `evaluate(numbers, xs)` is one batch.

    With `race`, a start is "hopeless", and stopped, that at its rate of the last iterations could not catch up with
    the best one in all iterations that are left, and "over budget" that took many times those of the starts that
    converged. The other endings are "converged" and "not converged". `hold` is told
    after every iteration how many there were and where the starts are; with these tracks for starts, and that number
    as `first`, it goes on.
    """
    tracks = [Track(one, _size(one)) if isinstance(one, Point) else one for one in starts]
    for turn in range(first, stop.evaluations):
        running = [(i, one) for i, one in enumerate(tracks) if one is not None and not one.status]
        for _, one in running:
            _judge_optimum(one, stop)
        if race and turn >= PATIENCE:
            there = [one for one in tracks if one is not None]
            _judge_race(there, stop.evaluations - turn)
            _judge_budget(there)
        running = [(i, one) for i, one in running if not one.status]
        if not running:
            break
        moves = [one.step() for _, one in running]
        trials = [one.point.x + step for (_, one), (step, _) in zip(running, moves, strict=True)]
        points = evaluate([i for i, _ in running], trials)
        for (i, one), point, (step, gain) in zip(running, points, moves, strict=True):
            _take(one, point, step, gain, stop, renew, i)
        if hold is not None:
            hold(turn + 1, tracks)
    for left in tracks:
        if left is not None and not left.status:
            left.status, left.message = "not converged", "the limit of evaluations was reached"
    return tracks


def _size(point: Point) -> Array:
    size = np.linalg.norm(point.jacobian, axis=0)
    return np.where(size > 0, size, 1.0)


def _judge_optimum(one: Track, stop: Stop) -> None:
    residual = float(np.linalg.norm(one.point.residual))
    if stop.offset and removable(one.point) <= max(stop.offset * residual, stop.floor):
        one.status, one.message = "converged", "no step would improve the fit"


def _judge_race(tracks: list[Track], left: int) -> None:
    """Stop the starts that fall behind for good; one alone has none to fall behind."""
    if len(tracks) < 2:
        return
    best = min(one.point.cost for one in tracks)
    for one in tracks:
        if one.status or not best > 0 or len(one.costs) <= WINDOW:
            continue
        rate = math.log(max(one.costs[-1 - WINDOW], 1e-300) / max(one.costs[-1], 1e-300)) / WINDOW
        if math.log(one.point.cost / best) > 0.1 + rate * left:
            one.status, one.message = "hopeless", "at its rate it would not have caught up with the best start"


def _judge_budget(tracks: list[Track]) -> None:
    """Stop the starts that have had many times the iterations of those that converged, and are behind one of these."""
    done = [one for one in tracks if one.status == "converged"]
    if not done:
        return
    best = min(one.point.cost for one in done)
    most = BUDGET * max(PATIENCE, int(np.median([len(one.costs) for one in done])))
    for one in tracks:
        if not one.status and len(one.costs) > most and one.point.cost > best:
            one.status, one.message = "over budget", f"it took more than {most} iterations, and others converged"


def _take(
    one: Track, point: Point | None, step: Array, gain: float, stop: Stop, renew: Renew | None, number: int
) -> None:
    """Accept or reject a trial point, and set the damping for the next."""
    one.evaluations += 1
    before = one.point.cost
    fall = before - point.cost if point is not None else -math.inf
    if point is not None and fall > 0:
        ratio = fall / gain if gain > 0 else 0.0
        one.damping *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
        one.growth = 2.0
        one.point = point if renew is None else renew(number, point)
        one.size = np.maximum(one.size, _size(one.point))
        if fall <= stop.ftol * before and gain <= stop.ftol * before:
            one.status, one.message = "converged", "the fit no longer improves"
    else:
        one.damping *= one.growth
        one.growth *= 2.0
        tiny = float(np.linalg.norm(step * one.size)) <= stop.xtol * float(np.linalg.norm(one.point.residual))
        if tiny or (0 <= gain <= stop.ftol * before):
            one.status, one.message = "converged", "the steps no longer change the unknowns"
        elif one.damping > LARGEST:
            one.status, one.message = "not converged", "no step improves the fit"
    one.costs.append(one.point.cost)
