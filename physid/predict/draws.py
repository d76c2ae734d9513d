"""Forecasts for unknowns drawn from their covariance, and how heavy a fit's bodies are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from physid.arrays import Array
from physid.inference.result import FitResult
from physid.modelling.observation import observe

SMALL = 1e-12  # eigenvalues of the covariance below this part of the largest are taken for zero
SECONDS = 60.0  # that the draws may take


def draw(fit: FitResult, times: Array, count: int, seed: int = 0) -> Array:
    """Observations [count, T, M] at `times` [T] for unknowns drawn normally about the estimate, each solved in full.

    Not linearised, so that they fan out as the system does; not-a-number where a draw's solve did not reach. Without a
    covariance there are none: [0, T, M].
    """
    channels = len(fit.experiment.channels)
    if fit.covariance is None or not np.isfinite(fit.covariance).all():
        return np.empty((0, len(times), channels))
    values, vectors = np.linalg.eigh(fit.covariance)
    root = vectors * np.sqrt(np.where(values > SMALL * values.max(), values, 0.0))
    drawn = fit.x + np.random.default_rng(seed).standard_normal((count, len(fit.x))) @ root.T
    vector = fit.vector
    try:
        starts, raws = [], []
        for x in drawn:
            starts.append(vector.put(x).clone())
            raws.append({name: raw.detach().clone() for name, raw in fit.model.named_parameters()})
        states = _states(fit, raws, torch.stack(starts), times)
        found = np.empty((count, len(times), channels))
        for i, x in enumerate(drawn):
            vector.put(x)  # what is observed may depend on the unknowns too
            with torch.no_grad():
                found[i] = observe(fit.model, states[:, i]).double().cpu().numpy()
    finally:
        vector.put(fit.x)
    return found


def _states(fit: FitResult, raws: list[dict[str, Tensor]], starts: Tensor, times: Array) -> Tensor:
    """The states [T, D, *state] of the model with the parameters `raws` of each draw from `starts` [D, *state]."""
    grid = torch.tensor([float(fit.experiment.initial_time), *times.tolist()], dtype=torch.float64)
    together = {name: torch.stack([raw[name] for raw in raws]) for name in raws[0]}

    def one(raw: dict[str, Tensor], t: Tensor, y: Tensor) -> Tensor:
        rate: Tensor = functional_call(fit.model, raw, (t, y))
        return rate

    def field(t: Tensor, y: Tensor) -> Tensor:
        rates: Tensor = torch.vmap(one)(together, t.expand(len(y)), y)
        return rates

    integrator = replace(fit.integrator, time_limit=SECONDS)
    with torch.no_grad():
        states = integrator.solve(field, starts, grid, batched=True, params=(), throw=False).y
    return states[1:] if isinstance(states, Tensor) else states[0][1:]


def strengths(fit: FitResult) -> Array | None:
    """The strengths [B] of the observed bodies, where the model has such; the one they are relative to left out."""
    strength = getattr(fit.model, "strength", None)
    if strength is None:
        return None
    values: Array = strength().detach().double().cpu().numpy()
    center = getattr(fit.model, "relative_to", None)
    return values if center is None else np.delete(values, center)
