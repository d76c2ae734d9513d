"""Least squares on the full horizon: from a point that can be solved to the optimum, at the full tolerance."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.inference.problem import Point, Problem
from physid.inference.search.geodesic_acceleration import GeodesicAcceleration, exact, promises
from physid.inference.search.levenberg_marquardt import Iterate, StoppingRule, descent
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import PointObjective
from physid.inference.search.optimizer import Phase
from physid.modelling.state_sizes import nested
from physid.ode import Integrator

NEAR = 0.1  # an rms residual below this part of the data's spread needs no segments
FAIR = 0.5  # and one beyond this part asks for shorter segments
ROUGH = StoppingRule(offset=0.0, ftol=1e-2, xtol=1e-3, evaluations=20)
VALLEY = 1e-2  # a fall of the cost that is none where weights are fitted, whose optimum is a flat valley
ALONG = 400  # evaluations on the way along it, where without noise the cost falls by a part at each
LOOSEST = 1e-7  # the tolerance that segments need


@dataclass(frozen=True)
class Ending:
    """End of least squares: the point, whether it converged, and why it stopped."""

    point: Point
    converged: bool
    message: str


Phases = Generator[Phase, Any, Ending]


def full_horizon(problem: Problem, monitor: Monitor, phase: str = "full") -> PointObjective:
    """The residuals of a problem from its first time to its last; estimated noise is renewed at accepted points."""
    renew = problem.renewed if problem.residuals.unknown.any() else None
    return PointObjective(problem, monitor, phase, measure=problem.objective, renew=renew)


def is_near(problem: Problem, point: Point, part: float = NEAR) -> bool:
    """Whether the prediction is within a part of the spread of the data."""
    length = float(np.linalg.norm(point.residual[: problem.count]))
    return length * (1.0 if problem.noise.estimated else problem.scale / problem.spread) < part


def better(full: PointObjective, start: Point | None, x: Array | None, first: Array) -> Point | None:
    """The better one of `start` and the point at `x`."""
    full.monitor.begin(first if x is None else x)
    there = None if x is None else full(x)
    return there if there is not None and (start is None or there.cost <= start.cost) else start


def finish(problem: Problem, tight: Integrator, monitor: Monitor, start: Point) -> Phases:
    """The optimum from `start`; with estimated noise least squares and sigma take turns until neither moves."""
    full, stop, unknowns = (
        full_horizon(problem, monitor),
        StoppingRule(floor=problem.floor),
        problem.vector.model.unknowns,
    )
    weights = any(not unknowns[name].listed for name in problem.vector.names)
    if weights:
        stop = replace(stop, ftol=VALLEY, evaluations=ALONG)
    if not problem.residuals.unknown.any():
        monitor.begin(start.x)
        one = yield from descent("full", full, start, stop)
        found, used = ending(full, one, start)
        return (yield from further(problem, full, found, stop, used)) if weights else found
    found, used = Ending(start, False, "the solve fails where the fit began"), 0
    for integrator, rule in ((looser(tight), replace(stop, offset=1e-4, ftol=1e-6)), (tight, stop)):
        problem.integrator = integrator
        monitor.begin(start.x)
        point = full(start.x)
        if point is None:
            continue
        one = yield from descent("full", full, full.renewed(point), rule)
        found, count = ending(full, one, point)
        start, used = found.point, used + count
    if weights:
        found = yield from further(problem, full, found, stop, used)
        found = replace(found, point=problem.renewed(found.point))
    return found


def ending(full: PointObjective, one: Iterate | None, start: Point) -> tuple[Ending, int]:
    """End of a descent from `start`, and its evaluations; a resumed search finds its point again."""
    if one is None:
        return Ending(start, False, "the solve fails where the fit began"), 1
    point = one.point
    if point is None:
        point = full(one.x)
        point = start if point is None else full.renewed(point)
    return Ending(point, one.status == "converged", one.message), one.evaluations


def further(problem: Problem, full: PointObjective, found: Ending, stop: StoppingRule, used: int) -> Phases:
    """From where a fit of weights hardly improved to where it does not: the end of a bent valley, if it was in one.

    The evaluations that are left are those of `stop` but for those that are `used`.
    """
    enough = partial(exact, problem)
    if not found.converged or enough(found.point) or not promises(found.point):
        return found
    optimizer = GeodesicAcceleration(replace(stop, evaluations=stop.evaluations - used), enough)
    end = yield Phase("valley", optimizer, full, state=optimizer.begun(found.point))
    point = end.here.point if end.here is not None else full(end.x)
    return Ending(point or found.point, end.converged, end.message)


def looser(integrator: Integrator) -> Integrator:
    """The integrator with no tighter tolerance than segments need: both tolerances loosened by one factor."""
    smallest = float(torch.as_tensor(integrator.rtol).min())
    factor = LOOSEST / smallest if smallest > 0 else 1.0
    if factor <= 1.0:
        return integrator
    rtol, atol = (
        nested(factor * torch.as_tensor(value, dtype=torch.float64)) for value in (integrator.rtol, integrator.absolute)
    )
    return replace(integrator, rtol=rtol, atol=atol)
