"""Learner and Collection: a learner computes the loss of a batch, a collection yields batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

# tensors, or a tuple, list or mapping of them; the first axis counts samples
Batch = Any


class Learner(nn.Module, ABC):
    """A network that can be trained: `forward(batch)` predicts, `loss` is minimised, `scores` are reported.

    `identity` says how it is built again, {"model": NAME, "options": {...}}: `physid.models.network` writes it down; a
    learner without one is given to `Trained.load`.
    """

    identity: Mapping[str, Any] = {}

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The objective [] of a batch, a mean over its samples."""

    @abstractmethod
    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Sums [] over a batch by name, and under "count" what they are to be divided by for the mean of a data set."""

    def begin(self, epoch: int) -> None:
        """Called before each epoch, from 0: the place for annealing."""

    def join(self, processes: Any) -> None:
        """Called before the first step where batches are shared among `physid.training.processes.Processes`.

        Batch norm is seen to; what else is a mean over the batch must become one over all shares, by `processes.sum`.
        """

    def tally(self) -> dict[str, float]:
        """Counts since the last call, by name, as evaluations of a field; each is divided by the steps."""
        return {}


class Collection(Protocol):
    """A data set that is dealt in batches.

    `options` are those with which the catalogue loads it again under its `name`. Batches are a pure function of their
    arguments, so that a training that was cut off in mid-epoch meets the same ones.
    """

    name: str
    options: Mapping[str, Any]

    @property
    def count(self) -> int:
        """The number of training samples."""

    def steps(self, size: int) -> int:
        """The number of batches of an epoch."""

    def batches(self, epoch: int, seed: int, size: int) -> Iterator[Batch]:
        """The training batches of an epoch."""

    def test(self, size: int) -> Iterator[Batch]:
        """The test set in batches, always the same."""

    def describe(self) -> dict[str, Any]:
        """Content as data: sizes, and a sha256 of its content."""


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: moved(part, device) for name, part in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(part, device) for part in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(moved(part, device) for part in batch)
    return batch
