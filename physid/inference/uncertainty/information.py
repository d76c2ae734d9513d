"""Information criteria at an optimum: log-likelihood, AIC, AICc, BIC, and fit in per cent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from physid.arrays import Array
from physid.inference.problem import Point, Problem

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
        or not problem.noise.likelihood
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


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of the measurements, aic = 2 k - 2 L, bic = k log N - 2 L, and the sigma of every channel.

    Channels whose sigma is at its floor are left out, as they hold no noise to speak of: `left_out` names them. k
    counts the unknowns and every estimated sigma; `sigmas` are the maximum-likelihood ones (divided by N, not by the
    degrees of freedom), of the logarithms for log-normal noise, the scale for Student's t.

    Source: Akaike (1974); Schwarz (1978).
    """

    noise: str
    log_likelihood: float
    aic: float
    bic: float
    parameters: int
    observations: int
    sigmas: dict[str, float]
    left_out: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """The same as JSON can say it."""
        return dict(vars(self))


def likelihood(problem: Problem, point: Point, floor: Sequence[str] = ()) -> Likelihood | None:
    """The likelihood at `point`; None with a robust loss, which is none, and where the residuals vanish.

    Without known noise, the channels of `floor` are at the solver's error, and left out too.
    """
    weights, noise = problem.residuals, problem.noise
    if not noise.likelihood or point.seen is None:
        return None
    channels = problem.experiment.channels
    alone = weights.unknown.any(0)
    out = weights.limited & alone
    if not any(one.sigma for one in problem.experiments):
        out = out | np.array([name in floor for name in channels])
    mask = problem.mask & ~out
    if not mask.any():
        return None
    pair = (point.seen[mask], problem.measured[mask])
    if noise.estimated:
        estimated = len(set(weights.groups[alone & ~out].tolist()))
        scales = weights.scales
        used = [np.unique(column[rows]) for column, rows in zip(scales.T, problem.mask.T, strict=True)]
        sigmas = {name: float(one[0]) for name, one in zip(channels, used, strict=True) if len(one) == 1}
    elif all(one.sigma for one in problem.experiments):
        estimated, scales = 0, weights.scales
        sigmas = dict.fromkeys(channels, weights.size) if len(np.unique(scales)) == 1 else {}
    else:
        common = noise.sigma(*pair, problem.spread)
        estimated, scales, sigmas = 1, np.full(mask.shape, common), dict.fromkeys(channels, common)
    if not (scales[mask] > 0).all():
        return None
    value = float(noise.log_density(*pair, scales[mask]).sum())
    k, n = len(point.x) + estimated, int(mask.sum())
    left = [name for name, flag in zip(channels, out, strict=True) if flag]
    return Likelihood(noise.name, value, 2 * k - 2 * value, k * math.log(n) - 2 * value, k, n, sigmas, left)
