"""What is read out of the unknowns, with errors propagated from theirs to first order."""

from __future__ import annotations

import math

import numpy as np
import torch

from physid.fitting.estimates import Estimate
from physid.fitting.statistics import Statistics
from physid.fitting.vector import Array, Vector, labels, numbers_of

TOLD = 1e-3  # a part of the weights in directions that the data do not tell, above which there is no error


def read_out(vector: Vector, start: Array, x: Array, statistics: Statistics | None) -> list[Estimate]:
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
            plain, robust, reach = errors(by, statistics)
            value = float(one.value.detach().reshape(-1)[i])
            low, high = (None, None) if reach is None else (value - reach, value + reach)
            begun = float(before[name][i])
            found.append(Estimate(label, value, plain, low, high, one.unit, begun, truth[i], robust, of="derived"))
    return found


def slopes_of(vector: Vector, value: torch.Tensor) -> Array:
    """The derivative [K, P] of `value` [K] by the raw parameters."""
    rows = []
    for element in value:
        parts = torch.autograd.grad(element, vector.raws, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.reshape(-1) for part in parts]).double().cpu().numpy())
    return np.stack(rows)


def errors(by: Array, statistics: Statistics | None) -> tuple[float | None, float | None, float | None]:
    """Standard errors, plain and robust, and half the 95 % interval of a quantity with derivative `by` [Q]."""
    if statistics is None or statistics.verdict == "no optimum":
        return None, None, None
    if np.linalg.norm(by[~statistics.identifiable]) > TOLD * np.linalg.norm(by):
        return None, None, None
    plain, robust, best = (
        math.sqrt(max(float(by @ matrix @ by), 0.0))
        for matrix in (statistics.covariance, statistics.robust, statistics.best)
    )
    if not math.isfinite(best):
        return None, None, None
    return plain, None if statistics.robust_reason else robust, statistics.quantile() * best
