"""Ways from starting values to the least-squares optimum: full horizon, welded segments, a horizon that grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.errors import Diverged
from physid.inference.options import FitPlan
from physid.inference.parameters import vector_of
from physid.inference.problem import Point, Problem
from physid.inference.search import multiple_shooting
from physid.inference.search.continuation import lead
from physid.inference.search.geodesic_acceleration import along, exact, promises
from physid.inference.search.gradient_matching import match
from physid.inference.search.levenberg_marquardt import WIDE, least_many, least_wide
from physid.inference.search.monitor import Watch
from physid.inference.search.multiple_shooting import Segments
from physid.inference.search.trust_region import Found, Stop, least
from physid.modelling.state_sizes import nested
from physid.ode import Integrator

NEAR = 0.1  # an rms residual below this part of the data's spread needs no segments
FAIR = 0.5  # and one beyond this part asks for shorter segments
WELDS = (0.1, 1.0, 10.0, 100.0)
WELDED = 1e-3  # an rms jump, in units of initial_scale, at which the pieces are one
ROUGH = Stop(offset=0.0, ftol=1e-2, xtol=1e-3, evaluations=20)
VALLEY = 1e-2  # a fall of the cost that is none where weights are fitted, whose optimum is a flat valley
ALONG = 400  # evaluations on the way along it, where without noise the cost falls by a part at each
LOOSEST = 1e-7  # the tolerance that segments need
HORIZONS = (0.125, 0.25, 0.5)  # of the whole, before the whole


def least_squares(problem: Problem, plan: FitPlan, watch: Watch, x: Array) -> Found:
    """The optimum from x by the plan's strategy, the model led to it by its `continuation` first."""
    x = lead(problem, watch, x, lambda inner, start: search(problem, plan, inner, start))
    return search(problem, plan, watch, x)


def alone(problem: Problem, plan: FitPlan, watch: Watch, x: Array) -> Found:
    """The optimum from x; where it explains no fair part of the data, that without segments if it is better."""
    found, weights = least_squares(problem, plan, watch, x), problem.weights
    if plan.strategy != "auto" or not multiple_shooting.enough(problem) or is_near(problem, found.point, FAIR):
        return found
    value, problem.weights, watch.held = problem.objective(found.point), weights.copy(), {}
    try:
        other = least_squares(problem, replace(plan, strategy="full"), watch, x)
    except Diverged:
        other = found
    if problem.objective(other.point) < value:
        return other
    problem.weights = weights
    return found


def search(problem: Problem, plan: FitPlan, watch: Watch, x: Array) -> Found:
    """Levenberg-Marquardt on the full horizon, and before it what the strategy says where the start is far off."""
    full, strategy, held = Full(problem, watch), plan.strategy, watch.held
    if problem.weights.unknown.any():
        problem.integrator = looser(plan.integrator)  # `finish` begins there too
    if strategy == "segments":
        multiple_shooting.need(problem)
    if held.get("stage") == "full":
        start = full(held["x"])
        if start is not None:
            return finish(problem, plan.integrator, watch, start)
    if strategy == "rates":
        return by_rates(problem, watch, full, x)
    if strategy in ("match", "stages"):
        moved = match(problem, watch, x) if strategy == "match" else known_first(problem, plan, watch, x)
        apart = strategy == "stages" and moved is not None and multiple_shooting.enough(problem)
        x, strategy = x if moved is None else moved, "segments" if apart else "auto"
        watch.begin(x)
    start = full(x) if strategy != "segments" else None
    reason = problem.message
    near = start is not None and is_near(problem, start)
    if strategy in ("auto", "segments") and multiple_shooting.enough(problem) and not near:
        for most, rows in left(multiple_shooting.divisions(problem), watch):
            start = better(full, start, weld(problem, plan, watch, x, most, rows), watch, x)
            if start is not None and is_near(problem, start, FAIR):
                break
    if strategy == "auto" and start is None:
        start = by_slopes(problem, plan, watch, full, x)
    if strategy == "grow" or (strategy == "auto" and start is None):
        start = better(full, start, grow(problem, plan, watch, x), watch, x)
    if start is None and strategy == "segments":
        start = full(x)
        reason = problem.message
    if start is None:
        _ = watch.left  # when it ran out, that is the reason
        raise Diverged(f"the solve fails at the starting values: {reason}")
    return finish(problem, plan.integrator, watch, start)


