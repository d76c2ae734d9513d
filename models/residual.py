"""A neural residual in a known equation: what the physics leaves over is learned, and kept small (universal ODE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from physid.modelling.model import Model, SecondOrder
from physid.modelling.prior import Ridge
from physid.models.classics import Pendulum
from physid.models.gravity import NewtonGravity
from physid.models.network import Drawn, scale_of, weights


class Residual(Drawn):
    """Adds a network to the model that follows it among the bases: `class Mine(Residual, MyModel)`.

    dy/dt = f(t, y) + N(y / scale), N(x) = linear^T x + out^T tanh(in^T x + shift), or, for a model of second order, for
    every body i, v_i' = a_i + N(r_i / scale, v_i / scale), shared by the bodies. It starts at zero, and is penalised:
    what the known part can explain is left to it. `residual_states` names those states of a model of first order whose
    rates it may touch (by default all); `width` is the number of its hidden units, `state_scale` the typical size of
    the state [*state_shape].

    Source: Rackauckas et al. (2020), universal differential equations.
    """

    residual_states: ClassVar[tuple[str, ...]] = ()
    residual_linear = weights(Ridge())
    residual_in = weights(Ridge(noise=1e-3))
    residual_shift = weights(Ridge(noise=1e-3))
    residual_out = weights(Ridge(noise=1e-3))
    residual_scale: Tensor
    residual_mask: Tensor

    def __init__(self, *, width: int = 8, state_scale: object = 1.0, **values: object) -> None:
        given = {name: values.pop(name) for name in [*values] if name.startswith("residual_")}
        super().__init__(**values)
        self.width = int(width)
        self.register_buffer("residual_scale", scale_of("state_scale", state_scale, tuple(self.state_shape)))
        touched = [not self.residual_states or name in self.residual_states for name in self.state_names]
        self.register_buffer("residual_mask", torch.tensor(touched, dtype=torch.float64), persistent=False)
        self._lay_out(given)

    def layout(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """The layers: random into the hidden units, zero out of them."""
        ends = (2 * self.dimension, self.dimension) if isinstance(self, SecondOrder) else (len(self.state_names),) * 2
        size = (1.0 / ends[0]) ** 0.5
        return {
            "residual_linear": (ends, 0.0),
            "residual_in": ((ends[0], self.width), size),
            "residual_shift": ((self.width,), 1.0),
            "residual_out": ((self.width, ends[1]), 0.0),
        }

    def network(self, x: Tensor) -> Tensor:
        """The network of inputs [..., in] in units of their scale."""
        return x @ self.residual_linear + torch.tanh(x @ self.residual_in + self.residual_shift) @ self.residual_out

    def residual(self, y: Tensor) -> Tensor:
        """The network's part of dy/dt [..., *state_shape] at the states y."""
        x = y / self.residual_scale
        if not isinstance(self, SecondOrder):
            return self.network(x) * self.residual_mask
        added = self.network(torch.cat(x.unbind(-3), -1))
        return torch.stack((torch.zeros_like(added), added), -3)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """The known part and the residual."""
        known: Tensor = super().field(t, y)
        return known + self.residual(y)

    def parts(self, t: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        """The neural part of dy/dt."""
        return {"neural": self.residual(y)}

    @classmethod
    def known(cls) -> type[Model]:
        """The model without the residual: the first of the bases that has none."""
        return next(base for base in cls.__mro__ if issubclass(base, Model) and not issubclass(base, Drawn))


class GravityResidual(Residual, NewtonGravity):
    """Newton's gravity, and a force on every body that is not known, of its position and velocity.

    Source: Newton (1687); Rackauckas et al. (2020).
    """

    recipe: ClassVar[Mapping[str, Any]] = {"strategy": "stages"}


class Undamped(Pendulum):
    """The pendulum without friction: theta' = omega, omega' = -(g / length) sin(theta).

    Source: Huygens (1673), Horologium oscillatorium.
    """

    friction: ClassVar[float] = 0.0  # type: ignore[misc, assignment]


class PendulumResidual(Residual, Undamped):
    """A pendulum whose friction is not known: a network of angle and rate is added to omega'.

    Source: Huygens (1673); Rackauckas et al. (2020).
    """

    residual_states = ("omega",)
