"""Models of systems that were measured: a carriage on a rail, two tanks one above the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from physid.smooth import smooth_sign
from physid.spec import Model
from physid.unknown import Unknown, positive, real

TURNING = 0.01  # m/s


class Carriage(Model):
    """A carriage on a rail that a motor pushes against viscous and dry friction; its position is seen.

    q' = v;  mass v' = force - viscous v - dry sign(v) - offset. State [..., 2], observed q [..., 1], input: the force.

    The sign is smooth over 1 cm/s, an eighth of the greatest speed. Narrower ones fit the record with an rmse of 2.3 to
    2.5 mm in place of 2.5, but each turn of the carriage is then a corner at which solvers and fits slow down.

    Source: the reference model of Janot, Gautier and Brunot (2019).
    """

    state_names: ClassVar[tuple[str, ...]] = ("q", "v")
    channel_names: ClassVar[tuple[str, ...]] = ("q",)
    input_names: ClassVar[tuple[str, ...]] = ("force",)
    units: ClassVar[Mapping[str, str]] = {"t": "s", "q": "m", "v": "m/s", "force": "N"}
    mass = Unknown(100.0, positive, unit="kg")
    viscous = Unknown(100.0, positive, unit="N s/m")
    dry = Unknown(10.0, positive, unit="N")
    offset = Unknown(0.0, real, unit="N")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """(v, (force - viscous v - dry sign(v) - offset) / mass)."""
        (force,) = self.inputs(t)
        _, v = y.unbind(-1)
        friction = self.viscous * v + self.dry * smooth_sign(v, TURNING) + self.offset
        return torch.stack((v, (force - friction) / self.mass), -1)

    def observe(self, y: Tensor) -> Tensor:
        """The position [..., 1]."""
        return y[..., :1]
