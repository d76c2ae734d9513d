"""Covariance of the unknowns: under independent residuals, and a consistent one under correlated residuals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physid.arrays import Array
from physid.inference.problem import Point, Problem
from physid.inference.search.optimality import compressed

RANK = 1e-8  # a singular value of the scaled Jacobian below this part of the largest is none
ROUND = 1e-12  # an entry of a unit vector below this is round-off
FEWEST = 10  # times that robust errors need


@dataclass(frozen=True)
class Covariances:
    """Both covariances [Q, Q] of the transformed unknowns, without the directions that the data do not determine.

    `plain` holds for residuals independent of one another, `robust` also for heteroscedastic and autocorrelated ones.
    `seen` [R, Q] and `unseen` [Q - R, Q] span the directions of x that the data determine and do not, `identifiable`
    [Q] says which unknowns have no part in the latter. `dof` are the residuals less the directions seen.
    `robust_reason` says why there are no robust errors, if so.
    """

    plain: Array
    robust: Array
    identifiable: NDArray[np.bool_]
    seen: Array
    unseen: Array
    condition: float
    dof: int
    robust_reason: str


def covariances(problem: Problem, point: Point, known: bool, silent: int = 0) -> Covariances:
    """Both covariances at the optimum; plain = s^2 (J^T J)^-1, robust = (J^T J)^-1 M (J^T J)^-1.

    The `silent` residuals, of channels that are met to the solver's error, hold nothing of the noise's size s.
    """
    scored = problem.scored(point)
    size = np.linalg.norm(scored.jacobian, axis=0)
    size = np.where(size > 0, size, 1.0)
    scaled = scored.jacobian / size
    _, s, vt = np.linalg.svd(compressed(scored).jacobian / size, full_matrices=False)
    vt, s = _full(vt, s, len(point.x))
    seen = s > RANK * s[0] if s[0] > 1e-100 else np.zeros_like(s, dtype=bool)
    dof = len(point.residual) - silent - int(seen.sum())
    inverse = (vt[seen].T / s[seen] ** 2) @ vt[seen]
    plain = inverse * (1.0 / problem.count if known else (2.0 * scored.cost / dof if dof > 0 else np.nan))
    meat = _meat(problem, scored, scaled) * (problem.count / max(dof, 1))
    values, vectors = np.linalg.eigh(meat)
    half = inverse @ (vectors * np.sqrt(np.maximum(values, 0.0)))  # so that no variance comes out below zero
    return Covariances(
        plain=plain / np.outer(size, size),
        robust=half @ half.T / np.outer(size, size),
        identifiable=~np.any(np.abs(vt[~seen]) > 1e-3, axis=0),
        seen=np.where(np.abs(vt[seen]) > ROUND, vt[seen], 0.0) * size,
        unseen=vt[~seen] / size,
        condition=float(s[0] / s[-1]) if s[-1] > 0 else float("inf"),
        dof=dof,
        robust_reason=_robust_reason(problem, scored, scaled),
    )


def _meat(problem: Problem, point: Point, scaled: Array) -> Array:
    """The long-run covariance sum [Q, Q] of the scores J_t^T r_t, with Bartlett weights and Andrews' bandwidth.

    Source: Newey and West (1987); Andrews (1991), equations 6.2 and 6.4.
    """
    scores = _scores(problem, point, scaled)
    meat = scores.T @ scores
    width = _bandwidth(scores)
    for lag in range(1, width + 1):
        cross = scores[lag:].T @ scores[:-lag]
        meat += (1.0 - lag / (width + 1.0)) * (cross + cross.T)
    return np.asarray(meat)


def _scores(problem: Problem, point: Point, scaled: Array) -> Array:
    """The scores J_t^T r_t [T, Q] of the times at which something was measured."""
    times = np.nonzero(problem.mask)[0]
    rows = scaled[: problem.count] * point.residual[: problem.count, None]
    scores = np.zeros((len(problem.mask), scaled.shape[1]))
    np.add.at(scores, times, rows)
    return np.asarray(scores[problem.mask.any(1)])


def _robust_reason(problem: Problem, point: Point, scaled: Array) -> str:
    """Why there are no robust errors, if there are none."""
    scores = _scores(problem, point, scaled)
    if len(scores) < FEWEST:
        return f"{len(scores)} times are too few for the correlation of the residuals; {FEWEST} are needed"
    if _bandwidth(scores) >= len(scores) // 3:
        return "the residuals are correlated over more than a third of the record, which is too short to estimate it"
    return ""


def _bandwidth(scores: Array) -> int:
    """Andrews' bandwidth for Bartlett weights from first-order autoregressions of the scores [T, Q]."""
    count = len(scores)
    if count < 5:
        return 0
    variance = (scores**2).sum(0)
    rho = np.clip((scores[1:] * scores[:-1]).sum(0) / np.where(variance > 0, variance, 1.0), -0.97, 0.97)
    noise = (variance * (1 - rho**2)) ** 2
    below = (noise / (1 - rho) ** 4).sum()
    if not below > 0:
        return 0
    alpha = (4 * rho**2 * noise / ((1 - rho) ** 6 * (1 + rho) ** 2)).sum() / below
    return int(min(1.1447 * (alpha * count) ** (1 / 3), count // 3))


def _full(vt: Array, s: Array, count: int) -> tuple[Array, Array]:
    """All right singular vectors [Q, Q], also with fewer rows than columns."""
    if len(s) == count:
        return vt, s
    rest = np.linalg.svd(vt)[2][len(s) :]
    return np.concatenate([vt, rest]), np.concatenate([s, np.zeros(count - len(s))])