def left(divisions: list[tuple[int, int]], watch: Watch) -> list[tuple[int, int]]:
    """Those of the divisions into segments that a search that goes on has not done."""
    held = watch.held
    there = (int(held["most"]), int(held["rows"])) if held.get("stage") == "weld" else None
    return divisions[divisions.index(there) :] if there in divisions else divisions


class Full:
    """The problem on the full horizon, evaluated under the eyes of a watch.

    With `held` a search can go on from its best points.
    """

    def __init__(self, problem: Problem, watch: Watch, phase: str = "full", held: bool = False) -> None:
        self.problem, self.watch, self.phase, self.held = problem, watch, phase, held
        self.best = np.inf

    def __call__(self, x: Array) -> Point | None:
        """The point at `x`; None where the solve fails."""
        self.problem.limited(self.watch.left)
        point = self.problem.at(x)
        cost = self.problem.objective(point) if point else np.inf
        self.watch.saw(self.phase, x, cost)
        if self.held and cost < self.best:
            self.best = cost
            self.watch.hold("full", x=x)
        return point


def is_near(problem: Problem, point: Point, part: float = NEAR) -> bool:
    """Whether the prediction is within a part of the spread of the data."""
    length = float(np.linalg.norm(point.residual[: problem.count]))
    return length * (1.0 if problem.noise.estimated else problem.scale / problem.spread) < part


def better(full: Full, start: Point | None, x: Array | None, watch: Watch, first: Array) -> Point | None:
    """The better one of `start` and the point at `x`."""
    watch.begin(first if x is None else x)
    there = None if x is None else full(x)
    return there if there is not None and (start is None or there.cost <= start.cost) else start


def finish(problem: Problem, tight: Integrator, watch: Watch, start: Point, held: bool = True) -> Found:
    """The optimum from `start`; with estimated noise least squares and sigma take turns until neither moves.

    With `held` a search can go on from its best points: it is the only one.
    """
    full, stop, before = Full(problem, watch, held=held), Stop(floor=problem.floor), len(watch.history)
    unknowns = problem.vector.model.unknowns
    weights = any(not unknowns[name].listed for name in problem.vector.names)
    if weights:
        stop = replace(stop, ftol=VALLEY, evaluations=ALONG)
    if held:
        watch.hold("full", x=start.x)
    if not problem.weights.unknown.any():
        full.best = start.cost
        watch.begin(start.x)
        found = least(full, start, stop)
        return further(problem, full, found, stop, before) if weights else found
    found = Found(start, False, "the solve fails where the fit began")
    for integrator, rule in ((looser(tight), replace(stop, offset=1e-4, ftol=1e-6)), (tight, stop)):
        problem.integrator = integrator
        watch.begin(start.x)
        point = full(start.x)
        first = None if point is None else problem.renewed(point)
        (track,) = least_many(lambda _, xs: [full(x) for x in xs], [first], rule, lambda _, new: problem.renewed(new))
        if track is not None:
            start = track.point
            found = Found(start, track.status == "converged", track.message)
    if weights:
        found = further(problem, full, found, stop, before)
        found = replace(found, point=problem.renewed(found.point))
    return found


def further(problem: Problem, full: Full, found: Found, stop: Stop, before: int) -> Found:
    """From where a fit of weights hardly improved to where it does not: the end of a bent valley, if it was in one.

    The evaluations that are left are those of `stop` but for those since the history had `before` rows.
    """
    enough = partial(exact, problem)
    if not found.converged or enough(found.point) or not promises(found.point):
        return found
    used = len(full.watch.history) - before
    return along(full, found.point, replace(stop, evaluations=stop.evaluations - used), enough)


def weld(
    problem: Problem, plan: FitPlan, watch: Watch, x: Array, most: int, rows: int, welds: Sequence[float] = WELDS
) -> Array | None:
    """The unknowns from welded segments, `most` at most, of `rows` times at least; None when none could be solved."""
    pieces = Segments(problem, looser(plan.integrator), most, rows)
    z, done, held, solved = pieces.begin(x), 0, watch.held, False
    if held.get("stage") == "weld" and (held["most"], held["rows"]) == (most, rows) and len(held["z"]) == len(z):
        z, done = held["z"], int(held["weld"])
    for number, weight in enumerate(welds):
        if number < done:
            continue
        pieces.weld = weight
        phase = f"segments, weld {weight:g}"

        def at(z: Array, phase: str = phase, number: int = number) -> Point | None:
            pieces.limited(watch.left)
            point = pieces.at(z)
            if watch.saw(phase, z[: len(x)], point.cost if point else np.inf):
                watch.hold("weld", weld=number, most=most, rows=rows, z=z)
            return point

        watch.begin(z[: len(x)])
        start = at(z)
        if start is None:
            break
        solver = least_wide if len(z) > WIDE else least
        solved, z = True, solver(at, start, ROUGH).point.x
        if pieces.gap(z) < WELDED:
            break
    return z[: len(x)] if solved else None


