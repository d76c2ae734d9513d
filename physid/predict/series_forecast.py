"""A trained network of irregular series as something that forecasts: each series of its test is an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.data.series import Series
from physid.door import bounded
from physid.errors import InputError
from physid.predict.forecast import DRAWS, LEVEL, Forecast, times_of
from physid.predict.predictor import even_times, refuse
from physid.training import TrainingResult

UNASKED = 100  # draws
SAME = 1e-7  # of the span: times this close are one
SHOWN = 3  # series of the test, where there are as many


@runtime_checkable
class SeriesSampler(Protocol):
    """A network that predicts series: `count` draws [count, B, T, C] at the times of a batch."""

    def sample(self, batch: Series, count: int) -> Tensor:
        """The draws."""


@runtime_checkable
class SeriesSource(Protocol):
    """The collection it was trained on, with what gives natural units."""

    channels: tuple[str, ...]
    low: Tensor
    scale: Tensor
    time_scale: float

    @property
    def tests(self) -> int:
        """Number of series of the test."""

    def tested(self, numbers: Sequence[int], until: float | None = None) -> Series:
        """Those of the test series that have these numbers."""


@dataclass(frozen=True, eq=False)
class SeriesRun:
    """A trained network that predicts series number `number` of its test, shown nothing of it later than `seen`.

    The experiment of a series has what is shown of it as its training part, and all that was measured as its test.
    Errors: InputError for a number that is not there.
    """

    trained: TrainingResult
    number: int = 0
    seen: float | None = None

    @classmethod
    def of_training(cls, trained: TrainingResult) -> Self | None:
        """The network of a training, None for one that does not predict series."""
        known = isinstance(trained.learner, SeriesSampler) and isinstance(trained.collection, SeriesSource)
        return cls(trained) if known else None

    def shown(self, seen: float) -> Self:
        """The same, shown nothing later than `seen`, in the collection's time."""
        return replace(self, seen=seen)

    @property
    def _set(self) -> SeriesSource:
        return self.trained.collection  # type: ignore[return-value]

    @property
    def several(self) -> int:
        """Number of series that are shown where none is named."""
        return min(SHOWN, self._set.tests)

    @property
    def strengths(self) -> None:
        """There are no bodies."""

    @property
    def settings(self) -> dict[str, Any]:
        """Name of the model."""
        return {"model": self.trained.learner.identity.get("model", type(self.trained.learner).__name__)}

    def of(self, experiment: str) -> Self:
        """Another series, by its number in the test. Errors: InputError for what is none."""
        if not experiment.strip().isdigit():
            raise InputError(f"series {experiment}: expected whole numbers from 0 up, as in 0,3.")
        found = replace(self, number=int(experiment))
        found._batch  # noqa: B018 (a number that is not there)
        return found

    @cached_property
    def _batch(self) -> Series:
        return self._set.tested([self.number], self.seen)

    @cached_property
    def experiment(self) -> Experiment:
        """The series. Errors: InputError where nothing of it is shown."""
        batch = self._batch
        if not bool((batch.observed > 0).any()):
            first = float(self._set.tested([self.number]).times[0]) * self._set.time_scale
            raise InputError(
                f"of series {self.number} nothing is shown up to {self.seen:g}: it begins at {first:g}. Show more."
            )
        times = batch.times.double() * self._set.time_scale
        shown, measured = (
            Trajectory(times, torch.from_numpy(self._natural(values[0])), there[0] > 0)
            for values, there in ((batch.values, batch.observed), (batch.targets, batch.wanted))
        )
        name = str(self.number)
        return Experiment(name, shown, torch.zeros(0), measured, channels=tuple(self._set.channels))

    def times(self, until: float | None = None, points: int | None = None) -> Array:
        """The times at which the series was measured, or times of equal distance where anything is asked."""
        if until is None and points is None:
            found: Array = self._batch.times.double().numpy() * self._set.time_scale
            return found
        return even_times(self.experiment, until, points)

    def predict(self, times: Array, inputs: Inputs | None = None, draws: int = 0, seed: int = 0) -> Forecast:
        """The mean of `draws` draws (100 where none are asked for) at `times` [T], and the band of 95 % of them.

        Errors: InputError for inputs, which it does not read, and for times that do not increase from its first.
        """
        refuse(inputs, self.settings["model"])
        times = times_of(self.experiment, times)
        found = self.paths(times, draws or UNASKED, seed)
        none = np.full(found.shape[1:], np.nan)
        ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        low, high = np.quantile(found, ends, axis=0) if len(found) > 1 else (none, none)
        return Forecast(
            times=times,
            mean=found.mean(0),
            low=low,
            high=high,
            channels=tuple(self._set.channels),
            method=f"quantiles of {len(found)} draws" if len(found) > 1 else "no band: a single path",
            experiment=self.experiment,
            seen=self.seen,
        )

    def paths(self, times: Array, count: int, seed: int = 0) -> Array:
        """The draws [count, T, C] at `times`; a network without draws has one."""
        bounded("draws", count, DRAWS, 1)
        learner, batch = self.trained.learner, self._batch
        asked = torch.as_tensor(np.asarray(times) / self._set.time_scale).to(batch.times)
        batch, rows = _at(batch, asked)
        was = learner.training
        learner.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            weights = next(learner.parameters())
            sampler: SeriesSampler = learner  # type: ignore[assignment]
            found = sampler.sample(Series(*(part.to(weights) for part in batch)), count)
        learner.train(was)
        return self._natural(found[:, 0].double().cpu()[:, rows])

    def _natural(self, values: Tensor) -> Array:
        """Values [..., C] in natural units."""
        shown = values.double().cpu() * self._set.scale.double() + self._set.low.double()
        return np.asarray(shown.numpy(), dtype=np.float64)


def _at(batch: Series, times: Tensor) -> tuple[Series, Tensor]:
    """The batch on its times and `times` [T], at which nothing new is observed or wanted, and the rows of these."""
    near = batch.times[(times[:, None] - batch.times).abs().argmin(1)]
    same = (near - times).abs() <= SAME * (batch.times[-1] - batch.times[0])
    times = torch.where(same, near, times)
    every = torch.unique(torch.cat([batch.times, times]))
    own = torch.searchsorted(every, batch.times)

    def spread(part: Tensor) -> Tensor:
        return part.new_zeros(len(part), len(every), part.shape[-1]).index_copy_(1, own, part)

    return Series(every, *map(spread, batch[1:])), torch.searchsorted(every, times)
