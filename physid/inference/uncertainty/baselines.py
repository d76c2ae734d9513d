"""Trivial forecasters, as baselines for any model: last value, mean, and straight line of the training part."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory

LAST, MEAN, LINE = "last value", "mean", "straight line"


def trivial_scores(experiments: Sequence[Experiment]) -> dict[str, dict[str, float]]:
    """Forecaster -> mse and rmse on the test beyond training, of all experiments; nothing where there is none."""
    found = [(one, part) for one in experiments if (part := one.forecast) is not None]
    total = sum(len(part) for _, part in found)
    out: dict[str, dict[str, float]] = {}
    for name in (LAST, MEAN, LINE) if found else ():
        mse = sum(len(part) * _mse(name, one, part) for one, part in found) / total
        out[name] = {"mse": mse, "rmse": math.sqrt(mse)}
    return out


def _mse(name: str, one: Experiment, part: Trajectory) -> float:
    """The score of one forecaster on one experiment, by its metric."""
    return one.score(torch.from_numpy(trivial(name, one.train, part.times.numpy())).view_as(part.observations), part)[
        "mse"
    ]


def trivial(name: str, train: Trajectory, times: Array) -> Array:
    """Predictions of a trivial forecaster at `times` [T] for every channel [M], from its training data."""
    mask = train.mask.reshape(len(train), -1).numpy()
    values = train.observations.reshape(len(train), -1).numpy()
    found = np.zeros((len(times), mask.shape[1]))
    for channel, rows in enumerate(mask.T):
        t, y = train.times.numpy()[rows], values[rows, channel]
        if not len(y):
            continue
        if name == LAST:
            found[:, channel] = y[-1]
        elif name == MEAN or len(y) < 2:
            found[:, channel] = y.mean()
        else:
            middle = t.mean()
            slope = float((t - middle) @ (y - y.mean()) / ((t - middle) @ (t - middle)))
            found[:, channel] = y.mean() + slope * (times - middle)
    return found
