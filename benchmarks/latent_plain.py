"""The latent ODE written as one would with torchdiffeq: autograd through a loop over the times, and its two solvers.

It has the parameters of `physid.models.LatentODE` under the same names, so that both start from the same weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from physid.models.latent_ode import LatentODE
from physid.models.odernn import OdeRnn
from physid.models.odernn_loop import euler_steps
from physid.models.perceptron import Perceptron


class PlainEncoder(OdeRnn):
    """The ODE-RNN, every series at every time; those without an observation there keep their state by a mask."""

    def forward(self, times: Tensor, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """As OdeRnn."""
        met = (observed.sum((0, 2)) > 0).nonzero()[:, 0]
        if not len(met):
            met = torch.tensor([0, len(times) - 1])
        y = values.new_zeros(len(values), self.state)
        s = torch.zeros_like(y)
        for place, lengths in zip(reversed(met.tolist()), euler_steps(times[met].flip(0).tolist()), strict=True):
            for length in lengths:
                y = y + self.field(y) * length
            x = torch.cat((values[:, place], observed[:, place]), -1)
            mask = (observed[:, place].sum(-1, keepdim=True) > 0).to(y)
            all_in = torch.cat((y, s, x), -1)
            u, r = torch.sigmoid(self.update(all_in)), torch.sigmoid(self.reset(all_in))
            new, new_spread = self.fresh(torch.cat((y * r, s * r, x), -1)).chunk(2, -1)
            y_next, s_next = (1 - u) * new + u * y, (1 - u) * new_spread.abs() + u * s
            y, s = mask * y_next + (1 - mask) * y, mask * s_next + (1 - mask) * s
        return y, s


class PlainField(nn.Module):
    """The decoder's field as torchdiffeq wants it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """dz/dt."""
        slope: Tensor = self.net(z)
        return slope


class PlainLatentODE(LatentODE):
    """The same model on torchdiffeq; `solver` is its odeint or odeint_adjoint."""

    def __init__(self, solver: Any, rtol: float = 1e-3, atol: float = 1e-4, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.solver, self.rtol, self.atol = solver, rtol, atol
        self.encoder.__class__ = PlainEncoder
        for module in self.modules():
            if isinstance(module, Perceptron):
                module.__class__ = nn.Sequential  # type: ignore[assignment]
        self.wrapped = [PlainField(self.field)]  # in a list, so that its parameters are not listed twice

    def decode(self, first: Tensor, times: Tensor) -> Tensor:
        """As LatentODE, by torchdiffeq."""
        found = self.solver(self.wrapped[0], first, times, rtol=self.rtol, atol=self.atol, method="dopri5")
        return found.permute(1, 2, 0, 3)  # type: ignore[no-any-return]
