"""StartRecord: the beginning, end and cost of one of many starts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALIKE = 1e-3  # a relative difference of costs that is none
EXACT = 1e-12  # a cost, half a relative mean square, that is none
GIVEN_UP = ("hopeless", "over budget")
WORDS = {"diverged": "not solvable", "time limit": "out of time"}


@dataclass(frozen=True)
class Start:
    """One start of many: the natural values it began with and ended at, its cost there, and how it went.

    `cost` is half the sum of squares by the weights of the data's spread, the same for all starts and in both ways of
    running them, infinite where nothing could be solved. `status` is "converged", "not converged", "hopeless" (stopped:
    at its rate it could not have caught up), "over budget" (stopped: the others took far less), "diverged" or "time
    limit".
    """

    number: int
    start: list[float]
    end: list[float]
    cost: float
    status: str
    evaluations: int

    @staticmethod
    def of(row: Mapping[str, Any]) -> Start:
        """The record from its data; JSON has no infinity."""
        return Start(**{**row, "cost": math.inf if row["cost"] is None else row["cost"]})


@dataclass(frozen=True)
class Tally:
    """Counts of many starts: those that finished, agree with the best, were given up and failed.

    A start that converged has finished. Those given up were hopeless or over their budget; those that failed could not
    be solved, or did not finish. `agree` counts all whose cost is that of the best.
    """

    starts: int
    finished: int
    agree: int
    given_up: int
    failed: int
    by_status: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """The counts as a sentence."""
        rest = {name for name in self.by_status if name != "converged" and name not in GIVEN_UP}
        given_up = f"{self.given_up} given up{self._why(GIVEN_UP)}"
        parts = [f"{self.starts} starts: {self.finished} finished", f"{self.agree} agree with the best"]
        return (
            f"{', '.join([*parts, *([given_up] if self.given_up else []), f'{self.failed} failed'])}{self._why(rest)}."
        )

    def _why(self, names: Collection[str]) -> str:
        """The counts of these statuses in brackets."""
        found = [f"{count} {WORDS.get(name, name)}" for name, count in self.by_status.items() if name in names]
        return f" ({', '.join(found)})" if found else ""


def tally(starts: Sequence[Start]) -> Tally | None:
    """The tally of many starts; None for fewer than two."""
    if len(starts) < 2:
        return None
    by_status = dict(sorted(Counter(one.status for one in starts).items()))
    finished = by_status.get("converged", 0)
    given_up = sum(by_status.get(name, 0) for name in GIVEN_UP)
    agree = sum(agreeing([one.cost for one in starts]))
    return Tally(len(starts), finished, agree, given_up, len(starts) - finished - given_up, by_status)


def agreeing(costs: Sequence[float]) -> list[bool]:
    """Mask of the costs that equal the best, to a thousandth of it or to round-off."""
    best = min((cost for cost in costs if math.isfinite(cost)), default=-math.inf)
    return [math.isfinite(cost) and cost <= max(best * (1.0 + ALIKE), EXACT) for cost in costs]
