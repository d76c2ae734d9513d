"""Monitor of a running search: its history, the best point, the state from which it can continue, and the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from physid.arrays import Array
from physid.ode.hearing import TimeUp

Progress = Callable[[Mapping[str, Any]], object]


class Monitor:
    """Records every evaluation of the objective, and hands every state from which the search can continue to `keep`.

    `state` is that of the optimizer, plain data, None at the beginning; a search that begins with one continues from
    there. `evaluations` counts those of the right-hand side.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        time_limit: float | None = None,
        keep: Callable[[Monitor], object] | None = None,
    ) -> None:
        self.progress, self.time_limit, self.keep = progress, time_limit, keep
        self.started = time.perf_counter()
        self.before = 0.0  # seconds of the fit that this one continues
        self.history: list[dict[str, Any]] = []
        self.best: Array | None = None
        self.lowest = math.inf
        self.state: Any = None
        self.evaluations: Callable[[], int] = lambda: 0
        self._aside = 0
        self._labels: list[str] = []

    @property
    def stage(self) -> str:
        """The innermost phase that runs, by name."""
        state, name = self.state, ""
        while state is not None:
            name, state = getattr(state, "stage", name), getattr(state, "running", None)
        return name

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
        if not self._aside:
            self.best, self.lowest = x.copy(), math.inf

    def saw(self, phase: str, x: Array, cost: float, **more: float) -> None:
        """One evaluation at `x`; its cost is infinite where a solve failed."""
        phase = ", ".join([*self._labels, phase])
        row = {"phase": phase, "evaluation": len(self.history) + 1, "cost": cost, **more, "seconds": self.seconds}
        self.history.append(row)
        if cost < self.lowest and not self._aside:
            self.best, self.lowest = x.copy(), cost
        if self.progress is not None:
            self.progress({"phase": phase, "evaluation": row["evaluation"], "cost": cost, **more})

    def hold(self, state: Any) -> None:
        """The search can continue from `state`."""
        self.state = state
        if self.keep is not None:
            self.keep(self)

    @contextmanager
    def aside(self, label: str = "") -> Iterator[None]:
        """In here the best point stays as it is, and phases are called "label, phase".

        That is for evaluations of another objective, and where phases that have ended are gone through again.
        """
        self._aside += 1
        if label:
            self._labels.append(label)
        try:
            yield
        finally:
            self._aside -= 1
            if label:
                self._labels.remove(label)
