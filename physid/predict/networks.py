"""A trained recurrent network as something that forecasts: beside fits in forecasts, pictures and comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.errors import InputError, unknown_name
from physid.inference.uncertainty.baselines import trivial_scores
from physid.inference.uncertainty.estimates import Estimate
from physid.predict.ensemble import FEWEST, band
from physid.predict.forecast import Forecast, coverage_of, held_out, times_of
from physid.predict.predictor import even_times, refuse, unseen
from physid.training import TrainingResult


@runtime_checkable
class FreeRunning(Protocol):
    """A network that predicts from its own predictions: `given` points are read, and `free_run` continues them."""

    given: int

    def free_run(self, given: Tensor, count: int) -> Tensor:
        """`count` points [K, count, M] of each of its K networks, the points given [G, M] first."""


@runtime_checkable
class OfExperiment(Protocol):
    """A collection that was made of an experiment."""

    experiment: Experiment


@dataclass
class NetworkRun:
    """A trained network that runs on from the first points of an experiment, each from what it said last.

    It has the attributes of a FitResult that forecasts, pictures and comparisons read. There are no unknowns, and so no
    covariance: the band of a forecast is the spread of networks from several seeds, where as many were trained.
    """

    trained: TrainingResult
    experiment: Experiment
    several: ClassVar[int] = 0
    strengths: None = None
    statistics: None = None
    estimates: list[Estimate] = field(default_factory=list)
    derived: list[Estimate] = field(default_factory=list)
    listed: list[Estimate] = field(default_factory=list)

    @classmethod
    def of_training(cls, trained: TrainingResult) -> Self | None:
        """The network of a training, None for one that does not run on."""
        data = trained.collection
        if not isinstance(trained.learner, FreeRunning) or not isinstance(data, OfExperiment):
            return None
        return cls(trained, data.experiment)

    def shown(self, seen: float) -> Self:
        """Nothing else can be shown to it. Errors: InputError."""
        raise unseen(self.settings["model"])

    def of(self, experiment: str) -> Self:
        """The network itself. Errors: InputError for a name that is not its experiment's."""
        if experiment != self.experiment.name:
            raise unknown_name("experiment", experiment, [self.experiment.name])
        return self

    def times(self, until: float | None = None, points: int | None = None) -> Array:
        """Times of equal distance; see Predictor."""
        return even_times(self.experiment, until, points)

    @property
    def experiments(self) -> list[Experiment]:
        """The training data."""
        return [self.experiment]

    @property
    def settings(self) -> dict[str, Any]:
        """Names of the model and the experiment."""
        return {"model": self.trained.learner.identity["model"], "experiment": self.experiment.name}

    @property
    def status(self) -> str:
        """Status of the training."""
        return self.trained.status

    @property
    def seconds(self) -> float:
        """Seconds of the training."""
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
        network: FreeRunning = self.trained.learner  # type: ignore[assignment]
        if len(part) <= network.given:
            return None
        rows = part.observations.reshape(len(part), -1)[: network.given]
        return torch.from_numpy(self._run(rows, len(part)).mean(0)).view(part.observations.shape)

    def _run(self, given: Tensor, count: int) -> Array:
        network: FreeRunning = self.trained.learner  # type: ignore[assignment]
        like = next(self.trained.learner.parameters())
        self.trained.learner.eval()
        return network.free_run(given.to(like), count).double().cpu().numpy()

    def paths(self, times: Array, count: int = 0) -> Array:
        """Predictions of every network [K, T, M] at `times`, from the first training points on; a spline between steps.

        There are as many paths as networks, whatever the `count`.
        """
        network: FreeRunning = self.trained.learner  # type: ignore[assignment]
        train = self.experiment.train
        first, step = float(train.times[0]), float(train.times.diff().mean())
        count = max(network.given, math.ceil((float(times[-1]) - first) / step - 1e-9) + 1)
        said = self._run(train.observations.reshape(len(train), -1)[: network.given], count)
        return np.asarray(CubicSpline(first + step * np.arange(count), said, axis=1, extrapolate=False)(times))

    def predict(self, times: Array, inputs: Inputs | None = None, draws: int = 0, seed: int = 0) -> Forecast:
        """The mean path at `times` [T], and the band that the seeds' spread makes.

        With three networks or more the band is that in which a further network's path falls (see
        `physid.predict.ensemble.band`). Errors: InputError for draws, which belong to unknowns, for inputs, which it
        does not read, and for times that do not increase.
        """
        refuse(inputs, self.settings["model"])
        if draws:
            raise InputError(f"{draws} draws were asked for, but a network has no unknowns to draw. Leave them out.")
        times = times_of(self.experiment, times)
        held = held_out(self.experiment, float(times[-1]))
        every = times if held is None else np.union1d(times, held[0])
        paths, rows = self.paths(every), np.searchsorted(every, times)
        (low, high), count = band(paths), len(paths)
        none = np.full(low.shape, np.nan)
        return Forecast(
            times=times,
            mean=paths.mean(0)[rows],
            low=low[rows],
            high=high[rows],
            channels=self.experiment.channels,
            unit=self.experiment.unit,
            time_unit=self.experiment.time_unit,
            method=f"the spread of {count} seeds" if count >= FEWEST else f"no band: {count} of {FEWEST} seeds or more",
            coverage=None if held is None or count < FEWEST else coverage_of(every, (low, high, none, none), held),
            experiment=self.experiment,
        )

    def forecast(
        self, until: float | Sequence[float] | Array, points: int = 201, draws: int = 0, seed: int = 0
    ) -> Forecast:
        """The forecast at given times or at `points` times up to `until`; see `predict`."""
        return self.predict(times_of(self.experiment, until, points), draws=draws, seed=seed)
