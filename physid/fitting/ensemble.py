"""Many solves with unknowns of their own, as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.fitting.observation import observe
from physid.fitting.vector import Array, Vector
from physid.ode import Integrator


def ensemble(vector: Vector, xs: Array, times: Tensor, integrator: Integrator) -> Array:
    """Observations [S, T, M] at `times` [T] for the unknowns `xs` [S, Q]; not-a-number where a solve does not reach.

    The raw parameters travel with the state, as components that do not change, so that every draw has its own.
    """
    starts, thetas = [], []
    for x in xs:
        starts.append(vector.put(x).reshape(-1))
        thetas.append(torch.cat([raw.detach().reshape(-1) for raw in vector.raws] or [starts[0][:0]]))
    rate = Rate(vector)
    shape, n = rate.shape, rate.n
    y0 = torch.cat([torch.stack(starts), torch.stack(thetas)], 1)
    first = torch.tensor([float(vector.experiment.initial_time or 0.0)], dtype=torch.float64)

    share = (n / y0.shape[1]) ** 0.5  # the rms of the error is to be over the state alone
    rtol, atol = (_scaled(value, share, y0[0, :n], y0.shape[1] - n) for value in (integrator.rtol, integrator.atol))
    with torch.no_grad():
        solution = Integrator(integrator.solver, rtol, atol, integrator.control, max_steps=integrator.max_steps).solve(
            rate, y0, torch.cat([first, times]), batched=True, throw=False
        )
        found = np.full((len(xs), len(times), len(vector.experiment.channels)), np.nan)
        states = solution.y
        if isinstance(states, Tensor):
            for i, x in enumerate(xs):
                vector.put(x)  # what is observed may depend on the unknowns too
                lane = states[1:, i, :n].reshape(-1, *shape)
                found[i, : len(lane)] = observe(vector.model, lane).double().cpu().numpy()
    return found


class Rate:
    """dy/dt of states [S, N + P] whose last P components are the raw parameters of their draw."""

    def __init__(self, vector: Vector) -> None:
        self.model, self.shape = vector.model, vector.experiment.initial.shape
        self.n = self.shape.numel()
        held = self.model.raw._parameters
        names = [name for name, raw in held.items() if any(raw is one for one in vector.raws)]
        self.slots = [(name, raw.shape, raw.numel()) for name, raw in zip(names, vector.raws, strict=True)]

    @property
    def switches(self) -> Tensor | None:
        """The times at which an input of the model jumps."""
        return self.model.switches

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """The rates [S, N + P] at the times [S]."""
        slope = torch.vmap(self._one)(t, y[:, : self.n], y[:, self.n :])
        return torch.cat([slope.reshape(len(y), self.n), torch.zeros_like(y[:, self.n :])], 1)

    def _one(self, t: Tensor, y: Tensor, theta: Tensor) -> Tensor:
        """The rate of one draw, with its raw parameters in the model's place."""
        held: dict[str, Any] = self.model.raw._parameters
        kept = dict(held)
        try:
            for (name, shape, _), part in zip(self.slots, theta.split([size for *_, size in self.slots]), strict=True):
                held[name] = part.view(shape)
            return self.model.field(t, y.view(self.shape))
        finally:
            held.update(kept)


def _scaled(tolerance: float | Tensor | Sequence[float], share: float, state: Tensor, count: int) -> float | Tensor:
    """The tolerance times the share, and any for the parameters."""
    if isinstance(tolerance, float | int):
        return float(tolerance) * share
    return torch.cat([torch.as_tensor(tolerance).to(state).expand(state.shape) * share, state.new_ones(count)])
