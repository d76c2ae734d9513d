"""Derived quantities and identifiable combinations of the unknowns, with first-order standard errors."""

from __future__ import annotations

import math

import numpy as np
import torch

from physid.arrays import Array
from physid.inference.parameters import ParameterVector, labels, numbers_of
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.identifiability import coordinates, value_of
from physid.inference.uncertainty.statistics import FitStatistics

TOLD = 1e-3  # a part of the weights in directions that the data do not determine, above which there is no error


def read_out(vector: ParameterVector, start: Array, x: Array, statistics: FitStatistics | None) -> list[Estimate]:
    """The model's derived quantities at `x`; the variance of each is g C g^T, with g its derivative by x.

    Source: the delta method, as in Oehlert (1992).
    """
    local, columns = vector.vectors[0], vector.columns[0]
    local.put(start[columns])
    before = {name: one.value.detach().double().cpu().reshape(-1) for name, one in local.model.derived().items()}
    local.put(x[columns])
    found = []
    for name, one in local.model.derived().items():
        truth = numbers_of(local.experiment.truth.get(name), one.value.numel())
        slopes = slopes_of(local, one.value.reshape(-1))
        for i, label in enumerate(labels(name, one.value.shape)):
            by = np.zeros(len(x))
            by[columns[: local.parameters]] = slopes[i]
            plain, robust, best = errors(by, statistics)
            reach = None if best is None or statistics is None else statistics.quantile() * best
            value = float(one.value.detach().reshape(-1)[i])
            low, high = (None, None) if reach is None else (value - reach, value + reach)
            begun = float(before[name][i])
            found.append(
                Estimate(label, value, best, low, high, one.unit, begun, truth[i], robust, of="derived", plain=plain)
            )
    return found


def combined(vector: ParameterVector, start: Array, x: Array, statistics: FitStatistics | None) -> list[Estimate]:
    """The identifiable combinations at `x`: those that the data determine of unknowns that they do not one by one.

    A product has the relative error sqrt(w C w), w its powers, and an interval that stays above zero.
    """
    if statistics is None or not statistics.powers:
        return []
    entries, truths = vector.entries, vector.truth()
    scale, natural = coordinates(entries, vector.slopes(x)), vector.natural(x)
    found = []
    for name, powers in zip(statistics.identifiable_combinations, statistics.powers, strict=True):
        weights = np.array(powers)
        value, product = value_of(weights, natural, entries)
        if not math.isfinite(value):  # of an unknown that has run into its bound
            continue
        used = [truths[i] for i in np.flatnonzero(weights)]
        filled = np.array([natural[i] if truth is None else truth for i, truth in enumerate(truths)])
        truth = value_of(weights, filled, entries)[0] if all(one is not None for one in used) else None
        plain, robust, best = _sizes(weights * scale, statistics)
        low = high = None
        if best is not None:
            reach = statistics.quantile() * best
            with np.errstate(over="ignore"):
                ends = value * np.exp([-reach, reach]) if product else value + np.array([-reach, reach])
            low, high = (float(end) if math.isfinite(end) else None for end in ends)
        unit = abs(value) if product else 1.0
        plain, robust, best = (None if one is None else one * unit for one in (plain, robust, best))
        begun = value_of(weights, vector.natural(start), entries)[0]
        found.append(Estimate(name, value, best, low, high, "", begun, truth, robust, of="combination", plain=plain))
    return found


def slopes_of(vector: ParameterVector, value: torch.Tensor) -> Array:
    """The derivative [K, P] of `value` [K] by the raw parameters."""
    rows = []
    for element in value:
        parts = torch.autograd.grad(element, vector.raws, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.reshape(-1) for part in parts]).double().cpu().numpy())
    return np.stack(rows)


def errors(by: Array, statistics: FitStatistics | None) -> tuple[float | None, float | None, float | None]:
    """Standard errors of a quantity with derivative `by` [Q]: plain, robust, and the one that was chosen."""
    if statistics is None or np.linalg.norm(by[~statistics.identifiable]) > TOLD * np.linalg.norm(by):
        return None, None, None
    return _sizes(by, statistics)


def _sizes(by: Array, statistics: FitStatistics) -> tuple[float | None, float | None, float | None]:
    """The same of what the data are known to determine."""
    if not statistics.usable:
        return None, None, None
    plain, robust, best = (
        math.sqrt(max(float(by @ matrix @ by), 0.0))
        for matrix in (statistics.covariance, statistics.robust, statistics.best)
    )
    if not math.isfinite(best):
        return None, None, None
    return plain, None if statistics.robust_reason else robust, best
