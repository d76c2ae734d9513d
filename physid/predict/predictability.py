"""Predictability horizon: the time at which the forecast's standard deviation reaches half that of the signal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from physid.arrays import Array
from physid.inference.result import FitResult

HALF = 0.5  # of the spread: beyond it the forecast says less than three quarters of the signal's variance


@dataclass(frozen=True)
class Horizon:
    """`time` is when the forecast stops to mean anything, None when that is after its end.

    The relative uncertainty at a time is the standard deviation of the forecast that the unknowns leave open over the
    spread of the signal, each channel by its own, as root mean square over the channels; `relative` is the largest of
    the forecast. The signal is predictable while it is below one half: then the unknowns leave open less than a
    quarter of the signal's variance. `rate` is its exponential growth per unit of time in the later half of the
    forecast, the finite-time Lyapunov exponent of the uncertainty, None where it does not grow.
    """

    time: float | None
    relative: float
    rate: float | None
    sentence: str


def horizon(fit: FitResult, times: Array, mean: Array, deviation: Array) -> Horizon | None:
    """The horizon of a forecast [T, M] whose standard deviation from the unknowns is `deviation` [T, M]."""
    spread = _spread(fit, mean)
    channels = spread > 0
    if not channels.any() or len(times) < 3:
        return None
    there = np.isfinite(deviation).all(1)
    relative = np.sqrt(((deviation[there][:, channels] / spread[channels]) ** 2).mean(1))
    when = times[there]
    if len(when) < 3:
        return None
    late = np.flatnonzero(relative >= HALF)
    time = float(when[late[0]]) if len(late) else None
    rate = _growth(when, relative)
    unit = f" {fit.experiment.time_unit}" if fit.experiment.time_unit else ""
    largest = float(relative.max())
    if time is not None:
        text = f"Predictable until {time:.4g}{unit}: there its standard deviation reaches half of the signal's spread."
    else:
        text = f"Predictable to its end: its standard deviation stays within {_part(largest)} of the signal's spread."
    if rate is not None:
        text += f" The uncertainty grows {math.e:.3g}-fold in {1 / rate:.3g}{unit}."
    return Horizon(time, largest, rate, text)


def _part(relative: float) -> str:
    return f"{100 * relative:.2g} %" if relative >= 1e-3 else f"{relative:.1e}"


def _spread(fit: FitResult, mean: Array) -> Array:
    """The standard deviation of every channel over all that was measured, or of the forecast where nothing moved."""
    parts = [part for part in (fit.experiment.train, fit.experiment.test) if part is not None]
    values = [np.where(p.mask.numpy(), p.observations.numpy(), np.nan).reshape(len(p), -1) for p in parts]
    seen = np.concatenate(values)
    spread = np.zeros(seen.shape[1])
    for i, column in enumerate(seen.T):
        known = column[np.isfinite(column)]
        spread[i] = float(known.std()) if len(known) > 1 else 0.0
    own = np.nan_to_num(mean).std(0)
    return np.where(spread > 0, spread, own)


def _growth(times: Array, relative: Array) -> float | None:
    """The exponential rate of growth in the later half, by a line through the logarithms; None where it does not."""
    rows = (times >= 0.5 * (times[0] + times[-1])) & (relative > 0) & (relative < HALF)
    if rows.sum() < 3:
        rows = (relative > 0) & (relative < HALF)
    if rows.sum() < 3:
        return None
    t, log = times[rows], np.log(relative[rows])
    slope, _ = np.polyfit(t, log, 1)
    # growth that is not at least a doubling over the span is none worth a word
    return float(slope) if slope * (t[-1] - t[0]) > np.log(2.0) else None
