"""Figures of merit at an optimum: log-likelihood, AIC and BIC, fit in per cent, and whether residuals are normal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from physid.fitting.likelihood import likelihood
from physid.fitting.vector import Array

if TYPE_CHECKING:
    from physid.fitting.problem import Point, Problem

FEWEST = 20  # residuals that a test of normality needs


def criteria(problem: Problem, point: Point, series: list[Array], floor: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of merit, as data; the channels of `floor` have no noise, and no part in the likelihood."""
    return {
        **information(problem, point, floor),
        "fit_percent": fit_percent(problem, point, series),
        **normality(series),
    }


def information(problem: Problem, point: Point, floor: Sequence[str] = ()) -> dict[str, Any]:
    """The log-likelihood of the data under normal noise, and AIC = 2 k - 2 log L, BIC = k log N - 2 log L.

    log L = -(N log(2 pi sigma^2) + S / sigma^2) / 2 over N observations; with an estimated noise sigma^2 = S / N, which
    then counts among the k unknowns. Source: Akaike (1974); Schwarz (1978).
    """
    if (
        floor
        or problem.noise.estimated
        or problem.noise.loss != "linear"
        or len({one.sigma for one in problem.experiments}) > 1
    ):
        found, names = likelihood(problem, point, floor), ("log_likelihood", "aic", "bic")
        return {name: None if found is None else getattr(found, name) for name in names}
    count, unknowns = problem.count, len(point.x)
    data = point.residual[:count]
    squares = float(data @ data) * count * problem.scale**2
    known = problem.sigma
    if not known and squares <= 0.0:
        return {"log_likelihood": None, "aic": None, "bic": None}
    variance = known**2 if known else squares / count
    value = -0.5 * (count * float(np.log(2 * np.pi * variance)) + squares / variance)
    k = unknowns + (0 if known else 1)
    return {"log_likelihood": value, "aic": 2 * k - 2 * value, "bic": k * float(np.log(count)) - 2 * value}


def fit_percent(problem: Problem, point: Point, series: list[Array]) -> float | None:
    """100 (1 - |predicted - measured| / |measured - mean|), the mean over the channels that move.

    Source: Ljung (1999), as in system identification at large; 100 is perfect, 0 no better than the mean.
    """
    found = []
    for channel, residual in enumerate(series):
        rows = problem.mask[:, channel]
        measured = problem.measured[rows, channel]
        spread = float(np.linalg.norm(measured - measured.mean())) if len(measured) else 0.0
        if spread > 0:
            plain = residual / problem.weight if point.seen is None else point.seen[rows, channel] - measured
            found.append(1.0 - float(np.linalg.norm(plain)) / spread)
    return 100.0 * float(np.mean(found)) if found else None


def normality(series: list[Array]) -> dict[str, Any]:
    """The test of D'Agostino and Pearson (1973) on the residuals, each channel in units of its own deviation."""
    parts = [(r - r.mean()) / r.std() for r in series if len(r) > 2 and r.std() > 0]
    pooled = np.concatenate(parts) if parts else np.zeros(0)
    if len(pooled) < FEWEST:
        return {"normality_p": None, "skewness": None, "kurtosis": None}
    return {
        "normality_p": float(stats.normaltest(pooled).pvalue),
        "skewness": float(stats.skew(pooled)),
        "kurtosis": float(stats.kurtosis(pooled)),
    }
