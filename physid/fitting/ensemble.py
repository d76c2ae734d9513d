"""Many solves with unknowns of their own, as one batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from physid.fitting.lanes import solve_alone
from physid.fitting.observation import observe
from physid.fitting.vector import Array, Vector
from physid.ode import Integrator


def ensemble(vector: Vector, xs: Array, times: Tensor, integrator: Integrator) -> Array:
    """Observations [S, T, M] at `times` [T] for the unknowns `xs` [S, Q]; not-a-number where a solve does not reach."""
    y0 = torch.stack([vector.put(x) for x in xs])
    thetas = torch.stack([vector.theta(x) for x in xs])
    first = torch.tensor([float(vector.experiment.initial_time or 0.0)], dtype=torch.float64)
    states, _ = solve_alone(vector.model, vector.raws, thetas, y0, torch.cat([first, times]), integrator)
    found = np.full((len(xs), len(times), len(vector.experiment.channels)), np.nan)
    with torch.no_grad():
        for i, x in enumerate(xs):
            vector.put(x)  # what is observed may depend on the unknowns too
            lane = states[1:, i]
            found[i, : len(lane)] = observe(vector.model, lane).double().cpu().numpy()
    return found
