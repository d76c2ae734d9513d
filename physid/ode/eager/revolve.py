"""The binomial schedule: the states of a march backwards, with a bounded number of them in memory.

Source: Griewank and Walther (2000), Algorithm 799: revolve, ACM Transactions on Mathematical Software 26(1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


def reach(slots: int, sweeps: int) -> int:
    """beta(s, r) = C(s + r, s): the steps that s states can reverse when no step is taken more than r times."""
    return math.comb(slots + sweeps, slots) if sweeps >= 0 else 0


def sweeps_of(steps: int, slots: int) -> int:
    """The least r with beta(s, r) >= steps."""
    sweeps = 0
    while reach(slots, sweeps) < steps:
        sweeps += 1
    return sweeps


def advances(steps: int, slots: int) -> int:
    """The least number of steps taken forward so that the states of `steps` steps come by, last one first.

    t(l, s) = r l - beta(s + 1, r - 1), with r = `sweeps_of`(l, s).
    """
    sweeps = sweeps_of(steps, slots)
    return sweeps * steps - reach(slots + 1, sweeps - 1)


def split(steps: int, slots: int) -> int:
    """Number of `steps` steps to take before the next checkpoint, with `slots` states, the present one among them.

    Any number m with beta(s, r-2) <= m <= beta(s, r-1) and beta(s-1, r-1) <= steps - m <= beta(s-1, r) is best.
    """
    sweeps = sweeps_of(steps, slots)
    return min(reach(slots, sweeps - 1), steps - reach(slots - 1, sweeps - 1))


@dataclass
class Shelf:
    """Gives the states at the starts of steps w, w - 1, ..., 0, from the first one, never holding more than `slots`.

    `advance(y, first, last)` takes the steps [first, last) from the state y.
    """

    slots: int
    advance: Callable[[Tensor, int, int], Tensor]
    held: list[tuple[int, Tensor]] = field(default_factory=list)

    def state(self, w: int) -> Tensor:
        """The state at the start of step w, no later than the one that was asked for before."""
        while self.held[-1][0] > w:
            self.held.pop()
        at, y = self.held[-1]
        while at < w:
            free = self.slots - len(self.held) + 1
            if free == 1:
                return self.advance(y, at, w)
            m = split(w + 1 - at, free)
            y = self.advance(y, at, at + m)
            at += m
            self.held.append((at, y))
        return y
