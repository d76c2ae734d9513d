"""Residuals: prediction errors over the scale of each measurement, which is known, estimated, or the data's spread."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from physid.arrays import Array, Bool
from physid.errors import InputError
from physid.inference.noise import NoiseModel

FLOOR = 1e-9  # of a channel's spread, below which an estimated sigma does not fall: data without noise
OUTLIER = 1.345  # standard deviations at which a loss begins to bend by default: 95 % efficient with normal errors


class NoiseResiduals:
    """The scale [R, M] of every measurement, and the residuals made with it.

    An experiment's known sigma is the scale of its rows. Without it that is the spread of all data ("equal" noise), or
    the sigma [M] of the channel, which `update` estimates, alike for the channels of a group. A sigma does not fall
    below the `floors` [M]; `limited` [M] says where it would. With a robust loss the scale is where it begins to bend.
    """

    def __init__(
        self,
        noise: NoiseModel,
        measured: Array,
        mask: Bool,
        parts: Sequence[slice],
        known: Sequence[float | None],
        spread: float,
        loss_scale: float | None = None,
        floors: Array | None = None,
    ) -> None:
        self.noise, self.measured, self.mask = noise, measured, mask
        channels = mask.shape[1]
        self.groups = np.array(noise.groups if len(noise.groups) == channels else range(channels))
        self.limited = np.zeros(channels, dtype=bool)
        self.floors = np.zeros(channels) if floors is None or noise.logarithms else floors
        self.count = int(mask.sum())
        noise.check(measured[mask])
        if loss_scale is not None and (noise.likelihood or not 0 < loss_scale < math.inf):
            raise InputError(f"loss_scale={loss_scale} with {noise}: expected a positive number, with a loss.")
        self.unknown = np.zeros(mask.shape, dtype=bool)  # where sigma is estimated
        self.scales = np.full(mask.shape, spread)
        for rows, sigma in zip(parts, known, strict=True):
            if sigma and noise.normal:
                self.scales[rows] = sigma
            elif noise.estimated:
                self.unknown[rows] = mask[rows]
        self.size = float(known[0] or spread) if noise.normal else spread
        self.sigma = self._spreads()
        for group in np.unique(self.groups):
            self.sigma[self.groups == group] = np.sqrt(np.mean(self.sigma[self.groups == group] ** 2))
        if noise.estimated:
            self._fill()
        if not noise.likelihood:
            self.scales[:] = loss_scale or OUTLIER * _scatter(measured, mask, known[0], spread)
            self.size = float(self.scales[0, 0])

    def copy(self) -> NoiseResiduals:
        """Residuals of their own, with the sigmas as they are now."""
        new = copy.copy(self)
        new.sigma, new.limited = self.sigma.copy(), self.limited.copy()
        return new

    def _spreads(self) -> Array:
        """The spread [M] of what was measured, as the noise has it."""
        pairs = zip(self.measured.T, self.mask.T, strict=True)
        return np.array([(self.noise.spread(column[rows]) if rows.any() else 1.0) or 1.0 for column, rows in pairs])

    def _fill(self) -> None:
        self.scales = np.where(self.unknown, self.sigma, self.scales)
        self.size = float(np.sqrt(np.mean(self.scales[self.mask] ** 2)))

    def rows(self, seen: Array, slope: Array) -> tuple[Array, Array]:
        """Residuals [N] and their derivatives [N, Q] of predictions [R, M] and their derivatives [R, M, Q]."""
        mask, scale = self.mask, self.scales[self.mask]
        return self.weigh(seen[mask], self.measured[mask], scale, slope[mask])

    def weigh(self, seen: Array, measured: Array, scale: Array, slope: Array) -> tuple[Array, Array]:
        """Residuals [K] and their derivatives [K, Q] of predictions [K] and their derivatives."""
        g, by = self.noise.residuals(seen, measured, scale)
        root = np.sqrt(self.count)
        return g / root, slope * (by / root)[:, None]

    def scores(self, seen: Array, slope: Array) -> tuple[Array, Array]:
        """Rows r [N], J [N, Q] with J^T r the gradient of the objective and J^T J its mean curvature.

        Where errors count less the larger they are, Gauss-Newton's rows have too small a curvature: with psi the
        derivative of -log p by the prediction and m its curvature, here r = psi / sqrt(m) and J = sqrt(m) dseen / dx.
        """
        mask, root = self.mask, np.sqrt(self.count)
        psi, curvature = self.noise.influence(seen[mask], self.measured[mask], self.scales[mask])
        part = np.sqrt(curvature)
        return psi / part / root, slope[mask] * (part / root)[:, None]

    def update(self, seen: Array) -> float:
        """Estimate every sigma at the predictions [R, M]; the largest change of a logarithm of one."""
        if not self.unknown.any():
            return 0.0
        before = self.sigma.copy()
        lowest = np.maximum(FLOOR * self._spreads(), self.floors)
        for group in np.unique(self.groups):
            channels = np.flatnonzero(self.groups == group)
            rows = self.unknown[:, channels]
            if rows.any():
                pair = (seen[:, channels][rows], self.measured[:, channels][rows])
                found = self.noise.sigma(*pair, before[channels[0]])
                least = float(lowest[channels].max())
                self.sigma[channels] = max(found, least)
                self.limited[channels] = found <= least
        self._fill()
        return float(np.abs(np.log(self.sigma / before)).max())

    def log_likelihood(self, seen: Array) -> float:
        """Log of the density of all measurements at the predictions [R, M] and the sigmas as they are."""
        mask = self.mask
        return float(self.noise.log_density(seen[mask], self.measured[mask], self.scales[mask]).sum())


def _scatter(measured: Array, mask: Bool, known: float | None, spread: float) -> float:
    """The known noise, or the typical third difference of the channels: large where there is noise, small on curves."""
    if known:
        return known
    found = []
    for channel, rows in zip(measured.T, mask.T, strict=True):
        third = np.diff(channel[rows], n=3)
        if len(third):
            found.append(float(np.median(np.abs(third))) / 0.6745 / math.sqrt(20.0))
    return max(float(np.median(found)) if found else spread, 1e-6 * spread)
