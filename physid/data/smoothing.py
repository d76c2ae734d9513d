"""Smooth curves through noisy channels, in time that grows linearly with the record.

A smoothing spline through a whole broad-band record of n samples needs knots in proportion to n and takes time in
proportion to n^2. Here splines go through windows that overlap and are blended; a window grows as long as few knots do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, UnivariateSpline

from physid.arrays import Array
from physid.data.experiment import Trajectory

FEWEST = 5  # points that a smoothing spline needs
SMOOTH = 1e-4  # noise below this part of a channel's spread counts as none
WHOLE = 1000  # points through which one spline goes
WINDOW = 500  # points of the smallest window of a longer record
SIMPLE = 40  # knots up to which a window may grow
LUCK = 2.0  # standard deviations of the sum of squares by which a window's noise may exceed its average
RAMP = 5  # a window counts less and less over this part (1 / RAMP) at either end, where another one joins it


def smooth(trajectory: Trajectory, times: Array, logarithms: bool = False) -> tuple[Array, Array]:
    """Values and slopes [S, M] at `times` of smoothing splines through the channels; not-a-number with too few points.

    With `logarithms` the splines go through these, so that their values are positive.

    Source: Dierckx (1993), as in scipy.interpolate.
    """
    mask = trajectory.mask.reshape(len(trajectory), -1).numpy()
    values = trajectory.observations.reshape(len(trajectory), -1).numpy()
    found = np.full((2, len(times), mask.shape[1]), np.nan)
    for channel in range(mask.shape[1]):
        rows = mask[:, channel]
        if rows.sum() < FEWEST:
            continue
        t, y = trajectory.times.numpy()[rows], values[rows, channel]
        value, slope = through(t, np.log(y) if logarithms else y, np.asarray(times, dtype=np.float64))
        found[0, :, channel] = np.exp(value) if logarithms else value
        found[1, :, channel] = slope * found[0, :, channel] if logarithms else slope
    return found[0], found[1]


def through(t: Array, y: Array, times: Array) -> tuple[Array, Array]:
    """Value and slope [S] of a spline with residuals of the size of the noise; one through y where there is none."""
    noise = roughness(t, y)
    if noise <= SMOOTH * float(np.std(y)):
        exact = CubicSpline(t, y)
        return exact(times), exact(times, 1)
    if len(t) <= WHOLE:
        whole = _spline(t, y, noise)
        return np.asarray(whole(times)), np.asarray(whole(times, 1))
    return _blended(t, y, noise, times)


def roughness(t: Array, y: Array) -> float:
    """The standard deviation of the noise: from what is left of each y [T] by the cubic through its four neighbours."""
    around = np.array([-2, -1, 1, 2])
    middle = np.arange(2, len(t) - 2)
    near = t[middle[:, None] + around]
    weights = np.ones_like(near)
    for i in range(4):
        for j in range(4):
            if i != j:
                weights[:, i] *= (t[middle] - near[:, j]) / (near[:, i] - near[:, j])
    left = y[middle] - (weights * y[middle[:, None] + around]).sum(1)
    return float(np.median(np.abs(left) / np.sqrt(1.0 + (weights**2).sum(1))) / 0.6745)


def _spline(t: Array, y: Array, noise: float) -> UnivariateSpline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the wanted smoothness was met only nearly
        return UnivariateSpline(t, y, s=len(t) * noise**2)


@dataclass(frozen=True)
class _Window:
    """A spline through the points low <= i < high of a record of `count`, and where it counts in full."""

    spline: UnivariateSpline
    low: int
    high: int
    count: int

    @property
    def ramp(self) -> int:
        """The points at either end over which it counts less and less."""
        return (self.high - self.low) // RAMP

    def reached(self, t: Array, times: Array) -> slice:
        """Mask of the ordered `times` that it reaches: with the ends of the record also those beyond."""
        first = 0 if self.low == 0 else int(np.searchsorted(times, t[self.low]))
        last = len(times) if self.high == self.count else int(np.searchsorted(times, t[self.high - 1], side="right"))
        return slice(first, last)

    def weight(self, t: Array, times: Array) -> Array:
        """Its weight at `times`: 1 inside, falling to 0 at its ends, but for those of the record."""
        found = np.ones_like(times)
        if self.low > 0:
            found = np.minimum(found, (times - t[self.low]) / (t[self.low + self.ramp] - t[self.low]))
        if self.high < self.count:
            last = self.high - 1
            found = np.minimum(found, (t[last] - times) / (t[last] - t[last - self.ramp]))
        return np.maximum(found, 0.0)


def _blended(t: Array, y: Array, noise: float, times: Array) -> tuple[Array, Array]:
    """Values and slopes [S] of the windows around the `times`, blended where windows overlap."""
    order = np.argsort(times, kind="stable")
    asked = times[order]
    total, value, slope = np.zeros_like(asked), np.zeros_like(asked), np.zeros_like(asked)
    done = 0
    while done < len(asked):
        window = _window(t, y, noise, int(np.searchsorted(t, asked[done])))
        there = window.reached(t, asked)
        weight = window.weight(t, asked[there])
        total[there] += weight
        value[there] += weight * window.spline(asked[there])
        slope[there] += weight * window.spline(asked[there], 1)
        if window.high >= len(t):
            break
        done = max(done + 1, int(np.searchsorted(asked, t[window.high - 1 - window.ramp], side="right")))
    back = np.argsort(order, kind="stable")
    return (value / total)[back], (slope / total)[back]


def _window(t: Array, y: Array, noise: float, place: int) -> _Window:
    """The window that counts in full from the point `place` on: the largest whose spline is simple."""
    size, count = WINDOW, len(t)
    while True:
        low = max(0, min(place - size // RAMP - 1, count - size))
        high = min(count, low + size)
        chance = 1.0 + LUCK * np.sqrt(2.0 / (high - low))  # so that noise above its average does not ask for knots
        spline = _spline(t[low:high], y[low:high], noise * float(np.sqrt(chance)))
        if (low == 0 and high == count) or len(spline.get_knots()) > SIMPLE:
            return _Window(spline, low, high, count)
        size *= 2