def by_slopes(problem: Problem, plan: FitPlan, watch: Watch, full: Full, x: Array) -> Point | None:
    """The point where the slopes of smoothed data lead, and segments from there; None where it can't be solved either.

    What a guess at which the equation has no solution says of the unknowns is little: the slopes say more.
    """
    moved = match(problem, watch, x)
    if moved is None:
        return None
    watch.begin(moved)
    start = full(moved)
    if multiple_shooting.enough(problem) and (start is None or not is_near(problem, start, FAIR)):
        most, rows = multiple_shooting.divisions(problem)[0]
        start = better(full, start, weld(problem, plan, watch, moved, most, rows), watch, moved)
    return start


def by_rates(problem: Problem, watch: Watch, full: Full, x: Array) -> Found:
    """The unknowns whose rates match those of the smoothed data best; the equation is solved with them only once.

    Errors: Diverged where that cannot be, or where too little is measured for a smooth curve.
    """
    matched = match(problem, watch, x)
    if matched is None:
        raise Diverged("the rates cannot be matched: a channel has too few observations, or f is not finite there")
    watch.begin(matched)
    watch.hold("rates", x=matched)
    point = full(matched)
    if point is None:
        raise Diverged(f"the solve fails with the rates that match best: {problem.message}")
    return Found(point, True, "the rates of the model match those of the data as well as the penalties allow")


def known_first(problem: Problem, plan: FitPlan, watch: Watch, x: Array) -> Array | None:
    """`x` with the listed unknowns from loose segments, the weights held; None when there is only one kind of unknown.

    A residual that starts at zero then begins where the known part has explained what it can. Of the whole horizon an
    incomplete model would make nothing good.
    """
    model, entries = problem.vector.model, problem.vector.entries
    unknowns = model.unknowns
    held = [name for name in problem.vector.names if not unknowns[name].listed]
    rest = np.array([i for i, entry in enumerate(entries) if entry.owner not in held], dtype=np.intp)
    if not held or not len(rest):
        return None
    problem.vector.put(x)
    for name in held:
        model.fix(name)
    try:
        alone = Problem(vector_of(model, problem.experiments), plan.integrator, problem.noise)
        inner = Watch(watch.progress, watch.left)
        most, rows = multiple_shooting.divisions(problem)[0]
        found = weld(alone, plan, inner, x[rest], most, rows, WELDS[:1]) if multiple_shooting.enough(problem) else None
    finally:
        for name in held:
            model.release(name)
    watch.history += [{**row, "phase": f"known part, {row['phase']}"} for row in inner.history]
    problem.evaluations += alone.evaluations
    if found is None:
        return None
    x = x.copy()
    x[rest] = found
    return x


def grow(problem: Problem, plan: FitPlan, watch: Watch, x: Array) -> Array | None:
    """The unknowns from horizons that grow, each fit starting from the one before; None when none could be solved."""
    solved = False
    for part in HORIZONS:
        short = shortened(problem, looser(plan.integrator), part)
        if short is None:
            continue
        full = Full(short, watch, f"horizon {part:g}")
        watch.begin(x)
        start = full(x)
        problem.evaluations += short.evaluations
        if start is None:
            continue
        short.evaluations = 0
        solved, x = True, least(full, start, ROUGH).point.x
        problem.evaluations += short.evaluations
    return x if solved else None


def shortened(problem: Problem, integrator: Integrator, part: float) -> Problem | None:
    """The problem on the first `part` of every experiment's times; None when too little is measured there."""
    cut: list[Experiment] = []
    for one in problem.experiments:
        first, last = float(one.initial_time or 0.0), float(one.train.times[-1])
        early = one.train.select(one.train.times <= first + part * (last - first))
        if early is None:
            return None
        cut.append(replace(one, train=early, test=None))
    made = vector_of(problem.vector.model, cut)
    short = Problem(made, integrator, problem.noise)
    return short if short.count > len(made) else None


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
