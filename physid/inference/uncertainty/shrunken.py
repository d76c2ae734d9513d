"""Small hidden states: reports states that turn out far smaller than the sizes their tolerances used."""

from __future__ import annotations

import numpy as np
import torch

from physid.arrays import Array
from physid.inference.parameters import labels
from physid.inference.problem import Problem
from physid.inference.simulate import simulate
from physid.modelling.state_sizes import seen_sizes

FAR = 100.0  # times that a state is smaller than the size behind its tolerance


def shrunken(problem: Problem, x: Array) -> str:
    """The warning about hidden states that are FAR times smaller at the optimum `x` than their tolerance assumes.

    Empty where there are none, where a tolerance is one number that was asked for, and where nothing is hidden. A state
    that grows beyond its size is safe: the relative tolerance holds for it.
    """
    integrator, model = problem.integrator, problem.vector.model
    rtol = float(torch.as_tensor(integrator.rtol).max())
    if not isinstance(integrator.atol, tuple) or not rtol > 0:
        return ""
    sizes = np.asarray(torch.as_tensor(integrator.atol, dtype=torch.float64)).reshape(-1) / rtol
    largest, hidden = np.zeros(len(sizes)), np.ones(len(sizes), dtype=bool)
    for local, columns in zip(problem.vector.vectors, problem.vector.columns, strict=True):
        train = local.experiment.train
        local.put(x[columns])
        hidden &= np.isnan(seen_sizes(model, train, local.experiment.initial))
        if not hidden.any():
            return ""
        (found,) = simulate(local, [x[columns]], train.times, integrator, sensitivities=True)
        states = torch.cat([local.put(x[columns])[None], found.states]).reshape(len(train) + 1, -1)
        sizes_there = states.abs().double().cpu().numpy()
        if not np.isfinite(sizes_there).all():
            return ""
        largest = np.maximum(largest, sizes_there.max(0))
    small = hidden & (largest > 0) & (FAR * largest < sizes)
    if not small.any():
        return ""
    states_by_name = model.state_names or labels("state", problem.experiment.initial.shape)
    names = [name for name, one in zip(states_by_name, small, strict=True) if one]
    i = int(np.argmax(np.where(small, sizes / np.where(largest > 0, largest, 1.0), 0.0)))
    better = ", ".join(f"{rtol * size:.1e}" for size in np.where(small, largest, sizes))
    return (
        f" The hidden {', '.join(names)} stays below {largest[i]:.1g}, and its tolerance assumed a size of "
        f"{sizes[i]:.1g}: say its size (initial_scale of the experiment), or fit again with atol=({better})."
    )
