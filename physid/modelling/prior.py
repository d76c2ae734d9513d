"""Priors on unknowns: as residuals of least squares, log densities and draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from physid.errors import InputError


class Prior(Protocol):
    """Interface of priors. Half the square of `residual` is -log of its density, but for a constant."""

    def residual(self, value: Tensor) -> Tensor:
        """The residual of natural values, of their shape, differentiable."""
        ...

    def quantile(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """The natural values below which the parts `p` of the belief lie."""
        ...


@dataclass(frozen=True)
class Normal:
    """A normal prior on the natural value of an unknown: what is believed of it before the data are seen."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        """Refuse a width that is not positive and finite."""
        if not (math.isfinite(self.mean) and math.isfinite(self.sd) and self.sd > 0):
            raise InputError(f"Normal({self.mean}, {self.sd}) is no prior: give a finite mean and a positive sd.")

    def residual(self, value: Tensor) -> Tensor:
        """(value - mean) / sd, of the shape of `value`: half its square is the prior's part of the objective."""
        return (value - self.mean) / self.sd

    def quantile(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean + sd z(p)."""
        from scipy.special import ndtri

        return np.asarray(self.mean + self.sd * ndtri(p))


@dataclass(frozen=True)
class LogNormal:
    """A prior on a positive unknown whose logarithm is normal around log(median) with standard deviation `sd`.

    Its density is that of the value, not of its logarithm: -log p = log(v) + (log(v / median) / sd)^2 / 2, which is
    half the square of (log(v / median) + sd^2) / sd, but for a constant.
    """

    median: float
    sd: float

    def __post_init__(self) -> None:
        """Refuse what is not positive and finite."""
        if not (0 < self.median < math.inf and 0 < self.sd < math.inf):
            raise InputError(f"LogNormal({self.median}, {self.sd}) is no prior: give a positive median and sd.")

    def residual(self, value: Tensor) -> Tensor:
        """(log(value / median) + sd^2) / sd."""
        return torch.log(value / self.median) / self.sd + self.sd

    def quantile(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Median exp(sd z(p))."""
        from scipy.special import ndtri

        return np.asarray(self.median * np.exp(self.sd * ndtri(p)))


@dataclass(frozen=True)
class Uniform:
    """Every value between two finite bounds alike, none outside: an unknown with it lives between them."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse bounds that are not finite and in order."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"Uniform({self.low}, {self.high}) is no prior: give two finite bounds, the lower first.")

    def residual(self, value: Tensor) -> Tensor:
        """Zero."""
        return 0.0 * value

    def quantile(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Low + (high - low) p."""
        return np.asarray(self.low + (self.high - self.low) * p)


@dataclass(frozen=True)
class Ridge:
    """A penalty that draws an unknown to zero: for weights, of which nothing is believed but that they are small.

    Where the noise is known or estimated it is a normal prior of standard deviation `sd`. Elsewhere errors of the part
    `noise` of the data's spread count as noise, so that the penalty is (noise value / sd)^2 beside the squares of the
    errors in units of that spread. With `decay` it weighs against the mean of the squares, however many there are and
    whatever their noise: the weight decay of networks, for models that are to stay simple rather than to fit all.

    Source: Hoerl and Kennard (1970).
    """

    sd: float = 1.0
    noise: float = 1e-4
    decay: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not positive and finite."""
        if not (0 < self.sd < math.inf and 0 < self.noise < math.inf):
            raise InputError(f"Ridge({self.sd}, {self.noise}) is no penalty: give a positive sd and a positive noise.")

    def residual(self, value: Tensor) -> Tensor:
        """Value / sd."""
        return value / self.sd

    def quantile(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sd z(p)."""
        return Normal(0.0, self.sd).quantile(p)
