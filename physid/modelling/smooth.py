"""Smooth clip, absolute value, sign and ramp, for laws with corners.

A hard clip, |x| or sign(x) has a slope that jumps. Solvers lose their order there, and a fit loses its way: on the
cascaded tanks six starts with a hard overflow ended in six optima, and with a soft one all agree. Each function here
takes the `width` over which the corner is rounded, in the unit of x: small against what x does, and not so small that a
step of the solver jumps over it (a hundredth of the range of x is a good first choice).
All are computed without overflow, keep shape and dtype, and have finite slopes of every order everywhere.

Source: the smoothed ramp is the softplus of Dugas et al. (2001).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physid.errors import InputError


def smooth_ramp(x: Tensor, width: float) -> Tensor:
    """max(x, 0) with a rounded corner: w log(1 + exp(x / w)), off by w log 2 at 0 and by less than w exp(-|x| / w)."""
    w = _checked(width)
    return w * torch.nn.functional.softplus(x / w, threshold=_EXACT)


def smooth_clip(x: Tensor, low: float | None, high: float | None, width: float) -> Tensor:
    """x kept between `low` and `high` (None: no bound), with rounded corners; between them off by w exp(-distance / w).

    With both bounds they must be further apart than the width, and the result stays strictly between them for finite
    x; increasing in x everywhere.

    Errors: InputError for a width that is not positive, or bounds that are not in order.
    """
    w = _checked(width)
    if low is not None and high is not None and not high - low > w:
        raise InputError(f"smooth_clip from {low:g} to {high:g} with width {w:g}: expected bounds further apart.")
    if low is None and high is None:
        return x
    if high is None:
        return float(low or 0.0) + smooth_ramp(x - float(low or 0.0), w)
    if low is None:
        return high - smooth_ramp(high - x, w)
    return low + smooth_ramp(x - low, w) - smooth_ramp(x - high, w)


def smooth_abs(x: Tensor, width: float) -> Tensor:
    """|x| with a rounded corner: sqrt(x^2 + w^2) - w, which is 0 at 0 and |x| - w far away."""
    w = _checked(width)
    return torch.sqrt(x * x + w * w) - w


def smooth_sign(x: Tensor, width: float) -> Tensor:
    """sign(x) as tanh(x / w): 0 at 0, slope 1 / w there, and within 1e-3 of -1 or 1 beyond 4 w."""
    return torch.tanh(x / _checked(width))


def smooth_sqrt(x: Tensor, width: float) -> Tensor:
    """sqrt(max(x, 0)) that may cross zero: the root of the smoothed ramp; positive, off by less than sqrt(w)."""
    return torch.sqrt(smooth_ramp(x, width))


_EXACT = 700.0  # from here on softplus is its argument; torch's own threshold, 20, leaves a step of 2e-9


def _checked(width: float) -> float:
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"width={width!r}: expected a positive number in the unit of x.")
    return float(width)
