"""Initial step size, where none is given."""

from __future__ import annotations

import torch
from torch import Tensor

from physid.ode.problem import ODEProblem


def initial_step(problem: ODEProblem) -> Tensor:
    """Signed first step [L] from the sizes of y, y' and an estimate of y''; f is not evaluated past the end.

    Source: Hairer, Norsett and Wanner (1993), Solving ODEs I, II.4, algorithm for the starting step size.
    """
    p = problem
    y, slope = p.y0.detach(), p.derivative
    scale = y.abs() * p.rtol + p.atol
    span = (p.grid[-1] - p.grid[0]).abs()
    d0 = p.size(y / scale).to("cpu", torch.float64)
    d1 = p.size(slope / scale).to("cpu", torch.float64)
    trial = torch.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1.clamp(min=1e-300))
    trial = torch.minimum(torch.nan_to_num(trial, nan=1e-6), span)
    column = (p.direction * trial).to(p.layout.device, p.layout.real)[:, None]
    ahead = y + (slope.view(p.layout.lanes, -1) * column).reshape(-1)
    t = p.times(torch.ones(1, dtype=torch.float64), p.grid[0], p.direction * trial)[0]
    d2 = p.size((p.field(t, ahead) - slope) / scale).to("cpu", torch.float64) / trial.clamp(min=1e-300)
    steepest = torch.maximum(d1, d2)
    guess = torch.where(
        steepest <= 1e-15, (trial * 1e-3).clamp(min=1e-6), (0.01 / steepest.clamp(min=1e-300)) ** p.tableau.exponent
    )
    step = torch.minimum(torch.minimum(100 * trial, torch.nan_to_num(guess, nan=1e-6)), span)
    return p.direction * torch.where(span > 0, step, 1.0)
