"""Optimality of a least-squares point: what a Gauss-Newton step would still remove, and when that is nothing.

Source: Moré (1978) for steps within a trust region.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.sparse import csr_array

from physid.arrays import Array
from physid.inference.problem import Point, Problem

RANK = 1e-10  # singular values below this part of the largest belong to directions that the data do not determine
LEAST = 1e-60  # of the largest column so far: a singular value below it belongs to unknowns that have no say any more
NEARLY = 0.1  # standard errors
MANY = 64  # unknowns from which on a tall table is worth compressing: every iteration takes its singular values
WIDE = 64  # columns from which on steps come of normal equations: singular values take a hundred times as long
WITHIN = 0.1  # of the radius: how far the length of a step may be from it
ROUNDS = 10  # of finding the damping


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


class Linearised:
    """The linear problem |r + J s| at a point, its columns in units of `size` [Q]: steps, and what they remove."""

    def __init__(self, point: Point, size: Array) -> None:
        self.point, self.size = point, size

    @cached_property
    def _singular(self) -> tuple[Array, Array, Array]:
        """Singular values [R] of J, the part [R] of r along each, and its direction [R, Q]; none for a J of zeros."""
        narrow = compressed(self.point)
        u, s, vt = np.linalg.svd(narrow.jacobian / self.size, full_matrices=False)
        there = s > max(RANK * s[0], LEAST)
        return s[there], u[:, there].T @ narrow.residual, vt[there]

    @cached_property
    def _normal(self) -> tuple[Array, Array]:
        """J^T J [Q, Q] and J^T r [Q] of a wide J, which is that of many segments, and sparse."""
        sparse = csr_array(self.point.jacobian / self.size)
        return np.asarray((sparse.T @ sparse).toarray()), np.asarray(sparse.T @ self.point.residual)

    @property
    def removable(self) -> float:
        """The length of the part of the residuals that a Gauss-Newton step would remove."""
        return float(np.linalg.norm(self._singular[1]))

    def _damped(self, damping: float) -> tuple[Array, float, float]:
        """The step p [Q] of (J^T J + damping) p = -J^T r, p^T J^T r, and -|p| d|p| / d damping.

        Directions that have no say are left out.
        """
        if len(self.size) > WIDE:
            normal, slope = self._normal
            shifted = normal.copy()
            shifted[np.diag_indices_from(shifted)] += damping
            try:
                factor = cho_factor(shifted, lower=True, overwrite_a=True)
                step = -cho_solve(factor, slope)
                bent = solve_triangular(factor[0], step, lower=True)
                return step, float(step @ slope), float(bent @ bent)
            except np.linalg.LinAlgError:  # not positive definite to round-off
                pass
        s, along, vt = self._singular
        weight = s * along / (s * s + damping)
        return -vt.T @ weight, -float(weight @ (s * along)), float((weight * weight / (s * s + damping)).sum())

    def step(self, radius: float, damping: float = 0.0) -> tuple[Array, float, float]:
        """The step [Q] of length `radius` at most, in units of size, how much the cost would fall, and its damping.

        Without damping it is that of Gauss and Newton. `damping` is a guess of what keeps the step within the radius.
        """
        step, slope, bent = self._damped(damping)
        length = float(np.linalg.norm(step))
        for _ in range(ROUNDS):
            if not length or (length <= radius * (1.0 + WITHIN) and (not damping or length >= radius * (1.0 - WITHIN))):
                break
            damping = max(0.0, damping + length / bent * length * (length - radius) / radius)
            step, slope, bent = self._damped(damping)
            length = float(np.linalg.norm(step))
        part = min(1.0, radius / length) if length > 0 else 1.0
        curve = -slope - damping * length * length  # |J p|^2
        return part * step, -part * slope - 0.5 * part * part * curve, damping


def removable(point: Point) -> float:
    """The length of the part of the residuals that a Gauss-Newton step would remove."""
    return Linearised(point, column_sizes(point)).removable


def optimal(problem: Problem, point: Point) -> bool:
    """Whether a point is as good as the optimum: a tenth of a standard error away from it, or less."""
    return removable(point) <= max(NEARLY * float(np.linalg.norm(point.residual)) * share(point), 1e3 * problem.floor)


def share(point: Point) -> float:
    """The part of the length of white residuals that a standard error of every unknown makes up."""
    return float(np.sqrt(len(point.x) / max(len(point.residual) - len(point.x), 1)))
