"""The problems that the engines are timed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FIRST, SECOND = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
RightHandSide = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Counted:
    """A right-hand side that counts its evaluations."""

    f: RightHandSide
    count: int = 0

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        self.count += 1
        return self.f(t, y)


def three_bodies(mass: Tensor) -> RightHandSide:
    """G = 1, state [..., 2, 3, 3] of positions and velocities."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        r, v = y.unbind(-3)
        apart = r[..., SECOND, :] - r[..., FIRST, :]
        pull = apart * (apart * apart).sum(-1, keepdim=True) ** -1.5
        a = torch.zeros_like(r).index_add(-2, FIRST, pull * mass[SECOND, None])
        return torch.stack([v, a.index_add(-2, SECOND, -pull * mass[FIRST, None])], dim=-3)

    return field


def three_bodies_start() -> tuple[Tensor, Tensor]:
    """Masses [3] and state [2, 3, 3]: the paper's positions x 1.5 and velocities x 3; closest approach .053."""
    r = 1.5 * torch.tensor([[0, 0.2, 0], [0.5, 0, 0.5], [0, 0, 0.5]], dtype=torch.float64)
    v = 3.0 * torch.tensor([[0, 0.1, 0], [0, 0, 0.1], [0.1, 0, 0]], dtype=torch.float64)
    return torch.tensor([1.1, 1.1, 0.9], dtype=torch.float64), torch.stack([r, v])


def fresh(turn: int, *values: Tensor) -> list[Tensor]:
    """New leaves for this turn, moved by 1e-9 of themselves so that nothing can be kept from the turn before."""
    return [(value * (1 + 1e-9 * turn)).requires_grad_() for value in values]


def van_der_pol(damping: Tensor) -> RightHandSide:
    """y'' = damping (1 - y^2) y' - y for states [..., 2]."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, damping * (1 - x * x) * v - x], dim=-1)

    return field


class ConvBlock(nn.Module):
    """conv3x3 - BN - ReLU - conv3x3 - BN - ReLU, the right-hand side of the paper's image models."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()

        def half() -> list[nn.Module]:
            return [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]

        self.layers = nn.Sequential(*half(), *half())

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.layers(y)
        return out
