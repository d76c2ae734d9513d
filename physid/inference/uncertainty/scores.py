"""Scores: mse and rmse on the training part, the test part, the forecast, and other records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.inference.parameters import ParameterVector
from physid.inference.problem import Problem
from physid.inference.simulate import simulate
from physid.ode import Integrator

Scores = dict[str, dict[str, float] | None]


def scores(
    problem: Problem, x: Array, integrator: Integrator, held: Sequence[Experiment] = ()
) -> tuple[Scores, dict[str, Scores]]:
    """Scores on train, test, forecast (the test beyond training) and validation; None where there is none or it fails.

    Of all experiments together, their mse weighted by the number of times, and of each by its name; of an experiment
    that was held out whole, all of it is test.
    """
    vector = problem.vector
    each = {
        one.experiment.name: score(one, x[columns], integrator)
        for one, columns in zip(vector.vectors, vector.columns, strict=True)
    }
    sizes = {one.name: _sizes(one) for one in problem.experiments}
    for one in held:
        local = ParameterVector(vector.model, one)
        found = score(local, _shared(vector, x, local), integrator)
        each[one.name] = {"train": None, "test": found["train"], "forecast": None}
        sizes[one.name] = {"train": 0, "test": len(one.train), "forecast": 0}
    names = ["train", "test", "forecast"]
    if any("validation" in one for one in each.values()):
        names.append("validation")
    return {name: _pooled(name, each, sizes) for name in names}, each


def score(vector: ParameterVector, x: Array, integrator: Integrator) -> Scores:
    """The scores of one experiment at its x."""
    experiment = vector.experiment
    parts = {"train": experiment.train, "test": experiment.test, "forecast": experiment.forecast}
    found, other = _run(vector, x, parts, integrator), experiment.validation
    if other is None:
        return found
    start = torch.where(other.initial_free, vector.initial(x), other.initial)
    local = ParameterVector(
        vector.model, replace(other, initial=start, initial_free=torch.ones_like(other.initial_free))
    )
    same = np.concatenate([x[: vector.parameters], np.zeros(len(local.places))])
    try:
        return found | _run(local, same, {"validation": other.train}, integrator)
    finally:
        vector.put(x)  # driven as before


def _run(vector: ParameterVector, x: Array, parts: Mapping[str, Trajectory | None], integrator: Integrator) -> Scores:
    """The scores of a free run from the initial state of `x`."""
    times = torch.unique(torch.cat([part.times for part in parts.values() if part is not None]))  # sorted
    (found,) = simulate(vector, [x], times, integrator)
    seen = torch.from_numpy(found.mean)
    return {name: _score(vector.experiment, part, times, seen) for name, part in parts.items()}


def _score(experiment: Experiment, part: Trajectory | None, times: Tensor, seen: Tensor) -> dict[str, float] | None:
    if part is None:
        return None
    predicted = seen[torch.searchsorted(times, part.times)].reshape(part.observations.shape)
    found = experiment.score(predicted, part)
    return found if all(math.isfinite(value) for value in found.values()) else None


def _shared(vector: ParameterVector, x: Array, local: ParameterVector) -> Array:
    """The unknowns of an experiment that was not fitted: those of the first one that was."""
    return x[vector.columns[0]][: local.parameters]


def _sizes(one: Experiment) -> dict[str, int]:
    parts = {"train": one.train, "test": one.test, "forecast": one.forecast}
    if one.validation is not None:
        parts["validation"] = one.validation.train
    return {name: 0 if part is None else len(part) for name, part in parts.items()}


def _pooled(name: str, each: dict[str, Scores], sizes: dict[str, dict[str, int]]) -> dict[str, float] | None:
    there = [key for key in each if sizes[key].get(name)]
    found = [each[key][name] for key in there]
    if not there or any(one is None for one in found):
        return None
    if len(there) == 1:
        return found[0]
    total = sum(sizes[key][name] for key in there)
    mse = sum(one["mse"] * sizes[key][name] for key, one in zip(there, found, strict=True) if one) / total
    return {"mse": mse, "rmse": math.sqrt(mse)}
