"""What is kept of a fit while it runs: history, the best point so far, progress, and the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from physid.fitting.vector import Array

Progress = Callable[[Mapping[str, Any]], object]


class TimeUp(Exception):
    """The time limit of a fit ran out; what was found so far is kept."""


class Watch:
    """Told of every evaluation of the objective."""

    def __init__(self, progress: Progress | None = None, time_limit: float | None = None) -> None:
        self.progress, self.time_limit = progress, time_limit
        self.started = time.perf_counter()
        self.history: list[dict[str, Any]] = []
        self.best: Array | None = None
        self.lowest = math.inf

    @property
    def seconds(self) -> float:
        """Wall clock since the start."""
        return time.perf_counter() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that are left, None without a limit. Errors: TimeUp when there are none."""
        if self.time_limit is None:
            return None
        if self.seconds >= self.time_limit:
            raise TimeUp
        return self.time_limit - self.seconds

    def begin(self, x: Array) -> None:
        """A phase starts from `x`; its costs compare with one another only."""
        self.best, self.lowest = x.copy(), math.inf

    def saw(self, phase: str, x: Array, cost: float, **more: float) -> None:
        """One evaluation at `x`: the cost is infinite where the solve failed."""
        row = {"phase": phase, "evaluation": len(self.history) + 1, "cost": cost, **more, "seconds": self.seconds}
        self.history.append(row)
        if cost < self.lowest:
            self.best, self.lowest = x.copy(), cost
        if self.progress is not None:
            self.progress({"phase": phase, "evaluation": row["evaluation"], "cost": cost, **more})
