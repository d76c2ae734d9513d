"""A small network and a small collection for tests of trainings: a line through points, with dropout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from physid.catalog import Entry, Option, whole
from physid.models import Network
from physid.training import Batch, Collection, Learner, Rate, Recipe


class Points:
    """`count` points on y = 2 x1 - 3 x2 + 1."""

    name = "points"

    def __init__(self, count: int = 24) -> None:
        self.count = count
        self.options: Mapping[str, Any] = {"count": count}
        self.x = torch.randn(count, 2, generator=torch.Generator().manual_seed(5))
        self.y = self.x @ torch.tensor([2.0, -3.0]) + 1

    def steps(self, size: int) -> int:
        return -(-self.count // size)

    def batches(self, epoch: int, seed: int, size: int) -> Iterator[Batch]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(1000 * seed + epoch))
        yield from ((self.x[part], self.y[part]) for part in order.split(size))

    def test(self, size: int) -> Iterator[Batch]:
        yield from zip(self.x.split(size), self.y.split(size), strict=True)

    def describe(self) -> dict[str, Any]:
        return {"points": self.count}


class Line(Learner):
    """A line with dropout on its input, whose loss counts what the epochs tell."""

    def __init__(self, width: int = 1, poison: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
        self.poison, self.calls, self.steps, self.epochs = poison, 0, 0, [-1]

    def begin(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def forward(self, batch: Batch) -> Tensor:
        found: Tensor = self.net(batch[0])[:, 0]
        return found

    def loss(self, batch: Batch) -> Tensor:
        self.calls, self.steps = self.calls + 1, self.steps + 1
        broken = float("nan") if self.steps == self.poison else 0.0
        return (self(batch) - batch[1]).square().mean() + broken  # type: ignore[no-any-return]

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        error = self(batch) - batch[1]
        return {"mse": error.square().sum(), "count": torch.tensor(len(error))}

    def tally(self) -> dict[str, float]:
        calls, self.calls = self.calls, 0
        return {"evaluations": float(calls)}


RECIPE = Recipe(epochs=4, batch=5, lr=0.05, rate=Rate("exponential", 0.9), clip=10.0)


def line(collection: Collection, width: int, poison: int) -> Line:
    return Line(width, poison)


OPTIONS = {"width": Option("Hidden units.", whole(1), 3), "poison": Option("Call that fails.", whole(0), 0)}
NETWORK = Network("line", "A line.", OPTIONS, line, RECIPE, ("points",), {"hasty": Recipe(2, 12, 0.1, "sgd")})
COLLECTION: Entry[Collection] = Entry(
    "points", "Points on a plane.", {"count": Option("How many.", whole(1), 24)}, Points
)
