"""The noise models of physid, each a class: with e the error of a measurement in units of sigma, the residual is

    normal, log-normal   g(e) = e, of values or of their logarithms
    Student's t          g(e) = sign(e) sqrt((nu + 1) log(1 + e^2 / nu))
    a robust loss        g(e) = sign(e) sqrt(rho(e^2))

Source: Lange, Little and Taylor (1989) for Student's t; scipy.optimize.least_squares for the losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy import stats

from physid.arrays import Array
from physid.catalog import Registry
from physid.errors import InputError
from physid.inference.noise import NOISE, NoiseModel, ScaledNoise


class _Gaussian(ScaledNoise):
    """Normal errors: their residuals are the errors themselves."""

    distribution: Any = stats.norm

    def rho(self, z: Array) -> tuple[Array, Array, Array]:
        """rho(z) = z."""
        return z, np.ones_like(z), np.zeros_like(z)

    def residual(self, e: Array) -> tuple[Array, Array]:
        """g = e."""
        return e, np.ones_like(e)

    def normal_scores(self, seen: Array, measured: Array, sigma: Array) -> Array:
        """e / sigma."""
        return self.errors(seen, measured) / sigma


class EqualNoise(_Gaussian):
    """Normal errors of one standard deviation on all channels."""

    estimated: ClassVar[bool] = False
    normal: ClassVar[bool] = True


class NormalNoise(_Gaussian):
    """Normal errors with a standard deviation of every channel."""

    normal: ClassVar[bool] = True


class LogNormalNoise(_Gaussian):
    """Log-normal errors, in proportion to the value: the logarithms' are normal with a sigma of every channel."""

    logarithms: ClassVar[bool] = True

    def check(self, measured: Array) -> None:
        """Errors: InputError for measurements that are not positive."""
        if not (measured > 0).all():
            raise InputError(
                f"noise model lognormal with a measurement of {measured.min():g}: expected positive ones. Mask what "
                "was not seen, or use noise model normal or student."
            )

    def transform(self, values: Array) -> Array:
        """log(values); not-a-number for what has none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.log(values))

    def slopes(self, values: Array) -> Array | float:
        """1 / values."""
        with np.errstate(divide="ignore"):
            return 1.0 / values

    def inverse(self, values: Array) -> Array:
        """exp(values)."""
        return np.asarray(np.exp(values))


@dataclass(frozen=True)
class StudentNoise(ScaledNoise):
    """Errors of Student's t distribution with nu degrees of freedom and a scale of every channel: for outliers."""

    heavy_tailed: ClassVar[bool] = True

    nu: float = 4.0

    @classmethod
    def parse(cls, argument: str) -> StudentNoise:
        """Student's t of "student:NU", or of "student"."""
        if not argument:
            return cls()
        try:
            nu = float(argument)
        except ValueError:
            nu = math.nan
        if not 0 < nu < math.inf:
            raise ValueError("a positive number of degrees of freedom NU, as in student:4")
        return cls(nu)

    @property
    def argument(self) -> str:
        """nu."""
        return f"{self.nu:.17g}" if float(f"{self.nu:g}") != self.nu else f"{self.nu:g}"

    @property
    def distribution(self) -> Any:
        """Student's t distribution."""
        return stats.t(self.nu)

    def rho(self, z: Array) -> tuple[Array, Array, Array]:
        """rho(z) = (nu + 1) log(1 + z / nu)."""
        top, bottom = self.nu + 1.0, self.nu + z
        return top * np.log1p(z / self.nu), top / bottom, -top / bottom**2


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
class RobustNoise(ScaledNoise):
    """A loss in the place of equal noise: its scale, where it begins to bend, is given, and it is no density."""

    estimated: ClassVar[bool] = False
    likelihood: ClassVar[bool] = False

    loss: str = "huber"

    name: ClassVar[str] = "equal"  # the loss is an option of its own

    @property
    def distribution(self) -> Any:
        """None is there. Errors: InputError."""
        raise InputError(
            f"loss {self.loss} is no density, and has neither likelihood nor band. Use noise model student."
        )

    def rho(self, z: Array) -> tuple[Array, Array, Array]:
        """That of the loss."""
        return LOSSES[self.loss](z)

    def normal_scores(self, seen: Array, measured: Array, sigma: Array) -> Array:
        """The residuals, as the fit weighs them."""
        return self.residuals(seen, measured, sigma)[0]


def read(noise: str | NoiseModel, loss: str = "linear") -> NoiseModel:
    """The noise of a text, "name" or "name:argument" as in "student:3", with a loss.

    Errors: InputError for other names and arguments, and for a loss beside a noise model.
    """
    if loss not in LOSSES:
        raise LOSSES.unknown(loss)
    found = noise if isinstance(noise, NoiseModel) else _parsed(str(noise))
    if loss == "linear":
        return found
    if str(found) != "equal":
        raise InputError(
            f"loss {loss} was given with noise model {found.name}: a loss takes the place of a noise model. Leave one "
            "of them out; student is the noise model that outliers do not move."
        )
    return RobustNoise(loss)


def _parsed(text: str) -> NoiseModel:
    """The noise of a text."""
    name, _, argument = text.partition(":")
    kind = NOISE.lookup(name)
    try:
        return kind.parse(argument)
    except ValueError as error:
        raise InputError(
            f"noise model '{text}' has the argument '{argument}': expected {error} for {name}. Correct it."
        ) from None


def text_of(noise: NoiseModel) -> str:
    """The text of a noise model as `fit` was given it, by which it is found again; its class is registered for that.

    Errors: InputError for a class whose name another one has, and for one whose text does not give it back.
    """
    if NOISE.name_of(type(noise)) is None:
        known = NOISE.get(noise.name)
        if known is not None and (known.__module__.startswith("physid.") or NOISE.owner(noise.name) != "physid"):
            raise InputError(
                f"noise model {type(noise).__name__} has the name '{noise.name}', which another one has. Rename it."
            )
        NOISE[noise.name] = type(noise)  # or as it is defined anew, in a notebook
    if _parsed(str(noise)) != replace(noise, groups=()):
        raise InputError(
            f"noise={noise!r} is not what its text, '{noise}', gives: have `argument` and `parse` of "
            f"{type(noise).__name__} say its numbers."
        )
    return str(noise)


def of_settings(settings: Mapping[str, Any]) -> NoiseModel:
    """The noise model of a fit, by its settings. Errors: InputError for one that is not known in this process."""
    text = str(settings.get("noise", "equal"))
    if text.partition(":")[0] not in NOISE:
        raise InputError(
            f"the fit has noise model '{text}', which is not known here. Install its package, or register its class: "
            "physid.inference.noise.NOISE[name] = the class."
        )
    found = read(text, settings.get("loss") or "linear")
    return replace(found, groups=tuple(settings.get("noise_groups") or ()))
