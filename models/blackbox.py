"""Black-box neural ODE: the field is a network of the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from physid.data.experiment import Experiment
from physid.data.smoothing import smooth
from physid.errors import InputError
from physid.modelling.model import SecondOrder
from physid.modelling.prior import Ridge
from physid.models.network import Drawn, drawn, scale_of, weights


def force_scale(experiment: Experiment) -> Tensor:
    """The rms of the second derivative [*observation] of an experiment's smoothed channels; one where there is none."""
    times = experiment.train.times.numpy()
    _, slope = smooth(experiment.train, times)
    if len(times) < 5 or not np.isfinite(slope).all():
        return torch.ones(experiment.train.observations.shape[1:], dtype=torch.float64)
    size = np.sqrt((CubicSpline(times, slope)(times, 1) ** 2).mean(0)) / float(
        experiment.constants.get("velocity_scale", 1)
    )
    return torch.from_numpy(np.where(size > 0, size, 1.0)).view(experiment.train.observations.shape[1:])


def rate_scale(experiment: Experiment) -> Tensor:
    """The rms of the first derivative [*observation] of an experiment's smoothed channels; one where there is none."""
    _, slope = smooth(experiment.train, experiment.train.times.numpy())
    size = np.sqrt((slope**2).mean(0))
    return torch.from_numpy(np.where(size > 0, size, 1.0)).view(
        experiment.train.observations.shape[1:]
    )  # nan > 0 is not


def layers(size: int, width: int) -> dict[str, tuple[tuple[int, ...], float]]:
    """Shapes and draws of a network of `size` inputs and outputs; hidden weights have unit variance, as inputs have."""
    return {
        "linear": ((size, size), 0.0),
        "bias": ((size,), 0.0),
        "hidden": ((size, width), (3.0 / size) ** 0.5),
        "shift": ((width,), 1.0),
        "out": ((width, size), 0.0),
    }


def network(model: BlackBoxMotion | BlackBox, x: Tensor) -> Tensor:
    """linear^T x + bias + out^T tanh(hidden^T x + shift) [..., size]."""
    found: Tensor = x @ model.linear + model.bias + torch.tanh(x @ model.hidden + model.shift) @ model.out
    return found


class BlackBoxMotion(Drawn, SecondOrder):
    """Motion of bodies whose accelerations are a network of all positions, and nothing more is known of them.

    r_i' = K2 v_i, with K2 the velocity scale; v' = s (linear^T x + bias + out^T tanh(hidden^T x + shift)) with
    x = r / length_scale and s the `force_scale`, the size of every acceleration, so that all are penalised alike.
    The hidden layer is drawn at random and stays, so that the regression of the others is linear; `--free hidden` and
    `--free shift` train it too. The weights decay: without that the accelerations of close encounters throw the bodies
    away. It is fitted to the rates of the data alone, which extrapolates better than a fit to the whole path, from
    several seeds, of which the forecast is the mean.

    Source: Chen et al. (2018) for the neural ODE; Huang, Zhu and Siew (2006) for random hidden layers.
    """

    recipe: ClassVar[Mapping[str, Any]] = {
        "strategy": "rates",
        "seeds": 5,
        "solver": "dopri5",
        "rtol": 1e-7,
        "atol": 1e-7,
    }
    linear, out = (weights(Ridge(sd=13.0, decay=True)) for _ in range(2))
    bias = weights()
    hidden, shift = drawn(), drawn()
    force_scale: Tensor

    def __init__(
        self,
        *,
        bodies: int = 3,
        dimension: int = 3,
        width: int = 32,
        velocity_scale: float = 1.0,
        length_scale: float = 1.0,
        force_scale: object = 1.0,
        **values: object,
    ) -> None:
        super().__init__(**values)
        self.bodies, self.dimension, self.width = int(bodies), int(dimension), int(width)
        self.velocity_scale, self.length_scale = float(velocity_scale), float(length_scale)
        if self.width < 1:
            raise InputError(f"width={width}: expected one hidden unit or more.")
        scale = scale_of("force_scale", force_scale, (self.bodies, self.dimension))
        self.register_buffer("force_scale", scale.reshape(-1))
        self._lay_out(values)

    def layout(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """The layers."""
        return layers(self.bodies * self.dimension, self.width)

    def velocity(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """K2 v."""
        return v if self.velocity_scale == 1.0 else self.velocity_scale * v

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """The network of the positions [..., bodies, dim]."""
        x = r.flatten(-2) / self.length_scale
        return torch.unflatten(self.force_scale * network(self, x), -1, (self.bodies, self.dimension))


class IsolatedMotion(BlackBoxMotion):
    """A black box that knows one thing: nothing from outside acts on the bodies.

    As `BlackBoxMotion`, with x = (r - mean r) / length_scale and the mean of the accelerations taken off, so that the
    mean of all positions goes straight on, whatever the network has learnt. That is exact for bodies of one mass; for
    others it is about as wrong as the forecast that lets the centre of mass drift on.

    Source: Chen et al. (2018), section 3, with the conservation of momentum built in.
    """

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """The network of the positions about their mean, less its mean [..., bodies, dim]."""
        found = super().acceleration(t, r - r.mean(-2, keepdim=True), v)
        return found - found.mean(-2, keepdim=True)


class BlackBox(Drawn):
    """A system of first order, all of whose states are seen, and of which nothing else is known.

    dy/dt = s (linear^T x + bias + out^T tanh(hidden^T x + shift)) with x = y / state_scale and s the `rate_scale`, the
    typical size of every rate. State [..., states]. The hidden layer is drawn at random and stays so.

    Source: Chen et al. (2018) for the neural ODE; Huang, Zhu and Siew (2006) for random hidden layers.
    """

    noise: ClassVar[str | None] = "equal"
    recipe: ClassVar[Mapping[str, Any]] = {"strategy": "match", "seeds": 3}
    linear, out = (weights(Ridge(noise=1e-3)) for _ in range(2))
    bias = weights(Ridge(noise=1e-3))
    hidden, shift = drawn(), drawn()
    state_scale: Tensor
    rate_scale: Tensor

    def __init__(
        self, *, states: int = 2, width: int = 32, state_scale: object = 1.0, rate_scale: object = 1.0, **values: object
    ) -> None:
        super().__init__(**values)
        self.states, self.width = int(states), int(width)
        if self.width < 1 or self.states < 1:
            raise InputError(f"states={states}, width={width}: expected one or more.")
        for name, given in (("state_scale", state_scale), ("rate_scale", rate_scale)):
            self.register_buffer(name, scale_of(name, given, (self.states,)))
        self._lay_out(values)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """(states,)."""
        return (self.states,)

    def layout(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """The layers."""
        return layers(self.states, self.width)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """The network of the state [..., states]."""
        x = y / self.state_scale
        return self.rate_scale * network(self, x)
