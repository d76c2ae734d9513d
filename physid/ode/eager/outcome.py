"""Step and march outcomes: the data that the forward loop yields per step, and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from physid.ode.eager.checkpoints import Tape
from physid.ode.solution import Statistics, Status


@dataclass
class AcceptedStep:
    """An accepted step, as an event sees it: from t to t + h, states at both ends, dense output in between."""

    t: Tensor
    h: Tensor
    y: Tensor
    y1: Tensor
    dense: Callable[[Tensor], Tensor]


@dataclass
class Outcome:
    """Result of the loop: states [T, L * N], one status per lane, sentences, statistics, the last state reached.

    `tangents` [K, L * N]: where probes ended, if there were any. `fallback`: why the eager engine ran in place of the
    one that was asked.
    """

    values: Tensor
    statuses: list[Status]
    messages: dict[int, str]
    statistics: Statistics
    times: list[Tensor]
    taken: list[Tensor]
    event_time: Tensor | None = None
    tape: Tape | None = None
    tangents: Tensor | None = None
    fallback: str = ""
    final: Tensor = field(default_factory=lambda: torch.empty(0))

    def grids(self, lanes: int) -> Callable[[], list[Tensor]]:
        """A function that reads the accepted times of every lane."""
        times, taken = torch.stack(self.times), torch.stack(self.taken)
        return lambda: [times[:, lane][taken[:, lane]] for lane in range(lanes)]
