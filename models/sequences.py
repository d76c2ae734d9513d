"""Sequences: a trajectory cut into pieces, for the training of recurrent networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from physid.data.experiment import Experiment, Trajectory
from physid.errors import InputError
from physid.training import Batch

LENGTH = 20  # points of a sequence
GIVEN = 10  # points that are given at inference


class Sequences:
    """The training part of an experiment in sequences of 20 points [S, 20, M], its test as one series.

    What does not fill a sequence is left out. Errors: InputError for times that are not equally spaced, gaps, or fewer
    points than a sequence has.

    Source: Zhuang et al. (2020), appendix D.4.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.name = experiment.name
        self.options: Mapping[str, Any] = dict(experiment.options)
        self.series = _series(experiment.name, experiment.train)
        if len(self.series) < LENGTH:
            raise InputError(
                f"{experiment.name} has {len(self.series)} points, but sequences have {LENGTH}. Give as many or more."
            )
        self.count = len(self.series) // LENGTH
        self.x = self.series[: self.count * LENGTH].reshape(self.count, LENGTH, -1).float()
        self.step = float(experiment.train.times.diff().mean())

    def steps(self, size: int) -> int:
        """The number of batches of an epoch."""
        return -(-self.count // size)

    def batches(self, epoch: int, seed: int, size: int) -> Iterator[Batch]:
        """The sequences [B, 20, M] in an order that seed and epoch decide."""
        generator = torch.Generator().manual_seed((seed << 32) + epoch)
        for part in torch.randperm(self.count, generator=generator).split(size):
            yield self.x[part]

    def test(self, size: int) -> Iterator[Batch]:
        """The test, or without one the training part, as one series; see LSTM.scores."""
        part = self.experiment.test or self.experiment.train
        series = _series(self.name, part).float()
        weight = 1.0 if self.experiment.metric == "sum" else 1.0 / series.shape[-1]
        if len(series) > GIVEN:
            late = part.times > self.experiment.train.times[-1]
            yield {"series": series, "late": late, "weight": torch.tensor(weight)}

    def describe(self) -> dict[str, Any]:
        """Sizes, and the sha256 of the data."""
        return {"sequences": self.count, "length": LENGTH, "channels": self.x.shape[-1], "sha256": self.hash}

    @property
    def hash(self) -> str:
        """The sha256 of the experiment's data."""
        return self.experiment.data_hash


def _series(name: str, part: Trajectory) -> Tensor:
    """The observations [T, M] of a trajectory without gaps at equally spaced times."""
    if not bool(part.mask.all()):
        raise InputError(f"{name} has gaps, which a recurrent network cannot read. Use a model that is an equation.")
    steps = part.times.diff()
    if len(steps) and float((steps - steps.mean()).abs().max()) > 1e-3 * float(steps.mean()):
        raise InputError(
            f"the times of {name} are not equally spaced, as a recurrent network needs them. "
            "Use a model that is an equation."
        )
    return part.observations.reshape(len(part), -1)
