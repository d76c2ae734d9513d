"""Estimates: every unknown with its errors, its interval and where it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from physid.fitting.statistics import Statistics
from physid.fitting.vector import Array, Vector
from physid.unknown import Domain

TOLD = 3.0  # standard errors from a bound at which a value is told from it


@dataclass(frozen=True)
class Estimate:
    """One identified number in its natural unit; None for what is not known.

    `stderr` is the standard error for independent residuals, `robust` the autocorrelation-consistent one; `low` and
    `high` bound the 95 % interval, made in the transformed space and mapped back, so that it stays in the domain.
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


def estimate(vector: Vector, start: Array, x: Array, statistics: Statistics | None) -> list[Estimate]:
    """The estimates at `x` of a fit that began at `start`."""
    values, starts, truth = vector.natural(x), vector.natural(start), vector.truth()
    plain, robust, low, high = _intervals(vector, x, statistics)
    found, unknowns = [], vector.model.unknowns
    for i, entry in enumerate(vector.entries):
        found.append(
            Estimate(
                name=entry.name,
                value=float(values[i]),
                stderr=_number(plain[i]),
                low=_number(low[i]),
                high=_number(high[i]),
                unit=entry.unit,
                start=float(starts[i]),
                truth=truth[i],
                robust=_number(robust[i]),
                at_bound=_at_bound(entry.domain, float(values[i]), float(starts[i]), float(plain[i])),
                of=entry.owner,
                listed=entry.owner not in unknowns or unknowns[entry.owner].listed,
            )
        )
    return found


def _at_bound(domain: Domain, value: float, start: float, error: float) -> bool:
    """Whether a value has gone to a bound of its domain, judged by its own scale.

    It is within a millionth of the range, on a half line of the distance at which the fit began, and the data do not
    tell it from the bound: a rate of 2e-7 +- 5e-10 is small, and known.
    """
    size = abs(start - domain.low) if math.isfinite(domain.low) else 1.0
    if not bool(domain.at_bound(torch.tensor(value, dtype=torch.float64), size=size or 1.0)):
        return False
    return not min(value - domain.low, domain.high - value) > TOLD * error


def _intervals(vector: Vector, x: Array, statistics: Statistics | None) -> tuple[Array, Array, Array, Array]:
    """Standard errors, plain and robust, and the ends of the 95 % intervals, all [Q] in natural units."""
    none = np.full(len(x), np.nan)
    if statistics is None or statistics.verdict == "no optimum":
        return none, none, none, none
    slopes = np.abs(vector.slopes(x))
    there = np.where(statistics.identifiable, 1.0, np.nan)
    errors = {name: np.sqrt(np.diag(getattr(statistics, name))) * there for name in ("covariance", "robust")}
    if statistics.robust_reason:
        errors["robust"] = none
    reach = statistics.quantile() * np.sqrt(np.diag(statistics.best)) * there
    with np.errstate(over="ignore"):
        low, high = vector.natural(x - reach), vector.natural(x + reach)
    return errors["covariance"] * slopes, errors["robust"] * slopes, low, high


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
