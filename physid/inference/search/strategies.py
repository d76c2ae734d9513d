"""Strategies of least squares: ways from starting values to the optimum, each a script of optimizers."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.options import FitPlan
from physid.inference.parameters import vector_of
from physid.inference.problem import Point, Problem
from physid.inference.search import multiple_shooting
from physid.inference.search.continuation import lead
from physid.inference.search.full_horizon import FAIR, Ending, Phases, better, finish, full_horizon, is_near, looser
from physid.inference.search.gradient_matching import match
from physid.inference.search.growing_horizon import grow
from physid.inference.search.monitor import Monitor
from physid.inference.search.multiple_shooting import WELDS, weld
from physid.inference.search.objective import FitObjective, PointObjective
from physid.inference.search.optimizer import Optimum, Phase, Script, Strategy


def least_squares(fit: FitObjective, plan: FitPlan, x: Array, anew: bool = False) -> Phases:
    """The optimum from x by the plan's strategy, the model led to it by its `continuation` first."""
    if not anew:
        x = yield from lead(fit, x, lambda: Strategy(lambda fit, x, _: _led(fit, plan, x)))
    return (yield from search(fit, plan, x, anew))


def _led(fit: FitObjective, plan: FitPlan, x: Array) -> Script:
    """The optimum of an easier model, as a strategy of its own."""
    return optimum((yield from search(fit, plan, x)))


def optimum(end: Ending) -> Optimum:
    """The ending of least squares as that of a fit."""
    return Optimum(end.point.x, end.point, "converged" if end.converged else "not converged", sentence(end.message))


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def alone(fit: FitObjective, plan: FitPlan, x: Array) -> Phases:
    """The optimum from x; where it explains no fair part of the data, that without segments if it is better."""
    problem = fit.problem
    found = yield from least_squares(fit, plan, x)
    weights = problem.residuals
    if plan.strategy != "auto" or not multiple_shooting.enough(problem) or is_near(problem, found.point, FAIR):
        return found
    value, problem.residuals = problem.objective(found.point), weights.copy()
    try:
        other = yield from least_squares(fit, replace(plan, strategy="full"), x)
    except Diverged:
        other = found
    if problem.objective(other.point) < value:
        return other
    problem.residuals = weights
    return found


def search(fit: FitObjective, plan: FitPlan, x: Array, anew: bool = False) -> Phases:
    """Levenberg-Marquardt on the full horizon, and before it what the strategy says where the start is far off.

    A search that ended without converging begins `anew` on the full horizon.
    """
    problem, monitor, strategy = fit.problem, fit.monitor, plan.strategy
    full = full_horizon(problem, monitor)
    if problem.residuals.unknown.any():
        problem.integrator = looser(plan.integrator)  # `finish` begins there too
    if strategy == "segments":
        multiple_shooting.need(problem)
    if anew and strategy != "rates" and (start := full(x)) is not None:
        return (yield from finish(problem, plan.integrator, monitor, start))
    if strategy == "rates":
        return (yield from by_rates(problem, monitor, full, x))
    if strategy in ("match", "stages"):
        moved = yield from (
            match(problem, monitor, x) if strategy == "match" else known_first(problem, plan, monitor, x)
        )
        apart = strategy == "stages" and moved is not None and multiple_shooting.enough(problem)
        x, strategy = x if moved is None else moved, "segments" if apart else "auto"
        monitor.begin(x)
    start = full(x) if strategy != "segments" else None
    reason = problem.message
    near = start is not None and is_near(problem, start)
    apart = strategy == "segments" or (strategy == "auto" and not near)
    if strategy == "auto" and start is not None and not near and multiple_shooting.costly(problem):
        found = yield from finish(problem, plan.integrator, monitor, start)
        if is_near(problem, found.point, FAIR):
            return found
        start = found.point
    if apart and multiple_shooting.enough(problem):
        for most, rows in multiple_shooting.divisions(problem):
            moved = yield from weld(problem, plan, monitor, x, most, rows)
            start = better(full, start, moved, x)
            if start is not None and is_near(problem, start, FAIR):
                break
    if strategy == "auto" and start is None:
        start = yield from by_slopes(problem, plan, monitor, full, x)
    if strategy == "grow" or (strategy == "auto" and start is None):
        moved = yield from grow(problem, plan, monitor, x)
        start = better(full, start, moved, x)
    if start is None and strategy == "segments":
        start = full(x)
        reason = problem.message
    if start is None:
        _ = monitor.left  # when it ran out, that is the reason
        raise Diverged(f"the solve fails at the starting values: {reason}")
    return (yield from finish(problem, plan.integrator, monitor, start))


def by_slopes(
    problem: Problem, plan: FitPlan, monitor: Monitor, full: PointObjective, x: Array
) -> Generator[Phase, Any, Point | None]:
    """The point where the slopes of smoothed data lead, and segments from there; None where it can't be solved either.

    What a guess at which the equation has no solution says of the unknowns is little: the slopes say more.
    """
    moved = yield from match(problem, monitor, x)
    if moved is None:
        return None
    monitor.begin(moved)
    start = full(moved)
    if multiple_shooting.enough(problem) and (start is None or not is_near(problem, start, FAIR)):
        most, rows = multiple_shooting.divisions(problem)[0]
        welded = yield from weld(problem, plan, monitor, moved, most, rows)
        start = better(full, start, welded, moved)
    return start


def by_rates(problem: Problem, monitor: Monitor, full: PointObjective, x: Array) -> Phases:
    """The unknowns whose rates match those of the smoothed data best; the equation is solved with them only once.

    Errors: Diverged where that cannot be, or where too little is measured for a smooth curve.
    """
    matched = yield from match(problem, monitor, x)
    if matched is None:
        raise Diverged("the rates cannot be matched: a channel has too few observations, or f is not finite there")
    monitor.begin(matched)
    point = full(matched)
    if point is None:
        raise Diverged(f"the solve fails with the rates that match best: {problem.message}")
    return Ending(point, True, "the rates of the model match those of the data as well as the penalties allow")


def known_first(problem: Problem, plan: FitPlan, monitor: Monitor, x: Array) -> Generator[Phase, Any, Array | None]:
    """`x` with the listed unknowns from loose segments, the weights held; None when there is only one kind of unknown.

    A residual that starts at zero then begins where the known part has explained what it can. Of the whole horizon an
    incomplete model would make nothing good.
    """
    model, entries = problem.vector.model, problem.vector.entries
    unknowns = model.unknowns
    held = [name for name in problem.vector.names if not unknowns[name].listed]
    rest = np.array([i for i, entry in enumerate(entries) if entry.owner not in held], dtype=np.intp)
    if not held or not len(rest) or not multiple_shooting.enough(problem):
        return None
    problem.vector.put(x)
    for name in held:
        model.fix(name)
    try:
        known = Problem(vector_of(model, problem.experiments), plan.integrator, problem.noise)
        most, rows = multiple_shooting.divisions(problem)[0]
        with monitor.aside("known part"):
            found = yield from weld(known, plan, monitor, x[rest], most, rows, WELDS[:1])
    finally:
        for name in held:
            model.release(name)
    problem.evaluations += known.evaluations
    if found is None:
        return None
    x = x.copy()
    x[rest] = found
    return x
