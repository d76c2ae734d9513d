"""Estimates: each unknown's value, standard errors, interval, start and unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from physid.arrays import Array
from physid.inference.parameters import ParameterVector, VectorEntry
from physid.inference.uncertainty.statistics import FitStatistics
from physid.modelling.unknown import Domain

TOLD = 3.0  # standard errors from a bound from which a value differs from it
EVERYTHING = 1e3  # a factor on both sides of a positive value within which an interval says something
WHOLE = 0.999  # of a bounded domain, which an interval that says something does not cover


@dataclass(frozen=True)
class Estimate:
    """One identified number in its natural unit; None for what is not known.

    `stderr` is the standard error by the covariance that was chosen, `plain` (for independent residuals) and `robust`
    (autocorrelation-consistent) are both by name; `low` and `high` bound the 95 % interval, made in the transformed
    space and mapped back, so that it stays in the domain. `undetermined` says that the data leave it open: it has a
    part in a direction that they do not see, or its interval covers zero to everything.
    `of` is the unknown that it belongs to, "initial" for the initial state. Weights of a network are not `listed`.
    """

    name: str
    value: float
    stderr: float | None
    low: float | None
    high: float | None
    unit: str
    start: float
    truth: float | None
    robust: float | None = None
    at_bound: bool = False
    of: str = ""
    listed: bool = True
    plain: float | None = None
    undetermined: bool = False


def estimate(vector: ParameterVector, start: Array, x: Array, statistics: FitStatistics | None) -> list[Estimate]:
    """The estimates at `x` of a fit that began at `start`."""
    values, starts, truth = vector.natural(x), vector.natural(start), vector.truth()
    best, plain, robust, low, high = _intervals(vector, x, statistics)
    found, unknowns = [], vector.model.unknowns
    for i, entry in enumerate(vector.entries):
        bound = _at_bound(entry.domain, float(values[i]), float(starts[i]), float(best[i]))
        found.append(
            Estimate(
                name=entry.name,
                value=float(values[i]),
                stderr=_number(best[i]),
                low=_number(low[i]),
                high=_number(high[i]),
                unit=entry.unit,
                start=float(starts[i]),
                truth=truth[i],
                robust=_number(robust[i]),
                at_bound=bound,
                of=entry.owner,
                listed=entry.owner not in unknowns or unknowns[entry.owner].listed,
                plain=_number(plain[i]),
                undetermined=_open(entry, float(values[i]), low[i], high[i], statistics, i, bound),
            )
        )
    return found


def _at_bound(domain: Domain, value: float, start: float, error: float) -> bool:
    """Whether a value is at a bound of its domain, judged by its own scale.

    It is within a millionth of the range, on a half line of the distance at which the fit began, and the data do not
    tell it from the bound: a rate of 2e-7 +- 5e-10 is small, and known.
    """
    size = abs(start - domain.low) if math.isfinite(domain.low) else 1.0
    if not bool(domain.at_bound(torch.tensor(value, dtype=torch.float64), size=size or 1.0)):
        return False
    return not min(value - domain.low, domain.high - value) > TOLD * error


def _intervals(
    vector: ParameterVector, x: Array, statistics: FitStatistics | None
) -> tuple[Array, Array, Array, Array, Array]:
    """Standard errors, chosen, plain and robust, and the ends of the 95 % intervals, all [Q] in natural units."""
    none = np.full(len(x), np.nan)
    if statistics is None or not statistics.usable:
        return none, none, none, none, none
    slopes = np.abs(vector.slopes(x))
    there = np.where(statistics.identifiable, 1.0, np.nan)
    matrices = (statistics.best, statistics.covariance, statistics.robust)
    best, plain, robust = (np.sqrt(np.diag(matrix)) * there for matrix in matrices)
    if statistics.robust_reason:
        robust = none
    reach = statistics.quantile() * best
    with np.errstate(over="ignore"):
        low, high = vector.natural(x - reach), vector.natural(x + reach)
    return best * slopes, plain * slopes, robust * slopes, low, high


def _open(
    entry: VectorEntry, value: float, low: float, high: float, statistics: FitStatistics | None, i: int, bound: bool
) -> bool:
    """Whether the data leave an unknown open, as far as there are errors to say so; at a bound they mean nothing."""
    if statistics is None or not statistics.usable or statistics.reason:
        return False
    if not statistics.identifiable[i] or bound:
        return not bool(statistics.identifiable[i])
    bottom, top = entry.domain.low, entry.domain.high
    if math.isfinite(bottom) and math.isfinite(top):
        return bool(high - low > WHOLE * (top - bottom))
    if math.isfinite(bottom):
        size = value - bottom
        return bool(low - bottom < size / EVERYTHING and not high - bottom < size * EVERYTHING)
    return not (math.isfinite(low) and math.isfinite(high))


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
