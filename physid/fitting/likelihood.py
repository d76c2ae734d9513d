"""The likelihood of a fit, as a density of the data in their own unit, with AIC and BIC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from physid.fitting.problem import Point, Problem


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
    weights, noise = problem.weights, problem.noise
    if noise.loss != "linear" or point.seen is None:
        return None
    channels = problem.experiment.channels
    alone = weights.unknown.any(0)
    out = weights.limited & alone
    if not any(one.sigma for one in problem.experiments):
        out = out | np.array([name in floor for name in channels])
    mask = problem.mask & ~out
    if not mask.any():
        return None
    errors = noise.errors(point.seen, problem.measured)[mask]
    if noise.estimated:
        estimated = len(set(weights.groups[alone & ~out].tolist()))
        scales = weights.scales
        used = [np.unique(column[rows]) for column, rows in zip(scales.T, problem.mask.T, strict=True)]
        sigmas = {name: float(one[0]) for name, one in zip(channels, used, strict=True) if len(one) == 1}
    elif all(one.sigma for one in problem.experiments):
        estimated, scales = 0, weights.scales
        sigmas = dict.fromkeys(channels, weights.size) if len(np.unique(scales)) == 1 else {}
    else:
        common = float(np.sqrt(np.mean(errors**2)))
        estimated, scales, sigmas = 1, np.full(mask.shape, common), dict.fromkeys(channels, common)
    if not (scales[mask] > 0).all():
        return None
    value = noise.log_likelihood(errors, scales[mask], problem.measured[mask])
    k, n = len(point.x) + estimated, int(mask.sum())
    left = [name for name, flag in zip(channels, out, strict=True) if flag]
    return Likelihood(noise.kind, value, 2 * k - 2 * value, k * math.log(n) - 2 * value, k, n, sigmas, left)
