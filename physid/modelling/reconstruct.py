"""State reconstruction: states whose observations and rates of change follow a smoothed record."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.modelling.model import Model
from physid.modelling.observation import observe

SMALLEST = 1e-8  # of the largest singular value: directions that observations do not reach stay as they are


def reconstruct(
    model: Model,
    times: Array,
    seen: Array,
    rate: Array,
    guess: Tensor,
    scale: Tensor,
    rounds: int = 4,
    values: bool = False,
) -> Tensor:
    """States [S, *state] near `guess` with observe(y) = `seen` and d observe(y) / dt = `rate` [S, M], by least squares.

    Gauss-Newton with minimum-norm steps in units of `scale` [*state]: what the observations do not determine is left
    at the guess. Channels that are not-a-number are left out. With `values` the rates, which a poor guess of the
    unknowns gets wrong, only count where the observations alone do not determine the state.
    """
    n = scale.numel()
    t = torch.as_tensor(times).to(guess)
    want = torch.as_tensor(np.concatenate([seen, rate], -1)).to(guess)
    unit = _units(seen, rate).to(guess)

    y = guess.reshape(-1, n)
    for _ in range(rounds):
        value, slope = _values_and_rates(model, t, y.view(guess.shape))
        gap, slope = (want - value) / unit, slope / unit[:, None] * scale.reshape(-1).to(guess)
        measured = torch.isfinite(gap) & torch.isfinite(slope).all(-1)  # and f is finite there
        gap, slope = torch.where(measured, gap, 0.0), torch.where(measured[..., None], slope, 0.0)
        if values:
            half = slope.shape[1] // 2
            whole = torch.linalg.matrix_rank(slope[:, :half], rtol=SMALLEST) == n
            slope[:, half:] = torch.where(whole[:, None, None], 0.0, slope[:, half:])
            gap[:, half:] = torch.where(whole[:, None], 0.0, gap[:, half:])
        step = (torch.linalg.pinv(slope, rtol=SMALLEST) @ gap[..., None])[..., 0] * scale.reshape(-1).to(guess)
        if not bool(torch.isfinite(step).all()):
            break
        y = y + step
    return y.view(guess.shape).detach()


def _values_and_rates(model: Model, t: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """(observe(y), d observe(y) / dt) [S, 2 M] and their derivatives by y [S, 2 M, N]."""
    with torch.enable_grad():
        leaf = states.detach().requires_grad_()
        seen = observe(model, leaf)
        weight = torch.zeros_like(seen, requires_grad=True)
        # as sums: grad_outputs makes torch import its symbolic shapes, which takes most of a second
        (pulled,) = torch.autograd.grad((seen * weight).sum(), leaf, create_graph=True)
        field = model.field(t, leaf)
        (rate,) = torch.autograd.grad((pulled * field).sum(), weight, create_graph=True)
        both = torch.cat([seen, rate], -1)
        columns = both.sum(0)
        rows = [torch.autograd.grad(c, leaf, retain_graph=True, materialize_grads=True)[0] for c in columns]
    return both.detach(), torch.stack(rows, 1).reshape(len(states), both.shape[1], -1)


def _units(seen: Array, rate: Array) -> Tensor:
    """The sizes [2 M] of the values and of the slopes of every channel, so that all weigh alike."""
    columns = np.concatenate([seen, rate], -1)
    there = np.isfinite(columns)
    count = there.sum(0)
    size = np.sqrt(np.square(np.where(there, columns, 0.0)).sum(0) / np.maximum(count, 1))
    return torch.from_numpy(np.where(size > 0, size, 1.0))
