"""Optimality of a least-squares point: what a Gauss-Newton step would still remove, and when that is nothing."""

from __future__ import annotations

import numpy as np

from physid.arrays import Array
from physid.inference.problem import Point, Problem

RANK = 1e-10  # singular values below this part of the largest belong to directions that the data do not determine
NEARLY = 0.1  # standard errors
MANY = 64  # unknowns from which on a tall table is worth compressing: every iteration takes its singular values


def column_sizes(point: Point) -> Array:
    """The lengths [Q] of the columns of the Jacobian, 1 for a column of zeros."""
    size = np.linalg.norm(point.jacobian, axis=0)
    return np.where(size > 0, size, 1.0)


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
    if not point.jacobian.any():
        return 0.0
    u, s, _ = np.linalg.svd(point.jacobian / column_sizes(point), full_matrices=False)
    return float(np.linalg.norm(u[:, s > RANK * s[0]].T @ point.residual))


def optimal(problem: Problem, point: Point) -> bool:
    """Whether a point is as good as the optimum: a tenth of a standard error away from it, or less."""
    return removable(point) <= max(NEARLY * float(np.linalg.norm(point.residual)) * share(point), 1e3 * problem.floor)


def share(point: Point) -> float:
    """The part of the length of white residuals that a standard error of every unknown makes up."""
    return float(np.sqrt(len(point.x) / max(len(point.residual) - len(point.x), 1)))
