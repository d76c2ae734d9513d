"""What is kept of every one of many starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Start:
    """One start of many: the natural values it began with and ended at, its cost there, and how it went.

    `cost` is half the sum of squares by the weights of the data's spread, the same for all starts and in both ways of
    running them, infinite where nothing could be solved. `status` is "converged", "not converged", "hopeless" (stopped:
    at its rate it could not have caught up), "diverged" or "time limit".
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
