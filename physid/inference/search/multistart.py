"""Multistart: many starts, as one batch or over processes, of which the best is refined and wins."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.options import FitPlan
from physid.inference.search import multiple_shooting
from physid.inference.search.batched_starts import BatchedStarts
from physid.inference.search.full_horizon import Ending, finish, looser
from physid.inference.search.objective import FitObjective
from physid.inference.search.one_start import ALIKE, Start
from physid.inference.search.optimizer import Phase
from physid.inference.search.start_points import draws
from physid.inference.search.workers import Workers

POLISHED = 3  # distinct optima that are refined to the full tolerance, of which the best wins


def best_of(fit: FitObjective, plan: FitPlan, x: Array) -> Generator[Phase, Any, tuple[Ending, list[Start]]]:
    """The best optimum of the plan's starts, and the record of each. Errors: Diverged when none can be solved."""
    begins = draws(fit.problem.vector, x, plan.starts, plan.seed)
    if plan.workers is None:
        return (yield from in_a_batch(fit, plan, begins))
    return (yield from over_processes(fit, plan, begins))


def in_a_batch(
    fit: FitObjective, plan: FitPlan, begins: list[Array]
) -> Generator[Phase, Any, tuple[Ending, list[Start]]]:
    """All starts at once: welded segments, then the full horizon, loosely; then the best few to the full tolerance."""
    problem, monitor = fit.problem, fit.monitor
    problem.integrator = looser(plan.integrator)
    batch = BatchedStarts(problem, monitor, begins, auto=plan.strategy == "auto")
    apart = plan.strategy == "segments" or (plan.strategy == "auto" and not multiple_shooting.costly(problem))
    if apart and multiple_shooting.enough(problem):
        yield from batch.weld(looser(plan.integrator))
    yield from batch.race()
    records = [batch.record(i) for i in range(len(begins))]
    leaders = distinct(records)
    if not leaders:
        _ = monitor.left  # when it ran out, that is the reason
        raise Diverged(f"none of {len(begins)} starts could be solved: {problem.message}")
    best: tuple[float, Ending] | None = None
    fresh = problem.residuals
    for number in leaders[:POLISHED]:
        problem.residuals, problem.integrator = fresh.copy(), plan.integrator
        point = problem.at(batch.xs[number])
        if point is None:
            continue
        found = yield from finish(problem, plan.integrator, monitor, point)
        value = problem.objective(found.point)
        if best is None or value < best[0]:
            best, fresh_best = (value, found), problem.residuals
    if best is None:
        raise Diverged(f"no start could be solved at the full tolerance: {problem.message}")
    problem.residuals = fresh_best
    return best[1], records


def over_processes(
    fit: FitObjective, plan: FitPlan, begins: list[Array]
) -> Generator[Phase, Any, tuple[Ending, list[Start]]]:
    """The best optimum of starts that run one by one in the plan's workers, and the record of each."""
    problem = fit.problem
    end = yield Phase("workers", Workers(plan, begins), fit, begins[0])
    best = min(end.done, key=lambda one: (one.objective, one.record.number))
    if not math.isfinite(best.objective):
        why = end.done[0].message
        raise Diverged(f"none of {len(begins)} starts could be solved: {why[:1].lower()}{why[1:].rstrip('.')}")
    fit.monitor.begin(best.x)
    problem.integrator = plan.integrator
    point = problem.at(best.x)
    if point is None:
        raise Diverged(f"the best start cannot be solved again: {problem.message}")
    return (yield from finish(problem, plan.integrator, fit.monitor, point)), [one.record for one in end.done]


def distinct(records: list[Start]) -> list[int]:
    """The numbers of the starts with the best costs, one of each group that ended alike."""
    found: list[int] = []
    for one in sorted(records, key=lambda one: (one.cost, one.number)):
        if math.isfinite(one.cost) and all(
            abs(one.cost - records[other].cost) > ALIKE * max(one.cost, 1e-300) for other in found
        ):
            found.append(one.number)
    return found
