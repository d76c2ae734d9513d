"""Least-squares problem: residuals of a model over all experiments, with their exact Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.errors import InputError
from physid.inference.noise import NoiseModel
from physid.inference.noise_groups import floors
from physid.inference.noise_models import EqualNoise
from physid.inference.parameters import ParameterVector
from physid.inference.residuals import NoiseResiduals
from physid.inference.simulate import observed, solve_samples
from physid.modelling import answers
from physid.modelling.prior import Prior, Ridge
from physid.ode import Integrator, Solution, Status

PATIENCE = 20  # times the steps of the last point: where a solve needs more, the optimiser should not go


@dataclass(frozen=True)
class Point:
    """The least-squares problem at x [Q]: residuals [N] (predicted - measured, scaled), their derivative [N, Q].

    `seen` [R, M] are the predictions that they come from and `slope` [R, M, Q] their derivatives, where these are kept.
    """

    x: Array
    residual: Array
    jacobian: Array
    seen: Array | None = None
    slope: Array | None = None

    @property
    def cost(self) -> float:
        """Half the sum of squares."""
        return 0.5 * float(self.residual @ self.residual)


class Problem:
    """r(x) = g((predicted - measured) / scale) / sqrt(N) where measured, then the priors' rows.

    The rows of several experiments follow one another, `parts` says where: mask and measured are [R, M]. The noise says
    what g and the scale are (see `physid.inference.noise`). By default g is the identity, and the scale is the known
    noise or, without one, the spread of the observations, so that the cost is half a relative mean square: it does not
    move the optimum. Errors: InputError when model and observations differ in shape, for a prior without known or
    estimated noise, and for logarithms of what is not positive.
    """

    def __init__(
        self,
        vector: ParameterVector,
        integrator: Integrator,
        noise: NoiseModel | None = None,
        loss_scale: float | None = None,
    ) -> None:
        self.vector, self.integrator = vector, integrator
        self.experiments = [one.experiment for one in vector.vectors]
        self.experiment, self.train = self.experiments[0], self.experiments[0].train
        self._check_shapes()
        flat = [(len(one.train), one.train) for one in self.experiments]
        ends = np.cumsum([0, *(count for count, _ in flat)])
        self.parts = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.mask = np.concatenate([part.mask.reshape(count, -1).numpy() for count, part in flat])
        self.measured = np.concatenate([np.nan_to_num(part.observations.reshape(n, -1).numpy()) for n, part in flat])
        self.times = np.concatenate([part.times.numpy() for _, part in flat])
        self.count = int(self.mask.sum())
        self.spread = spread(self.measured, self.mask)
        known = [one.sigma for one in self.experiments]
        self.noise = noise or EqualNoise()
        least = floors(self.measured, self.mask, float(torch.as_tensor(integrator.rtol).max()))
        shape = (self.noise, self.measured, self.mask, self.parts, known, self.spread, loss_scale)
        self.residuals = NoiseResiduals(*shape, floors=least)
        self.evaluations = 0
        self.message = ""
        self.engine, self.engine_note = "eager", ""
        self.patience = integrator.most_steps
        self.spent: set[int] = set()  # those of the last points whose solve ran into the limit of steps
        self.longest: float | None = None  # seconds of a solve that was good
        self._check_priors()

    @property
    def sigma(self) -> float | None:
        """The noise of normal errors where it is known for every measurement and the same, None elsewhere."""
        if not (self.noise.normal and self.noise.likelihood):
            return None
        known = {one.sigma for one in self.experiments}
        return known.pop() if len(known) == 1 else None

    @property
    def scale(self) -> float:
        """The size of the noise, or what takes its place."""
        return self.residuals.size

    @property
    def weight(self) -> float:
        """Factor of an error, where the scale is one for all."""
        return 1.0 / (self.scale * float(np.sqrt(self.count)))

    def _check_shapes(self) -> None:
        model = self.vector.model
        for vector in self.vector.vectors:
            experiment = vector.experiment
            if tuple(model.state_shape) != tuple(experiment.initial.shape):
                raise InputError(
                    f"{type(model).__name__} has states of shape {list(model.state_shape)}, but experiment "
                    f"{experiment.name} starts from shape {list(experiment.initial.shape)}. Give states of one shape."
                )
            seen = answers.observed(model, experiment.initial.to(vector.like)[None])
            if seen[0].numel() != experiment.train.observations[0].numel():
                raise InputError(
                    f"{type(model).__name__}.observe gives {list(seen.shape[1:])} of a state, but experiment "
                    f"{experiment.name} measured {list(experiment.train.observations.shape[1:])}. Give observe that "
                    "shape."
                )

    def _check_priors(self) -> None:
        model = self.vector.model
        unknowns = model.unknowns
        beliefs = {name: unknowns[name].prior for name in self.vector.names}
        priors = [name for name, prior in beliefs.items() if prior is not None and not isinstance(prior, Ridge)]
        unknown = [one.name for one in self.experiments if not one.sigma]
        if priors and unknown and not self.noise.estimated:
            raise InputError(
                f"{', '.join(priors)} has a prior, but the noise of {unknown[0]} is not known: set its sigma, have it "
                "estimated (noise model normal), or leave the prior out."
            )

    def prior_weight(self, prior: Prior) -> float:
        """Factor of a prior's residual: 1 / sqrt(N), times a penalty's `noise` if none is known."""
        if isinstance(prior, Ridge) and prior.decay:
            return 1.0
        known = self.noise.estimated or all(one.sigma for one in self.experiments)
        return (prior.noise if isinstance(prior, Ridge) and not known else 1.0) / float(np.sqrt(self.count))

    def at(self, x: Array) -> Point | None:
        """The problem at `x`; None when the solve fails there, with the reason in `message`."""
        return self.many([x])[0]

    def many(self, xs: Sequence[Array], residuals: Sequence[NoiseResiduals] | None = None) -> list[Point | None]:
        """The problem at several x, solved as one batch; None where a solve fails. `residuals`: of each, if own."""
        found, own = self.predictions(xs), residuals or [self.residuals] * len(xs)
        return [None if one is None else self.point(x, *one, w) for x, one, w in zip(xs, found, own, strict=True)]

    def point(self, x: Array, seen: Array, slope: Array, residuals: NoiseResiduals | None = None) -> Point | None:
        """The point of predictions [R, M] and their derivatives [R, M, Q]; None where they are not finite."""
        residual, jacobian = (residuals or self.residuals).rows(seen, slope)
        extra, more = prior_rows(self.vector, x, self.prior_weight)
        point = Point(x.copy(), np.concatenate([residual, extra]), np.concatenate([jacobian, more]), seen, slope)
        if not (np.isfinite(point.residual).all() and np.isfinite(point.jacobian).all()):
            self.message = "the prediction is not finite"
            return None
        return point

    def renewed(self, point: Point, residuals: NoiseResiduals | None = None) -> Point:
        """The point with every sigma estimated there, without a solve."""
        residuals = residuals or self.residuals
        if point.seen is None or point.slope is None or not residuals.unknown.any():
            return point
        residuals.update(point.seen)
        return self.point(point.x, point.seen, point.slope, residuals) or point

    def scored(self, point: Point) -> Point:
        """The point with the rows by which standard errors go (see `NoiseResiduals.scores`)."""
        if point.seen is None or point.slope is None:
            return point
        residual, jacobian = self.residuals.scores(point.seen, point.slope)
        rows = np.concatenate([residual, point.residual[self.count :]])
        return replace(point, residual=rows, jacobian=np.concatenate([jacobian, point.jacobian[self.count :]]))

    def objective(self, point: Point) -> float:
        """Objective of a fit: half the sum of squares or, with estimated noise, -log of likelihood and priors."""
        if point.seen is None or not self.residuals.unknown.any():
            return point.cost
        residuals = self.residuals.copy()
        residuals.update(point.seen)
        priors = point.residual[self.count :]
        return 0.5 * self.count * float(priors @ priors) - residuals.log_likelihood(point.seen)

    def predictions(self, xs: Sequence[Array]) -> list[tuple[Array, Array] | None]:
        """Predictions [R, M] with derivatives [R, M, Q] at every x; None where a solve fails."""
        vector, width = self.vector, self.mask.shape[1]
        samples = [(s, e) for s in range(len(xs)) for e in range(len(self.experiments))]
        out: list[tuple[Array, Array] | None] = [
            (np.empty(self.mask.shape), np.zeros((len(self.mask), width, len(vector)))) for _ in xs
        ]
        self.spent = set()
        integrator = replace(self.integrator, max_steps=min(self.patience, self.integrator.most_steps))
        for group in together(samples, self.experiments):
            for (s, e), one in zip(group, self._solved(group, xs, integrator), strict=True):
                table = out[s]
                if one is None or table is None:
                    out[s] = None
                    continue
                table[0][self.parts[e]] = one[0]
                table[1][self.parts[e]][..., vector.columns[e]] = one[1]
        return out

    def _solved(
        self, group: list[tuple[int, int]], xs: Sequence[Array], integrator: Integrator
    ) -> list[tuple[Array, Array] | None]:
        """Observations [T, M] and derivatives [T, M, q] of samples (x, experiment) that can be solved together."""
        experiments = self.experiments
        samples = [(xs[s], e, experiments[e].train.times) for s, e in group]
        found = solve_samples(self.vector, samples, integrator, True)
        self.account(found.solution)
        if any(found.ok):
            self.took(found.solution, found.ok)
        statuses = found.solution.statuses or [found.solution.status]
        self.spent |= {s for (s, _), status in zip(group, statuses, strict=True) if status is Status.MAX_STEPS}
        out: list[tuple[Array, Array] | None] = []
        for place, sample in enumerate(samples):
            mean, slope = (
                observed(self.vector, sample, found, place, len(sample[2])) if found.ok[place] else (None, None)
            )
            out.append(None if mean is None or slope is None else (mean, slope))
        return out

    @property
    def floor(self) -> float:
        """A change of the residuals' length that is below the error of the solver."""
        return 1e-2 * tolerance(self.integrator, self.spread) / self.scale

    def took(self, solution: Solution, ok: Sequence[bool] = (True,)) -> None:
        """Measure the patience with the next solve by the samples of a solution that are good."""
        steps = solution.statistics.accepted
        if not all(ok):  # those that failed may have spent all that they were given
            grids = solution.grid if isinstance(solution.grid, list) else [solution.grid]
            steps = sum(len(grid) - 1 for grid, good in zip(grids, ok, strict=True) if good)
        self.patience = PATIENCE * (100 + steps // sum(ok))
        self.longest = max(self.longest or 0.0, solution.statistics.seconds)

    def account(self, solution: Solution) -> None:
        """Add what a solve cost, and remember why it failed."""
        self.evaluations += solution.statistics.evaluations + solution.statistics.backward_evaluations
        self.engine, self.engine_note = solution.engine, solution.engine_note
        if not solution.ok:
            self.message = solution.message

    def limited(self, seconds: float | None) -> None:
        """Let no solve take longer than `seconds` of wall clock."""
        self.integrator = replace(self.integrator, time_limit=seconds)


def together(samples: list[tuple[int, int]], experiments: Sequence[Experiment]) -> list[list[tuple[int, int]]]:
    """The samples (x, experiment) in groups that can be one batch: those that are driven by the same inputs."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for sample in samples:
        driver: Any = getattr(experiments[sample[1]], "inputs", None)
        groups.setdefault(id(driver), []).append(sample)
    return list(groups.values())


def prior_rows(vector: ParameterVector, x: Array, weigh: Callable[[Prior], float]) -> tuple[Array, Array]:
    """The priors' residuals [R] and their derivatives [R, Q] by x [Q], each times what `weigh` says of the prior."""
    rows, slopes = [], []
    owners = [entry.owner for entry in vector.entries]
    beliefs = vector.beliefs
    if not any(beliefs.values()):
        return np.empty(0), np.empty((0, len(x)))
    natural, slope = vector.natural(x), vector.slopes(x)
    for name, prior in beliefs.items():
        if prior is None:
            continue
        places = np.array([i for i, owner in enumerate(owners) if owner == name])
        value = torch.tensor(natural[places], requires_grad=True)
        residual = prior.residual(value)
        (by,) = torch.autograd.grad(residual.sum(), value)
        weight = weigh(prior)
        rows.append(residual.detach().numpy() * weight)
        slopes.append(np.zeros((len(places), len(x))))
        slopes[-1][np.arange(len(places)), places] = slope[places] * by.numpy() * weight
    return np.concatenate(rows), np.concatenate(slopes)


def tolerance(integrator: Integrator, size: float) -> float:
    """The error of one step that the solver allows in a state of this size.

    Absolute tolerances of every state by itself follow their sizes, and allow as much as the relative one.
    """
    rtol = float(torch.as_tensor(integrator.rtol).max())
    alike = isinstance(integrator.absolute, float | int)
    return rtol * size + (float(torch.as_tensor(integrator.absolute)) if alike else rtol * size)


def spread(values: Array, mask: NDArray[np.bool_]) -> float:
    """The rms of what was measured, `values` [R, M], about the mean of its channel; its rms when that is 0, or 1."""
    mean = (values * mask).sum(0) / np.maximum(mask.sum(0), 1)
    for size in (np.sqrt(((values - mean)[mask] ** 2).mean()), np.sqrt((values[mask] ** 2).mean())):
        if size > 0:
            return float(size)
    return 1.0
