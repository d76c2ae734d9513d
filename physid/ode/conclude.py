"""Builds the Solution from the outcome of the march."""

from __future__ import annotations

import time

from torch import Tensor

from physid.ode.eager.outcome import Outcome
from physid.ode.precision import Again, asked
from physid.ode.problem import ODEProblem
from physid.ode.solution import Solution, SolveError, Status


def conclude(
    problem: ODEProblem,
    values: Tensor,
    outcome: Outcome,
    gradient: str,
    throw: bool,
    engine: str = "eager",
    note: str = "",
    again: Again | None = None,
) -> Solution:
    """Dress an outcome as the user's Solution, or raise its failure; `again` solves another problem in the same way."""
    layout, statistics = problem.layout, outcome.statistics
    statistics.seconds = time.perf_counter() - problem.started
    statuses = outcome.statuses
    all_reached = statuses.count(Status.SUCCESS) == len(statuses)
    failed = [] if all_reached else [lane for lane, status in enumerate(statuses) if not status.ok]
    status = outcome.statuses[failed[0]] if failed else outcome.statuses[0]
    message = outcome.messages[failed[0]] if failed else f"{status.value}."
    if failed and layout.batched:
        message = f"{len(failed)} of {layout.lanes} samples failed, first sample {failed[0]}: {message}"
    elif not failed and statistics.stiff:
        message += (
            " The steps are limited by stability: f looks stiff; an implicit solver (SciPy's Radau) may be faster."
        )
    grids = outcome.grids(layout.lanes)

    def read_grid() -> Tensor | list[Tensor]:
        return grids() if layout.batched else grids()[0]

    solution = Solution(
        t=problem.t,
        y=layout.unpack(values, (problem.grid.shape[0],)),
        status=status,
        message=message,
        statistics=statistics,
        solver=problem.tableau.name,
        gradient=gradient,
        engine=engine,
        read_grid=read_grid,
        statuses=outcome.statuses if layout.batched else [],
        event_time=outcome.event_time,
        engine_note=note,
        measure=None if again is None else asked(problem, values, outcome, again),
    )
    if failed and throw:
        raise SolveError(message, solution)
    return solution
