"""Noise groups: the channels that share one standard deviation where none is given, and its lower limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.inference.noise import NoiseModel
from physid.inference.noise_models import EqualNoise, NormalNoise
from physid.modelling.model import Model

APART = 10.0  # a factor of the channels' sizes from which on they have sigmas of their own
DIGITS = 15  # decimals of a number in a file
ROUNDED = 0.5  # of the standard deviation of rounding, 1 / sqrt(12) of the last digit
OWN = 10.0  # times the solver's tolerance


def default_noise(experiments: Sequence[Experiment], model: Model) -> NoiseModel:
    """The noise where nobody said a word: one sigma where all channels are alike, else one for each group of them.

    Channels are of one group that have one unit and whose spreads lie within a factor of ten. Known sigmas are a word.
    """
    groups = groups_of(experiments, model)
    if len(set(groups)) == 1 or all(one.sigma for one in experiments):
        return EqualNoise()
    return NormalNoise(groups=groups)


def groups_of(experiments: Sequence[Experiment], model: Model) -> tuple[int, ...]:
    """The number of every channel's group, in the order of the channels."""
    channels = experiments[0].channels
    spreads = _spreads(experiments)
    units = [units_of(experiments[0], model).get(name, "") for name in channels]
    found, count = [0] * len(channels), 0
    for unit in dict.fromkeys(units):
        places = [i for i, one in enumerate(units) if one == unit]
        places.sort(key=lambda i: -spreads[i])
        first = spreads[places[0]]
        for i in places:
            if 0 < spreads[i] < first / APART:  # what never moves says nothing of its size
                count, first = count + 1, spreads[i]
            found[i] = count
        count += 1
    order = {group: number for number, group in enumerate(dict.fromkeys(found))}
    return tuple(order[group] for group in found)


def units_of(experiment: Experiment, model: Model) -> dict[str, str]:
    """The unit of every channel, as far as data or model say."""
    own = experiment.channel_units or [experiment.unit] * len(experiment.channels)
    pairs = zip(experiment.channels, own, strict=True)
    return {name: unit or model.units.get(name, "") for name, unit in pairs}


def _spreads(experiments: Sequence[Experiment]) -> Array:
    """The standard deviation [M] of what was measured on every channel."""
    columns = [_values(experiments, channel) for channel in range(len(experiments[0].channels))]
    return np.array([float(np.std(column)) if len(column) else 0.0 for column in columns])


def _values(experiments: Sequence[Experiment], channel: int) -> Array:
    """The measurements of a channel."""
    found = []
    for one in experiments:
        train = one.train
        mask = train.mask.reshape(len(train), -1).numpy()[:, channel]
        found.append(train.observations.reshape(len(train), -1).numpy()[mask, channel])
    return np.concatenate(found)


def resolution(values: Array) -> float:
    """The last digit of numbers as a file holds them; zero where they have as many digits as a number can."""
    there = values[np.isfinite(values)]
    largest = float(np.abs(there).max(initial=0.0))
    if not largest > 0:
        return 0.0
    first = -int(np.floor(np.log10(largest))) - 1
    for decimals in range(first, first + DIGITS - 2):
        step = 10.0**-decimals
        if np.allclose(there, np.round(there / step) * step, rtol=0.0, atol=4e-16 * largest):
            return step
    return 0.0


def floors(measured: Array, mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], rtol: float) -> Array:
    """The sigma [M] below which that of a channel does not fall: the solver's error, half of that of rounding."""
    found = []
    for column, rows in zip(measured.T, mask.T, strict=True):
        values = column[rows]
        size = float(np.sqrt((values**2).mean())) if len(values) else 0.0
        found.append(max(OWN * rtol * size, ROUNDED * resolution(values) / np.sqrt(12.0)))
    return np.array(found)
