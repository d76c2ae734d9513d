"""From predictions to residuals: the scale of every measurement, known, estimated, or the spread of the data."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from physid.arrays import Array, Bool
from physid.errors import InputError
from physid.inference.noise import Noise

FLOOR = 1e-9  # of a channel's spread, below which an estimated sigma does not fall: data without noise
LEAST_BEND = 0.05  # of the mean of psi', which is negative where most errors are outliers
OUTLIER = 1.345  # standard deviations at which a loss begins to bend, unless told: 95 % efficient with normal errors


class Weights:
    """The scale [R, M] of every measurement, and the residuals made with it.

    An experiment's known sigma is the scale of its rows. Without it that is the spread of all data ("equal" noise), or
    the sigma [M] of the channel, which `update` estimates, alike for the channels of a group. A sigma does not fall
    below the `floors` [M]; `limited` [M] says where it would. With a robust loss the scale is where it begins to bend.
    """

    def __init__(
        self,
        noise: Noise,
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
        self.floors = np.zeros(channels) if floors is None or noise.kind == "lognormal" else floors
        self.count = int(mask.sum())
        if noise.kind == "lognormal" and not (measured[mask] > 0).all():
            raise InputError(
                f"noise model lognormal with a measurement of {measured[mask].min():g}: positive ones are allowed. "
                "Mask what was not seen, or use noise model normal or student."
            )
        if loss_scale is not None and (noise.loss == "linear" or not 0 < loss_scale < math.inf):
            raise InputError(
                f"loss_scale={loss_scale} with loss {noise.loss}: a positive number, with a loss, is allowed."
            )
        self.unknown = np.zeros(mask.shape, dtype=bool)  # where sigma is estimated
        self.scales = np.full(mask.shape, spread)
        counted = noise.kind in ("equal", "normal")  # the known sigma is that of normal errors
        for rows, sigma in zip(parts, known, strict=True):
            if sigma and counted:
                self.scales[rows] = sigma
            elif noise.estimated:
                self.unknown[rows] = mask[rows]
        self.size = float(known[0] or spread) if counted else spread
        self.sigma = self._spreads()
        for group in np.unique(self.groups):
            self.sigma[self.groups == group] = np.sqrt(np.mean(self.sigma[self.groups == group] ** 2))
        if noise.estimated:
            self._fill()
        if noise.loss != "linear":
            self.scales[:] = loss_scale or OUTLIER * _scatter(measured, mask, known[0], spread)
            self.size = float(self.scales[0, 0])

    def copy(self) -> Weights:
        """Weights of their own, with the sigmas as they are now."""
        new = copy.copy(self)
        new.sigma, new.limited = self.sigma.copy(), self.limited.copy()
        return new

    def _spreads(self) -> Array:
        """The standard deviation [M] of what was measured, or of its logarithm."""
        values = np.where(self.mask, self.measured, np.nan)
        if self.noise.kind == "lognormal":
            values = np.log(values)
        found = [float(np.std(column[~np.isnan(column)])) if (~np.isnan(column)).any() else 1.0 for column in values.T]
        return np.array([one or 1.0 for one in found])

    def _fill(self) -> None:
        self.scales = np.where(self.unknown, self.sigma, self.scales)
        self.size = float(np.sqrt(np.mean(self.scales[self.mask] ** 2)))

    def rows(self, seen: Array, slope: Array) -> tuple[Array, Array]:
        """Residuals [N] and their derivatives [N, Q] of predictions [R, M] and their derivatives [R, M, Q]."""
        mask, scale = self.mask, self.scales[self.mask]
        return self.weigh(seen[mask], self.measured[mask], scale, slope[mask])

    def weigh(self, seen: Array, measured: Array, scale: Array, slope: Array) -> tuple[Array, Array]:
        """Residuals [K] and their derivatives [K, Q] of predictions [K] and their derivatives."""
        root = np.sqrt(self.count)
        g, by = self.noise.residuals(self.noise.errors(seen, measured) / scale)
        factor = by * self.noise.slopes(seen) / scale / root
        return g / root, slope * factor[:, None]

    def scores(self, seen: Array, slope: Array) -> tuple[Array, Array]:
        """Rows r [N], J [N, Q] with J^T r the gradient of the objective and J^T J its mean curvature.

        Where errors count less the larger they are, Gauss-Newton's rows have too small a curvature: with psi the
        influence of an error e, here r = psi / sqrt(m) and J = sqrt(m) de / dx, m the mean of psi'.
        Source: Huber (1981), section 7.6.
        """
        if self.noise.kind != "student" and self.noise.loss == "linear":
            return self.rows(seen, slope)
        mask, scale, root = self.mask, self.scales[self.mask], np.sqrt(self.count)
        psi, bend = self.noise.influence(self.noise.errors(seen[mask], self.measured[mask]) / scale)
        part = np.sqrt(max(float(bend.mean()), LEAST_BEND))
        factor = part * self.noise.slopes(seen[mask]) / scale / root
        return psi / part / root, slope[mask] * factor[:, None]

    def update(self, seen: Array) -> float:
        """Estimate every sigma at the predictions [R, M]; the largest change of a logarithm of one."""
        if not self.unknown.any():
            return 0.0
        errors, before = self.noise.errors(seen, self.measured), self.sigma.copy()
        lowest = np.maximum(FLOOR * self._spreads(), self.floors)
        for group in np.unique(self.groups):
            channels = np.flatnonzero(self.groups == group)
            rows = self.unknown[:, channels]
            if rows.any():
                found = self.noise.sigma(errors[:, channels][rows], before[channels[0]])
                least = float(lowest[channels].max())
                self.sigma[channels] = max(found, least)
                self.limited[channels] = found <= least
        self._fill()
        return float(np.abs(np.log(self.sigma / before)).max())

    def log_likelihood(self, seen: Array) -> float:
        """Log of the density of all measurements at the predictions [R, M] and the sigmas as they are."""
        mask = self.mask
        errors = self.noise.errors(seen, self.measured)[mask]
        return self.noise.log_likelihood(errors, self.scales[mask], self.measured[mask])


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
