"""Residuals of a model on an experiment over its full horizon, with their exact derivative."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from physid.errors import InputError
from physid.experiment import Experiment, Trajectory
from physid.fitting.observation import linearise
from physid.fitting.vector import Array, Vector
from physid.ode import Integrator, Solution, sensitivities

PATIENCE = 20  # times the steps of the last point: where a solve needs more, the optimiser should not go


@dataclass(frozen=True)
class Point:
    """The least-squares problem at x [Q]: residuals [N] (predicted - measured, scaled), their derivative [N, Q]."""

    x: Array
    residual: Array
    jacobian: Array

    @property
    def cost(self) -> float:
        """Half the sum of squares."""
        return 0.5 * float(self.residual @ self.residual)


class Problem:
    """r(x) = (predicted - measured) / (scale sqrt(N)) where measured, then the priors' rows.

    `scale` is the known noise or, without one, the spread of the observations, so that the cost is half a relative
    mean square: it does not move the optimum. Errors: InputError when model and observations differ in shape, or for a
    prior without known noise.
    """

    def __init__(self, vector: Vector, integrator: Integrator) -> None:
        self.vector, self.integrator = vector, integrator
        self.experiment: Experiment = vector.experiment
        self.train = self.experiment.train
        self.mask = self.train.mask.reshape(len(self.train), -1).numpy()
        self.measured = np.nan_to_num(self.train.observations.reshape(len(self.train), -1).numpy())
        self.count = int(self.mask.sum())
        self.spread = spread(self.train)
        self.scale = self.experiment.sigma or self.spread
        self.weight = 1.0 / (self.scale * np.sqrt(self.count))
        self.evaluations = 0
        self.message = ""
        self.engine, self.engine_note = "eager", ""
        self.patience = integrator.max_steps
        self._check()

    def _check(self) -> None:
        model, experiment = self.vector.model, self.experiment
        if tuple(model.state_shape) != tuple(experiment.initial.shape):
            raise InputError(
                f"{type(model).__name__} has states of shape {list(model.state_shape)}, but experiment "
                f"{experiment.name} starts from shape {list(experiment.initial.shape)}. Give states of one shape."
            )
        with torch.no_grad():
            seen = model.observe(experiment.initial.to(self.vector.like)[None])
        if seen[0].numel() != self.mask.shape[1]:
            raise InputError(
                f"{type(model).__name__}.observe gives {list(seen.shape[1:])} of a state, but experiment "
                f"{experiment.name} measured {list(self.train.observations.shape[1:])}. Give observe that shape."
            )
        priors = [name for name in self.vector.names if model.unknowns[name].prior is not None]
        if priors and not experiment.sigma:
            raise InputError(
                f"{', '.join(priors)} has a prior, but the noise of {experiment.name} is not known: set its sigma, "
                "or leave the prior out."
            )

    def at(self, x: Array) -> Point | None:
        """The problem at `x`; None when the solve fails there, with the reason in `message`."""
        patience = min(self.integrator.max_steps, self.patience)
        found = predict(self.vector, x, self.train.times, replace(self.integrator, max_steps=patience))
        self.account(found.solution)
        if not found.solution.ok:
            return None
        self.took(found.solution)
        residual = ((found.mean - self.measured)[self.mask]) * self.weight
        jacobian = found.slope[self.mask] * self.weight
        extra, slope = prior_rows(self.vector, x, self.count)
        point = Point(x.copy(), np.concatenate([residual, extra]), np.concatenate([jacobian, slope]))
        if not (np.isfinite(point.residual).all() and np.isfinite(point.jacobian).all()):
            self.message = "the prediction is not finite"
            return None
        return point

    @property
    def floor(self) -> float:
        """A change of the residuals' length that is below the error of the solver."""
        return 1e-2 * tolerance(self.integrator, self.spread) / self.scale

    def took(self, solution: Solution) -> None:
        """Measure the patience with the next solve by a solution that is good."""
        self.patience = PATIENCE * (100 + solution.statistics.accepted)

    def account(self, solution: Solution) -> None:
        """Add what a solve cost, and remember why it failed."""
        self.evaluations += solution.statistics.evaluations + solution.statistics.backward_evaluations
        self.engine, self.engine_note = solution.engine, solution.engine_note
        if not solution.ok:
            self.message = solution.message

    def limited(self, seconds: float | None) -> None:
        """Let no solve take longer than `seconds` of wall clock."""
        self.integrator = replace(self.integrator, time_limit=seconds)


@dataclass(frozen=True)
class Prediction:
    """Observations [T, M] at some times and their derivative by x [T, M, Q], with the solution they come from."""

    mean: Array
    slope: Array
    solution: Solution


def predict(vector: Vector, x: Array, times: Tensor, integrator: Integrator) -> Prediction:
    """Solve from the initial time to `times` [T] and differentiate by x; not-a-number where a solve did not reach."""
    y0 = vector.put(x)
    start = torch.tensor([float(vector.experiment.initial_time or 0.0)], dtype=torch.float64)
    found = sensitivities(
        vector.model, y0, torch.cat([start, times]), params=vector.raws, integrator=integrator, throw=False
    )
    states = found.solution.y
    if not isinstance(states, Tensor):
        raise InputError("the state is a tuple of tensors: fits take one tensor.")
    by_x = chain(vector, found.y0[1:], [part[1:] for part in found.params])
    mean, slope = linearise(vector.model, states[1:], by_x, vector.raws)
    return Prediction(mean.double().cpu().numpy(), slope.double().cpu().numpy(), found.solution)


def chain(vector: Vector, by_start: Tensor, by_params: list[Tensor]) -> Tensor:
    """d state / d x [T, N, Q] from the derivatives by the initial state [T, *state, N] and the parameters."""
    count, n = by_start.shape[0], by_start.shape[-1]
    starts = by_start.reshape(count, n, n)[:, :, vector.places.to(by_start.device)]
    columns = [part.reshape(count, n, -1) for part in by_params]
    return torch.cat([*columns, starts * torch.as_tensor(vector.scale).to(starts)], -1)


def prior_rows(vector: Vector, x: Array, count: int) -> tuple[Array, Array]:
    """The priors' residuals and their derivatives by x, weighted like the data: by 1 / sqrt(count)."""
    rows, slopes = [], []
    natural, slope = vector.natural(x), vector.slopes(x)
    for i, entry in enumerate(vector.entries):
        prior = vector.model.unknowns[entry.owner].prior if entry.owner in vector.model.unknowns else None
        if prior is not None:
            rows.append((natural[i] - prior.mean) / prior.sd / np.sqrt(count))
            slopes.append(np.eye(len(x))[i] * slope[i] / prior.sd / np.sqrt(count))
    return np.array(rows), np.array(slopes).reshape(-1, len(x))


def tolerance(integrator: Integrator, size: float) -> float:
    """The error of one step that the solver allows in a state of this size."""
    atol, rtol = (torch.as_tensor(value).max() for value in (integrator.atol, integrator.rtol))
    return float(atol) + float(rtol) * size


def spread(trajectory: Trajectory) -> float:
    """The rms of what was measured about the mean of its channel; its rms when nothing moves, or 1."""
    values, mask = np.nan_to_num(trajectory.observations.numpy()), trajectory.mask.numpy()
    mean = (values * mask).sum(0) / np.maximum(mask.sum(0), 1)
    for size in (np.sqrt(((values - mean)[mask] ** 2).mean()), np.sqrt((values[mask] ** 2).mean())):
        if size > 0:
            return float(size)
    return 1.0
