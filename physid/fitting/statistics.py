"""What an optimum says of the unknowns: covariance, plain and robust, what is not identifiable, residual tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from physid.fitting.combinations import echelon, told
from physid.fitting.criteria import criteria
from physid.fitting.lm import compressed, optimal
from physid.fitting.problem import Point, Problem, tolerance
from physid.fitting.vector import Array

RANK = 1e-8  # a singular value of the scaled Jacobian below this part of the largest is none
SIGNIFICANT = 1e-3  # p values below this count against the model
PRECISION = 100.0  # residuals up to this many times the solver's tolerance are the solver's own
LAGS = 10
FEWEST = 10  # times that robust errors need
NO_OPTIMUM = (
    "These values are no optimum of least squares: neither standard errors nor residuals tell whether the model is "
    "right. Fit on, or use optimizer lm."
)


@dataclass(frozen=True)
class Statistics:
    """Uncertainty of the vector x at the optimum, and tests of the residuals.

    `covariance` [Q, Q] (errors independent of one another) and `robust` (heteroskedasticity- and autocorrelation-
    consistent) are those of the transformed unknowns, without the directions that the data do not tell; `identifiable`
    [Q] says which unknowns have no part in such a direction.
    `dof` are the degrees of freedom, `sigma` the noise: known, or estimated from the residuals. `hidden` names the
    directions that the data do not tell, and `told` the combinations that they do tell of the unknowns in those.
    `reason` says why there are no errors, `robust_reason` why the robust ones are not to be had. `verdict` is
    "adequate", "inadequate", "exact", "not tested" or "no optimum".
    """

    covariance: Array
    robust: Array
    identifiable: NDArray[np.bool_]
    dof: int
    sigma: float | None
    sigma_known: bool
    rms: float
    condition: float
    hidden: list[str]
    told: list[str] = field(default_factory=list)
    tests: dict[str, Any] = field(default_factory=dict)
    verdict: str = "not tested"
    sentence: str = ""
    reason: str = ""
    robust_reason: str = ""

    @property
    def chosen(self) -> str:
        """Which errors the intervals are made of: the larger of both where the residuals are structured, else plain."""
        return "larger" if self.verdict in ("inadequate", "exact") else "plain"

    @property
    def best(self) -> Array:
        """The covariance [Q, Q] that the intervals are made of: the plain one, or the robust one raised to it."""
        if self.chosen == "plain":
            return self.covariance
        plain, robust = np.sqrt(np.diag(self.covariance)), np.sqrt(np.diag(self.robust))
        raised = np.where(robust > 0, np.maximum(plain, robust) / np.where(robust > 0, robust, 1.0), 1.0)
        return np.asarray(self.robust * np.outer(raised, raised))

    def quantile(self, level: float = 0.95) -> float:
        """The two-sided quantile: Student's t, normal when the noise is known."""
        p = 0.5 + level / 2
        return float(stats.norm.ppf(p) if self.sigma_known or self.dof <= 0 else stats.t.ppf(p, self.dof))


def assess(problem: Problem, point: Point) -> Statistics:
    """The statistics of the optimum `point`."""
    known = bool(problem.sigma)
    dof = len(point.residual) - len(point.x)
    data = point.residual[: problem.count]
    rms = float(np.linalg.norm(data)) * problem.scale
    scored = problem.scored(point)
    size = np.linalg.norm(scored.jacobian, axis=0)
    size = np.where(size > 0, size, 1.0)
    scaled = scored.jacobian / size
    narrow = compressed(scored).jacobian / size
    _, s, vt = np.linalg.svd(narrow, full_matrices=False)
    vt, s = _full(vt, s, len(point.x))
    seen = s > RANK * s[0] if s[0] > 1e-100 else np.zeros_like(s, dtype=bool)
    inverse = (vt[seen].T / s[seen] ** 2) @ vt[seen]
    lost = np.any(np.abs(vt[~seen]) > 1e-3, axis=0)
    square = 1.0 / problem.count if known else (2.0 * point.cost / dof if dof > 0 else np.nan)
    plain = inverse * (1.0 / problem.count if known else (2.0 * scored.cost / dof if dof > 0 else np.nan))
    meat = _meat(problem, scored, scaled) * (problem.count / max(dof, 1))
    values, vectors = np.linalg.eigh(meat)
    half = inverse @ (vectors * np.sqrt(np.maximum(values, 0.0)))  # so that no variance comes out below zero
    robust = half @ half.T
    series = _series(problem, data)
    tests = {**whiteness(series), **criteria(problem, point, series)}
    if known and dof > 0:
        tests["chi_squared_per_dof"] = 2.0 * point.cost * problem.count / dof
        tests["chi_squared_p"] = float(stats.chi2.sf(2.0 * point.cost * problem.count, dof))
    verdict, sentence = judge(problem, rms, tests)
    if not optimal(problem, point):
        verdict, sentence = "no optimum", NO_OPTIMUM
    return Statistics(
        covariance=plain / np.outer(size, size),
        robust=robust / np.outer(size, size),
        identifiable=~lost,
        dof=dof,
        sigma=problem.sigma if known else (float(np.sqrt(square * problem.count)) * problem.scale if dof > 0 else None),
        sigma_known=known,
        rms=rms,
        condition=float(s[0] / s[-1]) if s[-1] > 0 else float("inf"),
        hidden=[_direction(problem, row) for row in echelon(vt[~seen] / size)],
        told=told(vt[seen] * size, problem.vector.entries) if lost.any() else [],
        tests=tests,
        verdict=verdict,
        sentence=sentence,
        reason="" if dof > 0 or known else "there are no more observations than unknowns",
        robust_reason=_robust_reason(problem, scored, scaled),
    )


