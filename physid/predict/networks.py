"""A trained recurrent network as something that forecasts: beside fits in forecasts, pictures and comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.errors import InputError
from physid.inference.result import FitResult
from physid.inference.uncertainty.baselines import trivial_scores
from physid.inference.uncertainty.estimates import Estimate
from physid.predict.ensemble import FEWEST, band
from physid.predict.forecast import Coverage, Forecast, forecast
from physid.training import TrainingResult


class Recurrent(Protocol):
    """What a learner offers: `given` points are read, and `free_run` goes on from its own words."""

    given: int

    def free_run(self, given: Tensor, count: int) -> Tensor:
        """`count` points [K, count, M] of each of its K networks, the points given [G, M] first."""


@dataclass
class NetworkRun:
    """A trained network that runs on from the first points of an experiment, each from what it said last.

    It has the attributes of a FitResult that forecasts, pictures and comparisons read. There are no unknowns, and so no
    covariance: the band of a forecast is the spread of networks from several seeds, where as many were trained.
    """

    trained: TrainingResult
    experiment: Experiment
    statistics: None = None
    estimates: list[Estimate] = field(default_factory=list)
    derived: list[Estimate] = field(default_factory=list)
    listed: list[Estimate] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """What was trained on what."""
        return {"model": self.trained.learner.identity["model"], "experiment": self.experiment.name}

    @property
    def status(self) -> str:
        """How the training ended."""
        return self.trained.status

    @property
    def seconds(self) -> float:
        """How long the training took."""
        return self.trained.seconds

    @property
    def evaluations(self) -> int | None:
        """There is no right-hand side to evaluate."""
        return None

    @cached_property
    def scores(self) -> dict[str, dict[str, float] | None]:
        """Of free runs over the training part and the test, each from its first points, and of the test's later part.

        Scored is the mean of the networks' paths.
        """
        data = self.experiment
        found: dict[str, dict[str, float] | None] = {"train": None, "test": None, "forecast": None}
        for name, whole in (("train", data.train), ("test", data.test)):
            path = None if whole is None else self._over(whole)
            if whole is not None and path is not None:
                found[name] = data.score(path, whole)
                if name == "test" and data.forecast is not None:
                    found["forecast"] = data.score(path[len(whole) - len(data.forecast) :], data.forecast)
        return found

    @property
    def trivial(self) -> dict[str, dict[str, float]]:
        """The scores of trivial forecasters on the test beyond training."""
        return trivial_scores([self.experiment])

    def _over(self, part: Trajectory) -> Tensor | None:
        """The mean path at the times of a trajectory, from its own first points; None where it has no others."""
        network: Recurrent = self.trained.learner  # type: ignore[assignment]
        if len(part) <= network.given:
            return None
        rows = part.observations.reshape(len(part), -1)[: network.given]
        return torch.from_numpy(self._run(rows, len(part)).mean(0)).view(part.observations.shape)

    def _run(self, given: Tensor, count: int) -> Array:
        network: Recurrent = self.trained.learner  # type: ignore[assignment]
        like = next(self.trained.learner.parameters())
        self.trained.learner.eval()
        return network.free_run(given.to(like), count).double().cpu().numpy()

    def paths(self, times: Array) -> Array:
        """What every network says [K, T, M] at `times`, from the first training points on; a spline between steps."""
        network: Recurrent = self.trained.learner  # type: ignore[assignment]
        train = self.experiment.train
        first, step = float(train.times[0]), float(train.times.diff().mean())
        count = max(network.given, math.ceil((float(times[-1]) - first) / step - 1e-9) + 1)
        said = self._run(train.observations.reshape(len(train), -1)[: network.given], count)
        return np.asarray(CubicSpline(first + step * np.arange(count), said, axis=1, extrapolate=False)(times))

    def forecast(
        self, until: float | Sequence[float] | Array, points: int = 201, draws: int = 0, seed: int = 0
    ) -> Forecast:
        """The mean path at given times or at `points` times up to `until`, and the band that the seeds' spread makes.

        With three networks or more the band is that in which a further network's path falls (see
        `physid.predict.ensemble.band`). Errors: InputError for draws, which belong to unknowns, and for times that do
        not increase.
        """
        if draws:
            raise InputError(f"{draws} draws were asked for, but a network has no unknowns to draw. Leave them out.")
        start = float(self.experiment.initial_time)
        times = np.atleast_1d(np.asarray(until, dtype=np.float64))
        times = np.linspace(start, float(until), points) if times.size == 1 and points > 1 else times  # type: ignore[arg-type]
        if not (times[0] >= start and (np.diff(times) > 0).all()):
            raise InputError(f"the times must increase from the initial time {start:g}. Sort them.")
        paths = self.paths(times)
        mean, count = paths.mean(0), len(paths)
        low, high = band(paths)
        return Forecast(
            times=times,
            mean=mean,
            low=low,
            high=high,
            channels=self.experiment.channels,
            unit=self.experiment.unit,
            time_unit=self.experiment.time_unit,
            method=f"the spread of {count} seeds" if count >= FEWEST else f"no band: {count} of {FEWEST} seeds or more",
            coverage=self._coverage(float(times[-1])) if count >= FEWEST else None,
        )

    def _coverage(self, until: float) -> Coverage | None:
        """How much of the test beyond training lies in the band."""
        late = self.experiment.forecast
        kept = None if late is None else late.select(late.times <= until)
        if kept is None:
            return None
        low, high = band(self.paths(kept.times.numpy()))
        values, mask = (x.reshape(len(kept), -1).numpy() for x in (kept.observations, kept.mask))
        inside = (values >= low) & (values <= high)
        return Coverage(int(mask.sum()), float(inside[mask].mean()), None)


Run = FitResult | NetworkRun


def forecast_of(run: Run, until: float | Sequence[float] | Array, points: int = 201) -> Forecast:
    """The forecast of a fit or of a network, at given times or at `points` times up to `until`."""
    return run.forecast(until, points) if isinstance(run, NetworkRun) else forecast(run, until, points)
