"""Contributions: the share of each state's derivative that a part of the model makes up, along the data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from physid.arrays import Array
from physid.inference.parameters import ParameterVector
from physid.inference.simulate import simulate
from physid.ode import Integrator

AXES = "xyz"


def contributions(vector: ParameterVector, x: Array, integrator: Integrator) -> dict[str, dict[str, float]]:
    """Part -> state -> rms of the part over that of dy/dt, where the part is not zero; of all experiments together."""
    model = vector.model
    found: dict[str, list[Tensor]] = {}
    rates: list[Tensor] = []
    for local, columns in zip(vector.vectors, vector.columns, strict=True):
        times, states = along(local, x[columns], integrator)
        with torch.no_grad():
            for name, part in model.parts(times, states).items():
                found.setdefault(name, []).append(part)
            rates.append(model.field(times, states) if found else states)
    if not found:
        return {}
    whole = torch.cat(rates).square().mean(0).reshape(-1).sqrt()
    names = state_names(model.state_names, tuple(model.state_shape))
    out: dict[str, dict[str, float]] = {}
    for name, parts in found.items():
        size = torch.cat(parts).square().mean(0).reshape(-1).sqrt()
        pairs = zip(names, size.tolist(), whole.tolist(), strict=True)
        out[name] = {state: a / b if b else 0.0 for state, a, b in pairs if a > 0.0}
    return out


def along(local: ParameterVector, x: Array, integrator: Integrator) -> tuple[Tensor, Tensor]:
    """The times [T] of an experiment and the states [T, *state] that the model has there; those that it reaches."""
    start = torch.tensor([float(local.experiment.initial_time or 0.0)], dtype=torch.float64)
    times = torch.unique(torch.cat([start, local.experiment.train.times]))
    (found,) = simulate(local, [x], times, integrator)
    there = torch.isfinite(found.states.reshape(len(times), -1)).all(1)
    return times.to(found.states)[there], found.states[there]


def state_names(names: Sequence[str], shape: tuple[int, ...]) -> list[str]:
    """The names of the elements of a state: the model's, or as in r1x and v1x for bodies in space."""
    if len(shape) == 1 and len(names) == shape[0]:
        return list(names)
    if len(shape) == 3 and shape[0] == 2 and shape[2] <= len(AXES):
        return [f"{'rv'[k]}{i + 1}{AXES[c]}" for k, i, c in product(*map(range, shape))]
    return [f"y[{','.join(map(str, index))}]" for index in product(*map(range, shape))]
