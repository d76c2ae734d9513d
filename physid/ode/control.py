"""Step-size controllers: from the error of an attempt to the factor by which the step changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physid.catalog import Registry
from physid.errors import InputError

RATIO_FLOOR = 1e-12  # an error this small says nothing more, and its power must stay differentiable


@dataclass(frozen=True)
class PID:
    """The digital controller h_{n+1} = h_n safety r_n^{-b1/q} r_{n-1}^{-b2/q} r_{n-2}^{-b3/q}.

    r is the norm of the error over the tolerance, q = min(order, embedded order) + 1, and
    b1 = p + i + d, b2 = -(p + 2 d), b3 = d.  (p, i, d) = (0, 1, 0) is the elementary controller of the paper, with
    safety .9 and the clamp [.2, 10] there.
    The factor is clamped to [shrink, grow], and to at most 1 right after a rejection.

    Source: Soederlind (2003), Digital filters in adaptive time-stepping; Hairer, Norsett and Wanner (1993), II.4.
    """

    name: str = "i"
    p: float = 0.0
    i: float = 1.0
    d: float = 0.0
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.safety <= 1 and 0 < self.shrink < 1 < self.grow and math.isfinite(self.grow)):
            raise InputError(
                f"step-size controller with safety {self.safety}, shrink {self.shrink}, grow {self.grow}: "
                "allowed are 0 < safety <= 1 and 0 < shrink < 1 < grow."
            )

    @property
    def remembers(self) -> bool:
        """Whether earlier errors count."""
        return bool(self.p or self.d)

    def factor(self, exponent: float, ratios: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The factor for the next step, from the three last error ratios [L], newest first."""
        factor = self.safety * ratios[0].clamp(min=RATIO_FLOOR) ** (-(self.p + self.i + self.d) * exponent)
        if self.p or self.d:
            factor = factor * ratios[1].clamp(min=RATIO_FLOOR) ** ((self.p + 2 * self.d) * exponent)
        if self.d:
            factor = factor * ratios[2].clamp(min=RATIO_FLOOR) ** (-self.d * exponent)
        return factor.clamp(self.shrink, self.grow)


# Safety .8: on three bodies and van der Pol fewer attempts than .9 at no larger error, since rejections vanish.
CONTROLS: Registry[PID] = Registry(
    "step-size controller",
    {
        "i": PID(safety=0.8),
        "paper": PID("paper", safety=0.9),
        "pi": PID("pi", p=0.4, i=0.3),
        "pid": PID("pid", p=0.2, i=0.3, d=0.05),
    },
)


@dataclass(frozen=True)
class Fixed:
    """Steps of a given length, or (step=None) from one output time to the next; no error is estimated."""

    step: float | None = None
    name: str = "fixed"

    def __post_init__(self) -> None:
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise InputError(f"fixed step of {self.step}: it must be positive and finite.")


Control = PID | Fixed


def lookup(control: Control | str | None) -> Control | None:
    """The controller of that name; values and None pass through."""
    if control is None or isinstance(control, PID | Fixed):
        return control
    return Fixed() if control == "fixed" else CONTROLS.lookup(control)


def rms(values: Tensor) -> Tensor:
    """The root mean square over the last axis; its derivative at zero is zero, not infinite."""
    square = values.abs().square() if values.is_complex() else values.square()
    return square.mean(-1).clamp(min=1e-60 if values.dtype in (torch.float64, torch.complex128) else 1e-30).sqrt()
