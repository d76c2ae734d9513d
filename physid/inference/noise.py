"""Noise: how measurements scatter about the truth, one standard deviation for each channel, known or estimated.

Least squares is maximum likelihood for normal errors; other noise becomes least squares of other residuals. With e the
error of a measurement in the unit of sigma (of the logarithms for log-normal noise), the residual is

    normal, log-normal   g(e) = e
    Student's t          g(e) = sign(e) sqrt((nu + 1) log(1 + e^2 / nu))
    a robust loss        g(e) = sign(e) sqrt(rho(e^2))

so that half the sum of g^2 is -log of the likelihood but for constants, and Gauss-Newton applies. Sigma is profiled: it
maximises the likelihood at the residuals that it is given, in turn with least squares.

Source: Lange, Little and Taylor (1989) for Student's t; scipy.optimize.least_squares for the losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from physid.arrays import Array
from physid.catalog import Registry
from physid.errors import InputError, unknown_name

KINDS = ("equal", "normal", "lognormal", "student")
NU = 4.0  # degrees of freedom of Student's t unless given, as in "student:3"
SMALL = 1e-300


def _soft(z: Array) -> tuple[Array, Array, Array]:
    root = np.sqrt(1.0 + z)
    return 2.0 * z / (root + 1.0), 1.0 / root, -0.5 / root**3


def _huber(z: Array) -> tuple[Array, Array, Array]:
    root = np.sqrt(np.maximum(z, 1.0))
    return np.where(z <= 1.0, z, 2.0 * root - 1.0), 1.0 / root, np.where(z <= 1.0, 0.0, -0.5 / root**3)


def _cauchy(z: Array) -> tuple[Array, Array, Array]:
    return np.log1p(z), 1.0 / (1.0 + z), -1.0 / (1.0 + z) ** 2


def _arctan(z: Array) -> tuple[Array, Array, Array]:
    return np.arctan(z), 1.0 / (1.0 + z * z), -2.0 * z / (1.0 + z * z) ** 2


# name -> rho(z), rho'(z) and rho''(z) of z = (error / scale)^2
LOSSES: Registry[Callable[[Array], tuple[Array, Array, Array]]] = Registry(
    "loss",
    {
        "linear": lambda z: (z, np.ones_like(z), np.zeros_like(z)),
        "soft_l1": _soft,
        "huber": _huber,
        "cauchy": _cauchy,
        "arctan": _arctan,
    },
)


@dataclass(frozen=True)
class Noise:
    """A kind of noise, with nu for Student's t, and the loss that takes its place where outliers are feared.

    Channels of one number in `groups` share a sigma; without groups each has its own.
    """

    kind: str = "equal"
    nu: float = NU
    loss: str = "linear"
    groups: tuple[int, ...] = ()

    @property
    def estimated(self) -> bool:
        """Whether every channel has a sigma of its own, estimated where it is not known."""
        return self.kind != "equal"

    def errors(self, seen: Array, measured: Array) -> Array:
        """Prediction less measurement, or that of their logarithms; not-a-number for the logarithm of what has none."""
        if self.kind != "lognormal":
            return seen - measured
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.log(seen) - np.log(measured))

    def slopes(self, seen: Array) -> Array | float:
        """The derivative of `errors` by what is seen."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1.0 / seen if self.kind == "lognormal" else 1.0

    def residuals(self, e: Array) -> tuple[Array, Array]:
        """The residuals g and their derivatives for errors `e` in units of sigma."""
        if self.kind != "student" and self.loss == "linear":
            return e, np.ones_like(e)
        z = e * e
        rho, slope, _ = self._rho(z)
        with np.errstate(invalid="ignore"):
            g = np.sign(e) * np.sqrt(rho)
            # g' = rho' e / g, which is sqrt(rho'(0)) at e = 0
            near = z < 1e-24
            return g, np.where(near, np.sqrt(slope), slope * np.abs(e) / np.sqrt(np.maximum(rho, SMALL)))

    def _rho(self, z: Array) -> tuple[Array, Array, Array]:
        """rho and its first two derivatives at squared errors in units of sigma."""
        if self.kind != "student":
            return LOSSES[self.loss](z)
        top, bottom = self.nu + 1.0, self.nu + z
        return top * np.log1p(z / self.nu), top / bottom, -top / bottom**2

    def influence(self, e: Array) -> tuple[Array, Array]:
        """psi, the derivative of rho / 2 by the errors `e` in units of sigma, and the derivative of psi."""
        z = e * e
        _, slope, bend = self._rho(z)
        return slope * e, slope + 2.0 * z * bend

    def sigma(self, e: Array, before: float) -> float:
        """The sigma [1] that maximises the likelihood of the errors `e` [N] of one channel, searched from `before`."""
        if self.kind != "student":
            return float(np.sqrt(np.mean(e * e)))
        square = before * before
        for _ in range(200):
            weights = (self.nu + 1.0) / (self.nu + e * e / max(square, SMALL))
            new = float(np.mean(weights * e * e))
            done = abs(new - square) <= 1e-13 * square
            square = new
            if done:
                break
        return math.sqrt(square)

    def log_likelihood(self, e: Array, sigma: Array, measured: Array) -> float:
        """Log of the density of the measurements [N], in their own unit, for errors `e` [N] and `sigma` [N]."""
        u = e / sigma
        if self.kind == "student":
            constant = gammaln((self.nu + 1) / 2) - gammaln(self.nu / 2) - 0.5 * math.log(self.nu * math.pi)
            density = constant - (self.nu + 1) / 2 * np.log1p(u * u / self.nu) - np.log(sigma)
        else:
            density = -0.5 * math.log(2 * math.pi) - np.log(sigma) - 0.5 * u * u
        if self.kind == "lognormal":
            density = density - np.log(measured)
        return float(density.sum())


def read(noise: str | Noise, loss: str = "linear") -> Noise:
    """The noise named by "equal", "normal", "lognormal", "student" or "student:NU", with a loss.

    Errors: InputError for other names, for an nu that is not positive, and for a loss beside estimated noise.
    """
    if loss not in LOSSES:
        raise LOSSES.unknown(loss)
    if isinstance(noise, Noise):
        return noise
    kind, given, number = str(noise).partition(":")
    if kind not in KINDS:
        raise unknown_name("noise model", kind, KINDS)
    try:
        nu = float(number) if given else NU
    except ValueError:
        nu = math.nan
    if not 0 < nu < math.inf or (given and kind != "student"):
        raise InputError(f"noise model '{noise}': {', '.join(KINDS)} or student:NU with a positive NU are allowed.")
    if loss != "linear" and kind != "equal":
        raise InputError(
            f"loss {loss} was given with noise model {kind}: a loss takes the place of a noise model. Leave one of "
            "them out; student is the noise model that outliers do not move."
        )
    return Noise(kind, nu, loss)
