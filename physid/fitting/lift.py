"""Starting states for segments: states whose observations, and whose rates of change, follow a smooth curve."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.interpolate import CubicSpline, UnivariateSpline
from torch import Tensor

from physid.experiment import Trajectory
from physid.fitting.observation import observe
from physid.fitting.vector import Array
from physid.spec import Model

FEWEST = 5  # points that a smoothing spline needs
SMOOTH = 1e-4  # noise below this part of a channel's spread counts as none
SMALLEST = (
    1e-8  # of the largest singular value: directions of the state that observations do not reach stay as they are
)


def smooth(trajectory: Trajectory, times: Array) -> tuple[Array, Array]:
    """Values and slopes [S, M] at `times` of smoothing splines through the channels; not-a-number with too few points.

    Source: Dierckx (1993), as in scipy.interpolate.
    """
    mask = trajectory.mask.reshape(len(trajectory), -1).numpy()
    values = trajectory.observations.reshape(len(trajectory), -1).numpy()
    found = np.full((2, len(times), mask.shape[1]), np.nan)
    for channel in range(mask.shape[1]):
        rows = mask[:, channel]
        if rows.sum() < FEWEST:
            continue
        t, y = trajectory.times.numpy()[rows], values[rows, channel]
        curve = _curve(t, y)
        found[0, :, channel] = curve(times)
        found[1, :, channel] = curve(times, 1)
    return found[0], found[1]


def _curve(t: Array, y: Array) -> CubicSpline | UnivariateSpline:
    """A smoothing spline that leaves residuals of the size of the noise; an interpolating one where there is none."""
    noise = roughness(t, y)
    if noise <= SMOOTH * float(np.std(y)):
        return CubicSpline(t, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the wanted smoothness was met only nearly
        return UnivariateSpline(t, y, s=len(t) * noise**2)


def roughness(t: Array, y: Array) -> float:
    """The standard deviation of the noise: from what is left of each y [T] by the cubic through its four neighbours."""
    around = np.array([-2, -1, 1, 2])
    middle = np.arange(2, len(t) - 2)
    near = t[middle[:, None] + around]
    weights = np.ones_like(near)
    for i in range(4):
        for j in range(4):
            if i != j:
                weights[:, i] *= (t[middle] - near[:, j]) / (near[:, i] - near[:, j])
    left = y[middle] - (weights * y[middle[:, None] + around]).sum(1)
    return float(np.median(np.abs(left) / np.sqrt(1.0 + (weights**2).sum(1))) / 0.6745)


def lift(model: Model, times: Array, seen: Array, rate: Array, guess: Tensor, scale: Tensor, rounds: int = 4) -> Tensor:
    """States [S, *state] near `guess` with observe(y) = `seen` and d observe(y) / dt = `rate` [S, M], by least squares.

    Gauss-Newton with minimum-norm steps in units of `scale` [*state]: what the observations do not determine is left
    at the guess. Channels that are not-a-number are left out.
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
    """The sizes [2 M] of values and slopes, so that both weigh alike."""
    sizes = [np.sqrt(np.nanmean(part**2)) if np.isfinite(part).any() else 1.0 for part in (seen, rate)]
    return torch.from_numpy(np.repeat([size or 1.0 for size in sizes], seen.shape[1]))
