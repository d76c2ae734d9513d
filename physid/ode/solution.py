"""Solution: the states, status and cost of a solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from physid.errors import PhysidError


class Status(Enum):
    """Ending of a solve; the value is its sentence."""

    SUCCESS = "the end time was reached"
    EVENT = "an event ended the solve"
    NOT_A_NUMBER = "f returned not-a-number"
    BLOW_UP = "the solution left the finite numbers"
    STEP_TOO_SMALL = "the step fell below the resolution of time"
    MAX_STEPS = "the limit of steps was reached"
    TIME_LIMIT = "the time limit was reached"

    @property
    def ok(self) -> bool:
        """Whether every asked state was reached."""
        return self in (Status.SUCCESS, Status.EVENT)


@dataclass
class Statistics:
    """Cost of a solve; `backward` evaluations are added when a gradient is taken.

    An evaluation is one call of f, which the eager engine makes for all samples together and the native one for each.
    `tangents`: evaluations of the tangents of f, for probes, in the march.
    `stage_bytes`: stages that the native engine keeps beside the checkpoints, to evaluate nothing again.
    """

    evaluations: int = 0
    accepted: int = 0
    rejected: int = 0
    backward_evaluations: int = 0
    backward_vjps: int = 0
    checkpoint_bytes: int = 0
    stage_bytes: int = 0
    seconds: float = 0.0
    stiff: bool = False
    tangents: int = 0


@dataclass
class Solution:
    """States at the asked times, and everything that a reader needs to trust them.

    `t` [T] or [T, L]; `y` [T, *state] (tuple states: a tuple of such), not-a-number where a time was not reached;
    `engine` is the one that ran, and `engine_note` says why it is not the native one.
    With `batched=True` the second axis of `y` is the sample and `statuses` holds one status per sample.
    `grid` [steps + 1] are the accepted times (a list with one tensor per sample when batched).
    """

    t: Tensor
    y: Tensor | tuple[Tensor, ...]
    status: Status
    message: str
    statistics: Statistics
    solver: str
    gradient: str
    engine: str
    read_grid: Callable[[], Tensor | list[Tensor]]
    statuses: list[Status] = field(default_factory=list)
    event_time: Tensor | None = None
    engine_note: str = ""
    measure: Callable[[], float] | None = None

    @cached_property
    def gradient_error(self) -> float | None:
        """The relative error of the gradient, estimated: that of the probes at the end of the solve.

        Asking for it, or pickling the solution, solves again at a hundredth of the tolerance. None for a solve without
        probes, not-a-number for one that failed.
        """
        return None if self.measure is None else self.measure()

    def __getstate__(self) -> dict[str, Any]:
        """As data, with the accepted times and the error of the gradient in place of what finds them.

        Where that error can no longer be found, asking for it says so there as it does here.
        """
        measure = None
        try:
            _ = self.gradient_error
        except PhysidError as error:
            measure = partial(_refuse, error)
        return {**self.__dict__, "read_grid": partial(_as_it_is, self.grid), "measure": measure}

    def __copy__(self) -> Solution:
        """Another one of the same parts; nothing is solved for it."""
        other = object.__new__(Solution)
        other.__dict__.update(self.__dict__)
        return other

    @cached_property
    def grid(self) -> Tensor | list[Tensor]:
        """The accepted times [steps + 1], of every sample when batched."""
        return self.read_grid()

    @property
    def ok(self) -> bool:
        """Whether every sample reached its end."""
        return self.status.ok

    @property
    def steps(self) -> Tensor | list[Tensor]:
        """The accepted step sizes [steps], signed; a list with one tensor per sample when batched."""
        if isinstance(self.grid, list):
            return [grid.diff() for grid in self.grid]
        return self.grid.diff()


class SolveError(PhysidError):
    """A solve that failed; `solution` holds the part that was reached."""

    exit_code = 4

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution

    def __reduce__(self) -> tuple[Any, ...]:
        return SolveError, (str(self), self.solution)


def _refuse(error: PhysidError) -> float:
    raise error


def _as_it_is(grid: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return grid
