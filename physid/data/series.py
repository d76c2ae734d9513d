"""Series: a batch of irregular time series, with the observed values and the times to predict."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Series(NamedTuple):
    """B series of C channels on common times [T], of which each was observed at times of its own.

    `values` [B, T, C] and `observed` [B, T, C], which is 1 where a value was seen and 0 where `values` holds a 0;
    `targets` [B, T, C] and `wanted` [B, T, C] likewise for what a model has to predict.
    """

    times: Tensor
    values: Tensor
    observed: Tensor
    targets: Tensor
    wanted: Tensor