def judge(problem: Problem, rms: float, tests: dict[str, Any]) -> tuple[str, str]:
    """Whether the model is adequate, with the reason as a sentence."""
    measured = problem.measured[problem.mask]
    reach = PRECISION * tolerance(problem.integrator, float(np.sqrt((measured**2).mean())))
    unit = f" {problem.experiment.unit}" if problem.experiment.unit else ""
    size = f"{rms:.3g}{unit}, {rms / problem.spread:.1g} of the data's spread"
    p, level = tests["whiteness_p"], tests.get("chi_squared_p")
    if rms <= reach and not problem.sigma:
        return "exact", (
            f"The model reproduces the data to the solver's precision (rms {rms:.2g}{unit}); "
            "there is no noise to tell the standard errors by, and they do not bound the solver's own error."
        )
    if p is None:
        return "not tested", "There are too few observations to test whether the residuals are noise."
    faults = []
    if p < SIGNIFICANT:
        faults.append(f"the residuals (rms {size}) are correlated in time (Ljung-Box {_probability(p)})")
    if level is not None and level < SIGNIFICANT:
        faults.append(
            f"they exceed the known noise (chi-squared {tests['chi_squared_per_dof']:.3g} per degree of freedom)"
        )
    if faults:
        return "inadequate", (
            f"Something is missing: {' and '.join(faults)}. The model does not explain all of the data; "
            "estimates may be biased by more than any standard error says."
        )
    return "adequate", f"The residuals (rms {size}) are like independent noise (Ljung-Box {_probability(p)})."


def _probability(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-16 else "p < 1e-16"


def whiteness(series: list[Array]) -> dict[str, Any]:
    """The Ljung-Box test, pooled over channels: n (n + 2) sum_k rho_k^2 / (n - k) is chi-squared under independence.

    Source: Ljung and Box (1978).
    """
    total, lags, first, weight = 0.0, 0, 0.0, 0
    largest = max((float(np.sqrt((r**2).mean())) for r in series if len(r)), default=0.0)
    for r in series:
        n, most = len(r), min(LAGS, len(r) // 5)
        if most < 1 or float(np.sqrt((r**2).mean())) <= 1e-6 * largest:
            continue
        rho = np.array([float(r[k:] @ r[:-k]) for k in range(1, most + 1)]) / float(r @ r)
        total += n * (n + 2) * float((rho**2 / (n - np.arange(1, most + 1))).sum())
        lags, first, weight = lags + most, first + n * rho[0], weight + n
    if not lags:
        return {"whiteness_p": None, "whiteness_lags": 0, "autocorrelation": None}
    return {
        "whiteness_p": float(stats.chi2.sf(total, lags)),
        "whiteness_lags": lags,
        "autocorrelation": float(first / weight),
    }


def _series(problem: Problem, data: Array) -> list[Array]:
    """The residuals of each channel in the order of time, without what was not measured."""
    table = np.full(problem.mask.shape, np.nan)
    table[problem.mask] = data
    return [column[np.isfinite(column)] for column in table.T]


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
    """Why there are no robust errors, if there are none to be had."""
    scores = _scores(problem, point, scaled)
    if len(scores) < FEWEST:
        return f"{len(scores)} times are too few to tell the correlation of the residuals by; {FEWEST} are needed"
    if _bandwidth(scores) >= len(scores) // 3:
        return "the residuals are correlated over more than a third of the record, which is too short to tell how much"
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


def _direction(problem: Problem, row: Array) -> str:
    """A direction of x as a combination of unknowns, in logarithms where the domain is a half line."""
    row = row / np.abs(row).max()
    parts = []
    for weight, entry in zip(row, problem.vector.entries, strict=True):
        if abs(weight) > 1e-3:
            half = np.isfinite(entry.domain.low) and not np.isfinite(entry.domain.high)
            name = f"log({entry.name})" if half else entry.name
            parts.append(f"{weight:+.3g} {name}")
    return " ".join(parts).removeprefix("+")
