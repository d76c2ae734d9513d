"""`simulate`: the one way to solve a model from its first time and observe it, for several vectors of unknowns at once.

The model is driven by the experiment's inputs and solved by the integrator as the user set it, on its engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.inference.batch import BatchSolution, solve_batch
from physid.inference.parameters import ParameterVector
from physid.inference.probing import held
from physid.modelling.observation import linearise, observe
from physid.ode import Integrator, Solution


@dataclass(frozen=True)
class Prediction:
    """Observations `mean` [T, M] at the times asked for, and the states [T, *state] that they are read of.

    `slope` [T, M, Q] is their derivative by x, None where it was not asked for. What a solve did not reach is
    not-a-number, and `ok` False. The solution is that of all vectors that were solved with it.
    """

    mean: Array
    slope: Array | None
    states: Tensor
    ok: bool
    solution: Solution

    @property
    def slopes(self) -> Array:
        """The derivative [T, M, Q], where it was asked for. Errors: TypeError where it was not."""
        if self.slope is None:
            raise TypeError("the prediction was made without sensitivities")
        return self.slope


def simulate(
    parameters: ParameterVector,
    xs: Sequence[Array] | Array,
    times: Tensor | Array | Sequence[float],
    integrator: Integrator,
    sensitivities: bool = False,
    experiment: int = 0,
) -> list[Prediction]:
    """Predictions of an experiment's model at `times` [T] by each of the vectors `xs` [S][Q], solved as one batch.

    `sensitivities`: with the derivatives by x, whose columns the integrator's probes hold to its tolerances. The model
    is left with the last of the vectors.
    """
    if not len(xs):
        return []
    local, columns = parameters.vectors[experiment], parameters.columns[experiment]
    when = torch.as_tensor(times, dtype=torch.float64)
    samples = [(np.asarray(x, dtype=np.float64), experiment, when) for x in xs]
    found = solve_samples(parameters, samples, integrator, sensitivities)
    width = local.experiment.train.observations[0].numel()
    out = []
    for sample, x in enumerate(xs):
        states = found.states[1:, sample]
        mean, slope = np.full((len(when), width), np.nan), None
        if sensitivities:
            slope = np.zeros((len(when), width, len(x)))
            slope[..., columns] = np.nan
        reached = int(torch.isfinite(states.reshape(len(states), -1)).all(1).long().cumprod(0).sum())
        if reached:
            mean[:reached], by = observed(parameters, samples[sample], found, sample, reached)
            if slope is not None:
                slope[:reached][..., columns] = by
        out.append(Prediction(mean, slope, states, found.ok[sample] and reached == len(when), found.solution))
    return out


Sample = tuple[Array, int, Tensor]  # x [Q], the number of the experiment, and times [T]


def solve_samples(
    parameters: ParameterVector, samples: Sequence[Sample], integrator: Integrator, sensitivities: bool
) -> BatchSolution:
    """The states of samples that are driven by the same inputs, from the first time on: its row is the first."""
    vectors, columns = parameters.vectors, parameters.columns
    longest = max(len(times) for _, _, times in samples)
    grid = torch.stack([grid_of(vectors[e].experiment, times, longest) for _, e, times in samples], 1)
    y0 = torch.stack([vectors[e].put(x[columns[e]]) for x, e, _ in samples])
    thetas = torch.stack([vectors[e].theta(x[columns[e]]) for x, e, _ in samples])
    there = [vectors[e] for e in sorted({e for _, e, _ in samples})]
    chosen = held(integrator, there) if sensitivities else replace(integrator, gradient="aca", probes=0)
    return solve_batch(parameters.model, there[0].raws, thetas, y0, grid, chosen, sensitivities)


def observed(
    parameters: ParameterVector, sample: Sample, found: BatchSolution, place: int, count: int
) -> tuple[Array, Array | None]:
    """Observations [T, M] of a sample at its first `count` times, and their derivatives [T, M, q] by its own x."""
    x, e, _ = sample
    vector, inside = parameters.vectors[e], slice(1, count + 1)
    vector.put(x[parameters.columns[e]])  # what is observed may depend on the unknowns too
    states = found.states[inside, place]
    if found.by is None:
        with torch.no_grad():
            return observe(parameters.model, states).double().cpu().numpy(), None
    by = chained(vector, found.by[inside, place])
    mean, slope = linearise(parameters.model, states, by, vector.raws)
    return mean.double().cpu().numpy(), slope.double().cpu().numpy()


def grid_of(experiment: Experiment, times: Tensor, count: int) -> Tensor:
    """The times of a solve [count + 1]: the initial one, then `times`, the last of them repeated."""
    start = torch.tensor([float(experiment.initial_time or 0.0)], dtype=torch.float64)
    return torch.cat([start, times, times[-1:].expand(count - len(times))])


def chained(vector: ParameterVector, by: Tensor) -> Tensor:
    """d state / d x [T, N, Q] from the derivatives by raw parameters and initial state [T, N, P + N]."""
    starts = by[..., vector.parameters :]
    if len(vector.places) < starts.shape[-1]:  # places are in order: where all are free these are the columns
        starts = starts[..., vector.places.to(by.device)]
    return torch.cat([by[..., : vector.parameters], starts * torch.as_tensor(vector.scale).to(starts)], -1)
