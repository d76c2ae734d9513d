"""What the tests of fitting share: small models, and data made for them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from physid import Experiment, Model, Trajectory, Unknown, positive
from physid.models import Exponential
from physid.ode import Integrator

TIGHT = Integrator("dopri8", 1e-10, 1e-10, gradient="forward")


class Drift(Model):
    """z' = rate: the straight line, whose least squares are in every textbook."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    rate = Unknown(0.0)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return self.rate + torch.zeros_like(y)


class Product(Model):
    """z' = -a b z, in which only the product can be seen."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    a = Unknown(1.0, positive)
    b = Unknown(1.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.a * self.b * y


class Gain(Exponential):
    """Exponential decay read by an instrument of unknown gain and offset."""

    gain = Unknown(1.0, positive)
    offset = Unknown(0.0)

    def observe(self, y: Tensor) -> Tensor:
        return self.gain * y + self.offset


def line(sigma: float | None = None, noise: float = 0.1) -> Experiment:
    times = np.linspace(0.0, 2.0, 30)
    values = 0.3 + 1.7 * times + noise * np.random.default_rng(1).standard_normal(30)
    return Experiment(
        "line",
        Trajectory(torch.tensor(times), torch.tensor(values[:, None])),
        torch.zeros(1),
        initial_free=torch.ones(1, dtype=torch.bool),
        initial_scale=torch.ones(1),
        sigma=sigma,
    )


def decay(noise: float, seed: int, points: int = 60, rate: float = -0.5, sigma: float | None = None) -> Experiment:
    times = np.linspace(0.0, 4.0, points)
    values = np.exp(rate * times) + noise * np.random.default_rng(seed).standard_normal(points)
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    return Experiment("exponential", known, torch.ones(1), truth={"k": rate}, sigma=sigma)


class Fragile(Exponential):
    """Not-a-number for growth: a region into which a fit steps and from which it must come back."""

    k = Unknown(-3.0)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.where(self.k > 0.0, torch.nan, 1.0) * self.k * y
