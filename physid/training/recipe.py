"""Recipe of a training: optimiser, learning rate and epochs, as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from physid.catalog import Registry
from physid.door import bounded
from physid.errors import InputError, unknown_name

OPTIMIZERS: Registry[type[torch.optim.Optimizer]] = Registry(
    "optimizer", {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax, "sgd": torch.optim.SGD}
)
RULES = ("constant", "exponential", "milestones", "one-cycle")


@dataclass(frozen=True)
class Rate:
    """Schedule of the learning rate, as a factor of the recipe's `lr`.

    constant: 1; exponential: max(factor^n, floor) after n epochs or iterations (`per`); milestones: factor^k after k
    of the `milestones`, in epochs; one-cycle: up from 1/25 in the share `warm` of all iterations, then down along a
    cosine.
    """

    rule: str = "constant"
    factor: float = 1.0
    floor: float = 0.0
    per: str = "epoch"
    milestones: tuple[int, ...] = ()
    warm: float = 0.25

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown_name("rule of the learning rate", self.rule, RULES)
        if self.per not in ("epoch", "iteration"):
            raise unknown_name("step of the learning rate", self.per, ("epoch", "iteration"))

    def at(self, epoch: int, iteration: int, total: int) -> float:
        """The factor in an epoch, at an iteration counted from the beginning, of `total`."""
        if self.rule == "exponential":
            n = epoch if self.per == "epoch" else iteration
            return max(self.factor**n, self.floor)
        if self.rule == "milestones":
            return float(self.factor ** sum(epoch >= milestone for milestone in self.milestones))
        if self.rule == "one-cycle":
            peak = max(1, round(self.warm * total))
            if iteration < peak:
                return 1 / 25 + (1 - 1 / 25) * iteration / peak
            return 0.5 * (1 + math.cos(math.pi * (iteration - peak) / max(1, total - peak)))
        return 1.0


@dataclass(frozen=True)
class Recipe:
    """Recipe of a training: `epochs` over the collection in batches of `batch`, by an optimiser with its `options`.

    `clip` bounds the norm of the gradient; the test set is scored every `evaluate_every` epochs and at the end; `amp`
    computes in bfloat16 where torch deems it safe. Errors: InputError for names and numbers that cannot be.
    """

    epochs: int
    batch: int
    lr: float
    optimizer: str = "adam"
    options: Mapping[str, Any] = field(default_factory=dict)
    rate: Rate = Rate()
    clip: float | None = None
    evaluate_every: int = 1
    amp: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise OPTIMIZERS.unknown(self.optimizer)
        for name in ("epochs", "batch", "lr", "evaluate_every", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name}={value}: expected a positive number.")
        bounded("seed", self.seed, 2**32 - 1, 0)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""
        make: Any = OPTIMIZERS[self.optimizer]
        try:
            optimizer: torch.optim.Optimizer = make(parameters, lr=self.lr, **self.options)
        except (TypeError, ValueError) as error:
            raise InputError(f"options of {self.optimizer}: {error}. See torch.optim.{make.__name__}.") from None
        return optimizer

    def data(self) -> dict[str, Any]:
        """The recipe as data, which `of` reads."""
        return asdict(self)

    @staticmethod
    def of(data: Mapping[str, Any]) -> Recipe:
        """The recipe from its data."""
        rate = {**data["rate"], "milestones": tuple(data["rate"]["milestones"])}
        return Recipe(**{**data, "rate": Rate(**rate)})
