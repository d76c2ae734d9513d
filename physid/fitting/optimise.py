"""From a plan to an optimum: the strategies of least squares, and the descents."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from physid.errors import Diverged
from physid.fitting import segments
from physid.fitting.descent import Objective, adam, lbfgs
from physid.fitting.lm import Found, Stop, least, optimal
from physid.fitting.plan import Plan
from physid.fitting.problem import Point, Problem
from physid.fitting.segments import Segments
from physid.fitting.vector import Array
from physid.fitting.watch import Watch
from physid.ode import Integrator

NEAR = 0.1  # an rms residual below this part of the data's spread needs no segments
WELDS = (0.1, 1.0, 10.0, 100.0)
WELDED = 1e-3  # an rms jump, in units of initial_scale, at which the pieces are one
ROUGH = Stop(offset=0.0, ftol=1e-2, xtol=1e-3, evaluations=20)
LOOSEST = 1e-7  # the tolerance that segments need
PATIENCE = 2000  # steps of a segment: where more are needed, shorter segments are better


@dataclass(frozen=True)
class Optimum:
    """Where a fit ended."""

    x: Array
    point: Point | None
    status: str
    message: str


def optimise(problem: Problem, plan: Plan, watch: Watch) -> Optimum:
    """Fit by the plan. Errors: Diverged when no solve from the start succeeds."""
    x = problem.vector.get()
    if not watch.held:
        watch.begin(x)
    if plan.optimizer == "lm":
        found = least_squares(problem, plan, watch, x)
        status = "converged" if found.converged else "not converged"
        return Optimum(found.point.x, found.point, status, sentence(found.message))
    objective = Objective(problem, plan, watch)
    if plan.optimizer == "adam":
        x, message = adam(objective, x, plan), f"The {plan.schedule.epochs} epochs ran."
        if plan.protocol != "default":
            return Optimum(x, problem.at(x), "converged", f"Protocol {plan.protocol} ran to its end.")
    else:
        x, reason = lbfgs(objective, x, plan)
        message = sentence(f"L-BFGS stopped: {reason}")
    point = problem.at(x)
    return Optimum(x, point, "converged" if point is not None and optimal(problem, point) else "not converged", message)


def least_squares(problem: Problem, plan: Plan, watch: Watch, x: Array) -> Found:
    """Levenberg-Marquardt on the full horizon, on welded segments before it where the start is far from the data."""

    best = np.inf

    def full(x: Array) -> Point | None:
        nonlocal best
        problem.limited(watch.left)
        point = problem.at(x)
        watch.saw("full", x, point.cost if point else np.inf)
        if point is not None and point.cost < best and whole:
            best = point.cost
            watch.hold("full", x=x)
        return point

    held, whole = watch.held, False
    if plan.strategy == "segments":
        segments.need(problem)
    if held.get("stage") == "full":
        start, whole = full(held["x"]), True
        if start is not None:
            watch.begin(start.x)
            return least(full, start, Stop(floor=problem.floor))
    start = full(x) if plan.strategy != "segments" else None
    reason = problem.message
    enough = len(problem.train) >= 2 * segments.FEWEST_ROWS
    near = start is not None and np.sqrt(2 * start.cost) * problem.scale < NEAR * problem.spread
    if plan.strategy != "full" and enough and not near:
        welded = weld(problem, plan, watch, x)
        watch.begin(x if welded is None else welded)
        there = None if welded is None else full(welded)
        if there is not None and (start is None or there.cost <= start.cost):
            start = there
    if start is None and plan.strategy == "segments":
        start = full(x)
        reason = problem.message
    if start is None:
        raise Diverged(f"the solve fails at the starting values: {reason}")
    watch.begin(start.x)
    whole, best = True, start.cost
    watch.hold("full", x=start.x)
    return least(full, start, Stop(floor=problem.floor))


def weld(problem: Problem, plan: Plan, watch: Watch, x: Array) -> Array | None:
    """The unknowns from welded segments, short ones if need be; None when no segment problem could be solved."""
    for count in segments.counts(problem):
        welded = _weld(Segments(problem, looser(plan.integrator), count), watch, x)
        if welded is not None:
            return welded
    return None


def _weld(pieces: Segments, watch: Watch, x: Array) -> Array | None:
    """The unknowns from these segments with welds of growing weight; None when the first solve fails."""
    z, done, held, solved = pieces.begin(x), 0, watch.held, False
    if held.get("stage") == "weld" and len(held["base"]) == pieces.pieces.count:
        z, done, pieces.base = held["z"], int(held["weld"]), torch.as_tensor(held["base"])
    for number, weight in enumerate(WELDS):
        if number < done:
            continue
        pieces.weld = weight
        phase = f"segments, weld {weight:g}"

        def at(z: Array, phase: str = phase, number: int = number) -> Point | None:
            pieces.limited(watch.left)
            point = pieces.at(z)
            if watch.saw(phase, z[: len(x)], point.cost if point else np.inf):
                watch.hold("weld", weld=number, z=z, base=pieces.base)
            return point

        watch.begin(z[: len(x)])
        start = at(z)
        if start is None:
            break
        solved, z = True, least(at, start, ROUGH).point.x
        if pieces.gap(z) < WELDED:
            break
    return z[: len(x)] if solved else None


def looser(integrator: Integrator) -> Integrator:
    """The integrator with no tighter tolerance and no more steps than segments need."""
    found = replace(integrator, max_steps=min(integrator.max_steps, PATIENCE))
    if isinstance(found.rtol, float | int):
        found = replace(found, rtol=max(float(found.rtol), LOOSEST))
    if isinstance(found.atol, float | int):
        found = replace(found, atol=max(float(found.atol), LOOSEST))
    return found


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
