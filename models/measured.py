"""Models of systems that were measured: a carriage on a rail, two tanks one above the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from physid.modelling.model import Model
from physid.modelling.smooth import smooth_clip, smooth_ramp, smooth_sign, smooth_sqrt
from physid.modelling.unknown import Unknown, positive, real

TURNING = 0.01  # m/s
FULL = 10.0  # V: where a tank is full
EDGE, DRY = 0.1, 0.01  # V: over which the lower tank begins to spill, and both run dry
SPILL, LOST = 0.2, 0.4  # 1/s: how fast what is above the brim leaves


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


class CascadedTanks(Model):
    """Two tanks, one above the other, filled by a pump; the level of the lower one is seen.

    upper' = fill (pump - threshold)+ - drain1 sqrt(upper) - spill;  lower' = pour sqrt(upper) + share spill
    - (drain2 sqrt(lower) - choke lower) - lost; spill = SPILL (upper - 10)+, lost = LOST (lower - 10)+. State [..., 2]
    in V of a sensor, observed [..., 1]: the lower level, clipped at 10 V; input: the pump's voltage.

    All roots and ramps ( )+ are smooth: with a hard overflow a fit ends in as many optima as it has starts. The scale
    of the upper level, which is not seen, is set by the 10 V at which it spills. `choke` is the first correction to
    Torricelli's root: the outlet lets less through, the faster the water runs in it. The upper tank spills over `brim`;
    a fit is led there from a brim of 1 V, without which half of all starts are lost.

    Source: Schoukens, Mattson, Wigren and Noel (2016) for the system; Torricelli (1643) for the roots.
    """

    state_names: ClassVar[tuple[str, ...]] = ("upper", "lower")
    channel_names: ClassVar[tuple[str, ...]] = ("level",)
    input_names: ClassVar[tuple[str, ...]] = ("pump",)
    units: ClassVar[Mapping[str, str]] = {"t": "s", "level": "V", "pump": "V"}
    drain1 = Unknown(0.04, positive)
    pour = Unknown(0.04, positive)
    drain2 = Unknown(0.04, positive)
    fill = Unknown(0.04, positive, unit="1/s")
    share = Unknown(1.0, positive)
    choke = Unknown(0.0, real, unit="1/s")
    brim = 0.1  # V
    continuation: ClassVar[Mapping[str, tuple[float, ...]]] = {"brim": (1.0,)}
    threshold = Unknown(0.3, real, unit="V")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """The balances of both tanks."""
        (pump,) = self.inputs(t)
        upper, lower = y.unbind(-1)
        out = smooth_sqrt(upper, DRY)
        spill = SPILL * smooth_ramp(upper - FULL, self.brim)
        lost = LOST * smooth_ramp(lower - FULL, EDGE)
        filled = self.fill * smooth_ramp(pump - self.threshold, 0.05) - self.drain1 * out - spill
        outlet = self.drain2 * smooth_sqrt(lower, DRY) - self.choke * lower
        below = self.pour * out + self.share * spill - outlet - lost
        return torch.stack((filled.expand_as(below), below), -1)

    def observe(self, y: Tensor) -> Tensor:
        """The lower level [..., 1] as its sensor shows it."""
        return smooth_clip(y[..., 1:], None, FULL, EDGE)
