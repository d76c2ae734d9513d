"""Levenberg-Marquardt with the exact Jacobian, through SciPy's trust-region least squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from physid.arrays import Array
from physid.inference.problem import Point, Problem

RANK = 1e-10  # singular values below this part of the largest belong to directions that the data do not tell
NEARLY = 0.1  # standard errors
MANY = 64  # unknowns from which on a tall table is worth compressing: every iteration takes its singular values
REASONS = {
    0: "the limit of evaluations was reached",
    3: "the steps no longer change the unknowns",
}


@dataclass(frozen=True)
class Stop:
    """When to stop: by the relative offset, the relative change of the cost and of x, the number of evaluations.

    The relative offset is the length of the part of the residuals that a Gauss-Newton step would still remove over that
    of the residuals; a part below `floor` is the solver's own error. Source: Bates and Watts (1981).
    """

    offset: float = 1e-6
    floor: float = 0.0
    ftol: float = 1e-12
    xtol: float = 1e-12
    evaluations: int = 100


@dataclass(frozen=True)
class Found:
    """Where least squares ended: the point, whether it converged, and why it stopped."""

    point: Point
    converged: bool
    message: str


Evaluate = Callable[[Array], Point | None]


class _Reached(Exception):
    """The optimum is reached, as far as anyone can tell."""


def least(evaluate: Evaluate, start: Point, stop: Stop) -> Found:
    """The least-squares optimum from the point `start`; a point where `evaluate` gives None is a rejected step.

    The vector is measured from the start, so that the first trust region is a change of the prediction by its own
    size, whatever the start. Source: Moré (1978); Branch, Coleman and Li (1999), as in scipy.optimize.least_squares.
    """
    best, narrow = start, compressed(start)
    known = {_key(start.x): narrow}

    def at(step: Array) -> Point | None:
        nonlocal best
        x = start.x + step
        if _key(x) not in known:
            found = evaluate(x)
            if found is None:
                return None
            if found.cost < best.cost:
                best = found
            known.clear()
            known[_key(x)] = compressed(found)
        return known[_key(x)]

    def residual(step: Array) -> Array:
        found = at(step)
        return np.full(narrow.residual.shape, np.inf) if found is None else found.residual

    def jacobian(step: Array) -> Array:
        found = at(step) or narrow  # only asked for where a solve succeeded
        if stop.offset and removable(found) <= max(stop.offset * float(np.linalg.norm(found.residual)), stop.floor):
            raise _Reached
        return found.jacobian

    try:
        with np.errstate(invalid="ignore", over="ignore"):
            result = least_squares(
                residual,
                np.zeros_like(start.x),
                jacobian,
                method="trf",
                x_scale="jac",
                ftol=stop.ftol,
                xtol=stop.xtol,
                gtol=None,
                max_nfev=stop.evaluations,
            )
    except _Reached:
        return Found(best, True, "no step would improve the fit")
    return Found(best, result.status > 0, REASONS.get(result.status, "the fit no longer improves"))


def compressed(point: Point) -> Point:
    """The point with as many rows as its table has columns: the same J^T J, J^T r and cost, by an orthogonal factor."""
    rows, columns = point.jacobian.shape
    if columns < MANY or rows < 2 * columns:
        return point
    moved = point.jacobian.any(1)
    table = np.column_stack([point.jacobian[moved], point.residual[moved]])
    table = np.asarray(np.linalg.qr(table, mode="r"))
    rest = np.zeros((1, columns + 1))  # of rows that no unknown moves only the length counts
    rest[0, -1] = np.linalg.norm(point.residual[~moved])
    table = np.concatenate([table, rest])
    return Point(point.x, table[:, -1], table[:, :-1])


def removable(point: Point) -> float:
    """The length of the part of the residuals that a Gauss-Newton step would remove."""
    point = compressed(point)
    size = np.linalg.norm(point.jacobian, axis=0)
    if not size.any():
        return 0.0
    u, s, _ = np.linalg.svd(point.jacobian / np.where(size > 0, size, 1.0), full_matrices=False)
    return float(np.linalg.norm(u[:, s > RANK * s[0]].T @ point.residual))


def _key(x: Array) -> bytes:
    return x.tobytes()


def optimal(problem: Problem, point: Point) -> bool:
    """Whether a point is as good as the optimum: a tenth of a standard error away from it, or less."""
    return removable(point) <= max(NEARLY * float(np.linalg.norm(point.residual)) * share(point), 1e3 * problem.floor)


def share(point: Point) -> float:
    """The part of the length of white residuals that a standard error of every unknown makes up."""
    return float(np.sqrt(len(point.x) / max(len(point.residual) - len(point.x), 1)))
