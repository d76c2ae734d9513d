"""Classical small systems, each with its equation, true values and source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown, positive, real


class Exponential(Model):
    """Growth or decay at a constant rate.

    z' = k z, with z(t) = z(0) exp(k t). State [..., 1]. Truth in the experiment: k = -0.5.

    Source: the toy problem of Zhuang et al. (2020), section 4.1 and figure 6.
    """

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    units: ClassVar[Mapping[str, str]] = {"t": "s"}
    k = Unknown(0.0, real, unit="1/s")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """K z."""
        return self.k * y


class VanDerPol(Model):
    """The van der Pol oscillator, which feeds small swings and damps large ones.

    x' = v;  v' = (mu - x^2) v - x. State [..., 2]. Truth in the experiment: mu = 0.15.

    Source: van der Pol (1926), in the form of Zhuang et al. (2020), section 3.2 and figure 4.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    mu = Unknown(0.5, real)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """(v, (mu - x^2) v - x)."""
        x, v = y.unbind(-1)
        return torch.stack((v, (self.mu - x * x) * v - x), -1)


class LotkaVolterra(Model):
    """Prey u and predators v.

    u' = alpha u - beta u v;  v' = delta u v - gamma v. State [..., 2]. Truth in the experiment: alpha = 0.55,
    beta = 0.028, gamma = 0.84, delta = 0.026, rounded from published fits to the hare and lynx pelts of 1900 to 1920.

    Source: Lotka (1925), Volterra (1926); values after Howard (2009) and Carpenter (2018).
    """

    state_names: ClassVar[tuple[str, ...]] = ("u", "v")
    units: ClassVar[Mapping[str, str]] = {"t": "yr"}
    alpha = Unknown(0.4, positive, unit="1/yr")
    beta = Unknown(0.02, positive, unit="1/yr")
    gamma = Unknown(0.6, positive, unit="1/yr")
    delta = Unknown(0.02, positive, unit="1/yr")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """(alpha u - beta u v, delta u v - gamma v)."""
        u, v = y.unbind(-1)
        return torch.stack(((self.alpha - self.beta * v) * u, (self.delta * u - self.gamma) * v), -1)


class Pendulum(Model):
    """A pendulum of unknown length with friction in proportion to its rate; only the angle is seen.

    theta' = omega;  omega' = -(g / length) sin(theta) - friction omega. State [..., 2], observed theta [..., 1].
    Truth in the experiment: length 0.7 m, friction 0.1 /s. The constant g is known: only g / length can be seen.

    Errors: InputError for a gravity that is not positive.

    Source: Huygens (1673), Horologium oscillatorium, for the undamped swing.
    """

    state_names: ClassVar[tuple[str, ...]] = ("theta", "omega")
    channel_names: ClassVar[tuple[str, ...]] = ("theta",)
    units: ClassVar[Mapping[str, str]] = {"t": "s", "theta": "rad", "omega": "rad/s"}
    length = Unknown(1.0, positive, unit="m")
    friction = Unknown(0.2, positive, unit="1/s")

    def __init__(self, *, gravity: float = 9.80665, **values: object) -> None:
        super().__init__(**values)
        if not gravity > 0.0:
            raise InputError(f"gravity={gravity!r}: expected a positive number of metres per second squared.")
        self.gravity = float(gravity)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """(omega, -(g / length) sin(theta) - friction omega)."""
        theta, omega = y.unbind(-1)
        swing = self.gravity / self.length * torch.sin(theta)
        return torch.stack((omega, -swing - self.friction * omega), -1)

    def observe(self, y: Tensor) -> Tensor:
        """The angle [..., 1]."""
        return y[..., :1]
