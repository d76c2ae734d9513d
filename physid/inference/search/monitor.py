"""What is kept of a fit while it runs: history, the best point, where the search stands, and the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from physid.arrays import Array
from physid.ode.hearing import TimeUp

Progress = Callable[[Mapping[str, Any]], object]
State = Mapping[str, Any]


class Watch:
    """Told of every evaluation of the objective, and of every point from which the search could go on.

    `keep` is called with the watch at such points, to write it down. `held` is where the search stands: a stage and
    what that stage needs, numbers and arrays; empty at the beginning. A search that begins with a stage in `held` goes
    on from there. `evaluations` tells how often the right-hand side was evaluated.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        time_limit: float | None = None,
        keep: Callable[[Watch], object] | None = None,
    ) -> None:
        self.progress, self.time_limit, self.keep = progress, time_limit, keep
        self.started = time.perf_counter()
        self.before = 0.0  # seconds of the fit that this one goes on with
        self.history: list[dict[str, Any]] = []
        self.best: Array | None = None
        self.lowest = math.inf
        self.held: State = {}
        self.carried: State = {}  # what is held besides, whatever the stage
        self.evaluations: Callable[[], int] = lambda: 0

    @property
    def stage(self) -> str:
        """The stage of the search."""
        return str(self.held.get("stage"))

    @property
    def seconds(self) -> float:
        """Wall clock of the fit, without the time in which it did not run."""
        return self.before + time.perf_counter() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that are left, None without a limit. Errors: TimeUp when there are none."""
        if self.time_limit is None:
            return None
        gone = time.perf_counter() - self.started
        if gone >= self.time_limit:
            raise TimeUp
        return self.time_limit - gone

    def begin(self, x: Array) -> None:
        """A phase starts from `x`; its costs compare with one another only."""
        self.best, self.lowest = x.copy(), math.inf

    def saw(self, phase: str, x: Array, cost: float, **more: float) -> bool:
        """One evaluation at `x`, and whether it is the best of its phase: the cost is infinite where a solve failed."""
        row = {"phase": phase, "evaluation": len(self.history) + 1, "cost": cost, **more, "seconds": self.seconds}
        self.history.append(row)
        improved = cost < self.lowest
        if improved:
            self.best, self.lowest = x.copy(), cost
        if self.progress is not None:
            self.progress({"phase": phase, "evaluation": row["evaluation"], "cost": cost, **more})
        return improved

    def hold(self, stage: str, **state: Any) -> None:
        """The search can go on from here: the stage, and the numbers and arrays that it needs."""
        self.held = {"stage": stage, **self.carried, **state}
        if self.keep is not None:
            self.keep(self)
