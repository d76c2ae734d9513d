"""Gradient matching: starting values from the slopes of smoothed data, without solving the equation.

The states are lifted from smoothing splines of the observations, and the unknowns found that make dy/dt = f(t, y) hold
along them best: a regression, linear where f is linear in its unknowns.

Source: Varah (1982); Brunel (2008).
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch.func import functional_call, jacfwd

from physid.arrays import Array
from physid.data.smoothing import FEWEST, smooth
from physid.inference.parameters import ParameterVector
from physid.inference.problem import Point, Problem, prior_rows
from physid.inference.search.levenberg_marquardt import Iterate, StoppingRule, descent
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import PointObjective
from physid.inference.search.optimizer import Phase
from physid.modelling.prior import Prior, Ridge
from physid.modelling.reconstruct import reconstruct

ROUNDS = 40  # at most, of dropping weights and of estimating the misfit that penalties weigh against
EXACT = 1e-4  # a misfit, in units of the rates, below which priors do not count for more
MOST = 500  # times of an experiment that are matched
CHUNK = 400_000  # unknowns times rows whose derivatives are taken at once
STOP = StoppingRule(offset=1e-4, ftol=1e-6, xtol=1e-8, evaluations=60)


@dataclass(frozen=True)
class Path:
    """States [T, *state] of an experiment at its times [T], their rates, and the size [*state] of these."""

    times: Tensor
    states: Tensor
    rates: Tensor
    size: Tensor


def match(problem: Problem, monitor: Monitor, x: Array) -> Generator[Phase, Any, Array | None]:
    """The unknowns, from `x` on, whose rates match the data's best; None where too little is measured.

    A script of regressions, one for each round of dropping weights and of estimating the misfit.
    """
    paths = [path(problem, e, x) for e in range(len(problem.experiments))]
    if not all(paths):
        return None
    x = starts(problem, paths, x)
    misfit = 0.0
    for _ in range(ROUNDS):
        matching = Matching(problem, paths, misfit)
        monitor.begin(x)
        at = PointObjective(matching, monitor, "match")
        end = yield from descent("match", at, x, STOP)
        if end is None:
            return None
        before, misfit, x = misfit, matching.misfit(end), end.x
        dropped = pruned(problem, paths, x)
        if dropped is not None:
            x = dropped
        elif not penalised(problem) or abs(misfit - before) <= 0.1 * misfit:
            break
    return x


def pruned(problem: Problem, paths: list[Path | None], x: Array) -> Array | None:
    """`x` without the weights that the model drops along the paths; None when it drops none."""
    vector, columns = problem.vector.vectors[0], problem.vector.columns[0]
    vector.put(x[columns])
    states = torch.cat([one.states for one in paths if one is not None]).to(vector.like)
    rates = torch.cat([one.rates for one in paths if one is not None]).to(vector.like)
    if not vector.model.prune(states, rates):
        return None
    x = x.copy()
    x[columns[: vector.parameters]] = vector.get()[: vector.parameters]
    return x


def penalised(problem: Problem) -> bool:
    """Whether any unknown has a prior or a penalty."""
    unknowns = problem.vector.model.unknowns
    return any(unknowns[name].prior is not None for name in problem.vector.names)


def path(problem: Problem, e: int, x: Array) -> Path | None:
    """The smoothed path of experiment `e`; None where a channel has too few observations for it."""
    vector = problem.vector.vectors[e]
    experiment, model = vector.experiment, vector.model
    train = experiment.train
    if int(train.mask.reshape(len(train), -1).sum(0).min()) < FEWEST:
        return None
    initial = vector.put(x[problem.vector.columns[e]])
    times = train.times.numpy()
    seen, slope = smooth(train, times, problem.noise.logarithms)
    guess = initial[None].expand(len(times), *initial.shape)
    scale = experiment.initial_scale.to(initial)
    states = reconstruct(model, times, seen, slope, guess, scale, values=True).double().cpu()
    if not bool(torch.isfinite(states).all()):
        return None
    curve = CubicSpline(times, states.reshape(len(times), -1).numpy())
    rates = torch.from_numpy(curve(times, 1)).view(states.shape)
    size = rates.square().mean(0).sqrt()
    size = torch.where(size > 0, size, size.max().clamp(min=1e-300))
    rows = torch.linspace(0, len(times) - 1, min(MOST, len(times))).round().long()
    return Path(train.times[rows], states[rows], rates[rows], size)


def starts(problem: Problem, paths: list[Path | None], x: Array) -> Array:
    """`x` with the free elements of the initial states where the paths begin."""
    x = x.copy()
    for vector, columns, one in zip(problem.vector.vectors, problem.vector.columns, paths, strict=True):
        if one is not None and len(vector.places):
            begin = one.states[0] - one.rates[0] * (float(one.times[0]) - float(vector.experiment.initial_time))
            moved = (begin - vector.experiment.initial).reshape(-1)[vector.places].numpy() / vector.scale
            x[columns[vector.parameters :]] = moved
    return x


class Matching:
    """The regression (f(t, y) - dy/dt) / size along the paths, and the priors, which weigh against the `misfit`."""

    def __init__(self, problem: Problem, paths: list[Path | None], misfit: float) -> None:
        self.problem, self.weight = problem, misfit
        self.paths = [one for one in paths if one is not None]
        self.count = sum(one.rates.numel() for one in self.paths)

    def many(self, xs: Sequence[Array]) -> list[Point | None]:
        """The regression at every x; None where f is not finite."""
        return [self._at(x) for x in xs]

    def limited(self, seconds: float | None) -> None:
        """Nothing is solved."""

    def _at(self, x: Array) -> Point | None:
        rows, slopes = [], []
        for e, one in enumerate(self.paths):
            vector, columns = self.problem.vector.vectors[e], self.problem.vector.columns[e]
            vector.put(x[columns])
            residual, by = linearised(vector, one)
            slope = np.zeros((len(residual), len(x)))
            slope[:, columns[: vector.parameters]] = by
            rows.append(residual / np.sqrt(self.count))
            slopes.append(slope / np.sqrt(self.count))
        extra, more = self._priors(x)
        point = Point(x.copy(), np.concatenate([*rows, extra]), np.concatenate([*slopes, more]))
        return point if np.isfinite(point.residual).all() and np.isfinite(point.jacobian).all() else None

    def misfit(self, end: Iterate) -> float:
        """The root mean square of what is left at an end, in units of the rates' sizes."""
        point = end.point or self._at(end.x)
        return 0.0 if point is None else float(np.linalg.norm(point.residual[: self.count]))

    def _priors(self, x: Array) -> tuple[Array, Array]:
        """The priors' rows, weighed as if the misfit were the noise of the rates."""

        def weight(prior: Prior) -> float:
            if isinstance(prior, Ridge) and prior.decay:
                return 1.0
            least = prior.noise if isinstance(prior, Ridge) else EXACT
            return max(self.weight, least) / float(np.sqrt(self.count))

        return prior_rows(self.problem.vector, x, weight)


def linearised(vector: ParameterVector, one: Path) -> tuple[Array, Array]:
    """(f - dy/dt) / size [T N] along a path, and its derivative [T N, P] by the raw parameters."""
    model, like = vector.model, vector.like
    unknowns = model.unknowns
    raws = {unknowns[name].path: raw.detach() for name, raw in zip(vector.names, vector.raws, strict=True)}
    size = one.size.to(like)
    rates, slopes = [], []
    chunk = max(1, CHUNK // max(1, vector.parameters))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, when its transforms are first used
        for t, y in zip(one.times.to(like).split(chunk), one.states.to(like).split(chunk), strict=True):

            def field(parameters: dict[str, Tensor], t: Tensor = t, y: Tensor = y) -> Tensor:
                out: Tensor = functional_call(model, parameters, (t, y))
                return out / size

            rates.append(field(raws))
            found = jacfwd(field)(raws)
            slopes.append(torch.cat([slope.reshape(rates[-1].numel(), -1) for slope in found.values()], 1))
    residual = torch.cat(rates) - (one.rates / one.size).to(like)
    return residual.reshape(-1).double().cpu().numpy(), torch.cat(slopes).double().cpu().numpy()
