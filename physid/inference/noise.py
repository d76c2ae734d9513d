"""NoiseModel: how measurements scatter about the truth, with one sigma for each channel, known or estimated.

A fit makes half the sum of squared residuals small, which are such that this is -log of the likelihood but for
constants; then Gauss-Newton applies. Sigma maximises the likelihood at the predictions, in turn with least squares.
A noise model is a class, found by its name: of physid (see `physid.inference.noise_models`), of an installed package
(entry-point group "physid.noise"), or of the user's own, given to `fit` as an instance.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from scipy import stats

from physid.arrays import Array
from physid.catalog import Registry

SMALL = 1e-300
LEAST_BEND = 0.05  # of the mean of psi', which is negative where most errors are outliers


@dataclass(frozen=True)
class NoiseModel(ABC):
    """Noise with the density p(measured; seen, sigma) of a measurement where the model predicts `seen`.

    All arrays are [N], one element for each measurement, or of shapes that broadcast. Channels of one number in
    `groups` share a sigma; without groups each has its own.

    `estimated`: every channel has a sigma, estimated where it is not known; else there is one for all.
    `normal`: sigma is the standard deviation of normal errors, so that a known one of the data is it.
    `logarithms`: errors are those of logarithms, by which sizes and splines of the data go, too.
    `heavy_tailed`: outliers do not move the fit.
    `likelihood`: the residuals are those of a density; False for a loss, which has no sigma, and so no band.
    """

    estimated: ClassVar[bool] = True
    normal: ClassVar[bool] = False
    logarithms: ClassVar[bool] = False
    heavy_tailed: ClassVar[bool] = False
    likelihood: ClassVar[bool] = True

    groups: tuple[int, ...] = field(default=(), kw_only=True)

    @classmethod
    def parse(cls, argument: str) -> NoiseModel:
        """The noise named "name:argument"; ValueError, which says what is expected, for an argument that cannot be."""
        if argument:
            raise ValueError("no number")
        return cls()

    @property
    def name(self) -> str:
        """The name under which the class is registered; that of the class where it is not."""
        return NOISE.name_of(type(self)) or type(self).__name__.lower()

    @property
    def argument(self) -> str:
        """The argument from which `parse` makes the same noise; empty where the name is enough."""
        return ""

    def __str__(self) -> str:
        """The text that `read` makes the same noise of, but for its groups."""
        return f"{self.name}:{self.argument}" if self.argument else self.name

    def check(self, measured: Array) -> None:  # noqa: B027  # most noise can give anything
        """Errors: InputError for measurements [N] that this noise cannot give."""

    @abstractmethod
    def spread(self, measured: Array) -> float:
        """The sigma of measurements about one value, from which the search for sigma begins."""

    @abstractmethod
    def residuals(self, seen: Array, measured: Array, sigma: Array) -> tuple[Array, Array]:
        """g with g^2 / 2 = -log p but for what `seen` does not change, signed as seen - measured, and dg / dseen."""

    @abstractmethod
    def influence(self, seen: Array, measured: Array, sigma: Array) -> tuple[Array, Array]:
        """-d log p / dseen, and the curvature -d^2 log p / dseen^2, its mean where single ones may be negative."""

    @abstractmethod
    def sigma(self, seen: Array, measured: Array, before: float) -> float:
        """The sigma that maximises the likelihood of the measurements of one channel, searched from `before`."""

    @abstractmethod
    def log_density(self, seen: Array, measured: Array, sigma: Array) -> Array:
        """log p, of measurements in their own unit."""

    @abstractmethod
    def normal_scores(self, seen: Array, measured: Array, sigma: Array) -> Array:
        """Residuals that are standard normal if the noise is this one, for the tests of them."""

    @abstractmethod
    def band(self, seen: Array, deviation: Array, sigma: Array, quantile: float, level: float) -> tuple[Array, Array]:
        """The ends between which a part `level` of new measurements falls.

        `deviation` is the standard deviation of the prediction, which the unknowns leave open, and `quantile` that many
        of it reach the level: that of a normal variable, or more where sigma was estimated.
        """

    @abstractmethod
    def draw(self, seen: Array, sigma: Array, random: np.random.Generator) -> Array:
        """Measurements at random."""


@dataclass(frozen=True)
class ScaledNoise(NoiseModel):
    """Noise of one shape, scaled by sigma: the error e = h(seen) - h(measured) has the density p(e / sigma) / sigma.

    p is symmetric: -2 log p(u) = rho(u^2) but for a constant. A subclass gives `rho` and `distribution`, and where
    errors are those of another quantity than the measured one, `transform`, `slopes` and `inverse`.
    """

    @property
    @abstractmethod
    def distribution(self) -> Any:
        """The frozen distribution of scipy.stats that e / sigma has."""

    @abstractmethod
    def rho(self, z: Array) -> tuple[Array, Array, Array]:
        """rho, rho' and rho'' at squared errors z in units of sigma."""

    def transform(self, values: Array) -> Array:
        """h, of which errors are differences: the identity."""
        return values

    def slopes(self, values: Array) -> Array | float:
        """dh / dvalues."""
        return 1.0

    def inverse(self, values: Array) -> Array:
        """The inverse of h at `values`."""
        return values

    def errors(self, seen: Array, measured: Array) -> Array:
        """h(seen) - h(measured); not-a-number where h has no value."""
        return self.transform(seen) - self.transform(measured)

    def spread(self, measured: Array) -> float:
        """The standard deviation of h(measured)."""
        return float(np.std(self.transform(measured)))

    def residuals(self, seen: Array, measured: Array, sigma: Array) -> tuple[Array, Array]:
        """g = sign(e) sqrt(rho) at e in units of sigma, and its derivative."""
        g, by = self.residual(self.errors(seen, measured) / sigma)
        return g, by * self.slopes(seen) / sigma

    def residual(self, e: Array) -> tuple[Array, Array]:
        """g and dg / de at errors e in units of sigma; g' = rho' e / g, which is sqrt(rho'(0)) at e = 0."""
        z = e * e
        rho, slope, _ = self.rho(z)
        with np.errstate(invalid="ignore"):
            g = np.sign(e) * np.sqrt(rho)
            return g, np.where(z < 1e-24, np.sqrt(slope), slope * np.abs(e) / np.sqrt(np.maximum(rho, SMALL)))

    def influence(self, seen: Array, measured: Array, sigma: Array) -> tuple[Array, Array]:
        """psi = rho' e and the mean of psi', by which an M-estimator's errors go. Source: Huber (1981), section 7.6."""
        e = self.errors(seen, measured) / sigma
        z = e * e
        _, slope, bend = self.rho(z)
        mean, by = max(float((slope + 2.0 * z * bend).mean()), LEAST_BEND), self.slopes(seen) / sigma
        return slope * e * by, mean * by * by

    def sigma(self, seen: Array, measured: Array, before: float) -> float:
        """The fixed point of sigma^2 = mean(rho'(e^2 / sigma^2) e^2). Source: Lange, Little and Taylor (1989)."""
        square, z = before * before, self.errors(seen, measured) ** 2
        for _ in range(200):
            new = float(np.mean(self.rho(z / max(square, SMALL))[1] * z))
            done = abs(new - square) <= 1e-13 * square
            square = new
            if done:
                break
        return math.sqrt(square)

    def log_density(self, seen: Array, measured: Array, sigma: Array) -> Array:
        """log p(e / sigma) - log sigma + log |dh / dmeasured|."""
        found = self.distribution.logpdf(self.errors(seen, measured) / sigma)
        return np.asarray(found - np.log(sigma) + np.log(np.abs(self.slopes(measured))))

    def normal_scores(self, seen: Array, measured: Array, sigma: Array) -> Array:
        """Errors through their distribution to normal scores."""
        e = self.errors(seen, measured) / sigma
        return np.asarray(np.sign(e) * stats.norm.isf(np.maximum(self.distribution.sf(np.abs(e)), SMALL)))

    def band(self, seen: Array, deviation: Array, sigma: Array, quantile: float, level: float) -> tuple[Array, Array]:
        """h(seen) less and plus the root of the sum of the squares of what unknowns and noise reach."""
        p = 0.5 + level / 2
        noise = self.distribution.ppf(p) / stats.norm.ppf(p) * sigma
        reach = quantile * np.sqrt((self.slopes(seen) * deviation) ** 2 + noise**2)
        middle = self.transform(seen)
        return self.inverse(middle - reach), self.inverse(middle + reach)

    def draw(self, seen: Array, sigma: Array, random: np.random.Generator) -> Array:
        """Measurements whose errors are drawn from the distribution."""
        shape = np.broadcast_shapes(np.shape(seen), np.shape(sigma))
        return self.inverse(self.transform(seen) + sigma * self.distribution.rvs(size=shape, random_state=random))


NOISE: Registry[type[NoiseModel]] = Registry(
    "noise model",
    places={
        "equal": "physid.inference.noise_models:EqualNoise",
        "normal": "physid.inference.noise_models:NormalNoise",
        "lognormal": "physid.inference.noise_models:LogNormalNoise",
        "student": "physid.inference.noise_models:StudentNoise",
    },
    group="physid.noise",
    of=NoiseModel,
    classes=True,
)
