"""An oscillator whose friction is a network of the velocity, and its data, for tests of a user's own modules."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from physid import Experiment, Integrator, Model, Trajectory, Unknown, odeint, positive
from physid.modelling.modules import weights_of
from physid.modelling.prior import Ridge

ROUGH = Integrator("tsit5", 1e-6, 1e-6)
TIMES = torch.linspace(0, 6, 61, dtype=torch.float64)
SPEEDS = torch.linspace(-1.2, 1.2, 25, dtype=torch.float64)


def friction(v: Tensor) -> Tensor:
    """What the network is to find."""
    return 0.2 * v + 0.1 * v**3


class Damped(Model):
    """x'' = -k x - N(v): how the friction goes by the velocity is not known."""

    state_names = ("x", "v")
    k = Unknown(2.0, positive)

    def __init__(self, hidden: tuple[int, ...] = (6,), **values: object) -> None:
        super().__init__(**values)
        sizes = (1, *hidden)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.Tanh()]
        self.friction = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack((v, -self.k * x - self.friction(y[..., 1:])[..., 0]), -1)


class Penalised(Damped):
    """The same with small weights."""

    penalties = {"friction": Ridge(noise=1e-2), "friction.2.bias": Ridge(sd=1e-6)}  # noqa: RUF012


def swing(noise: float = 0.005, name: str = "osc") -> Experiment:
    """An oscillator of k = 2.5 with that friction."""
    y = odeint(lambda t, y: torch.stack((y[1], -2.5 * y[0] - friction(y[1]))), torch.tensor([1.0, 0.0]).double(), TIMES)
    assert isinstance(y, Tensor)
    random = torch.Generator().manual_seed(1)
    y = y + noise * torch.randn(y.shape, generator=random, dtype=torch.float64)
    return Experiment(name, Trajectory(TIMES, y), torch.tensor([1.0, 0.0]))


def weights(model: Model) -> dict[str, Tensor]:
    return {name: one.raw_of(model).detach().clone() for name, one in weights_of(model).items()}


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)
