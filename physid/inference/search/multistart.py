"""Many starts: where they begin, how they run, as one batch or over processes, and which of them wins.

Every start is a draw of its own number from the seed, so that neither the way of running nor the number of workers
changes where it begins. Source: McKay, Beckman and Conover (1979) for the Latin hypercube.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.options import FitPlan
from physid.inference.parameters import Entry, Vector
from physid.inference.problem import Point, Problem
from physid.inference.search import multiple_shooting
from physid.inference.search.gradient_matching import match
from physid.inference.search.levenberg_marquardt import Track, least_many
from physid.inference.search.monitor import Watch
from physid.inference.search.multiple_shooting import Segments
from physid.inference.search.one_start import ALIKE, Start
from physid.inference.search.strategies import FAIR, ROUGH, WELDED, WELDS, alone, finish, is_near, looser
from physid.inference.search.trust_region import Found, Stop
from physid.modelling.modules import Weight
from physid.modelling.prior import Prior
from physid.modelling.state_sizes import intervals
from physid.ode import Integrator
from physid.ode.hearing import TimeUp, listening

SPREAD = 1.0  # sd of log(value / guess), or of (value - guess) / size, where neither prior nor bounds say more
INITIAL = 0.3  # sd of a free initial value, in units of initial_scale
STEPS, STEPS_PER_INTERVAL = 2000, 20  # the first budget of a start's solve, until others show what one takes
GROWTH = 10  # of that budget, as long as no start can be solved with it
POLISHED = 3  # distinct optima that are refined to the full tolerance, of which the best wins
EDGE = 1e-3  # starts keep this part of the range away from bounds


def draws(vector: Vector, first: Array, count: int, seed: int) -> list[Array]:
    """Where `count` starts begin: `first`, then a Latin hypercube in the priors and domains around it."""
    if count == 1:
        return [first]
    cube = qmc.LatinHypercube(len(first), rng=np.random.default_rng(seed)).random(count - 1)
    cube = np.clip(cube, EDGE, 1.0 - EDGE)
    guess = vector.natural(first)
    unknowns = vector.model.unknowns
    beliefs = [unknowns[entry.owner].prior if entry.owner in unknowns else None for entry in vector.entries]
    columns = [
        _values(prior, entry, guess[i], cube[:, i])
        for i, (prior, entry) in enumerate(zip(beliefs, vector.entries, strict=True))
    ]
    scales = _initial_scales(vector)
    for i, size in scales.items():
        columns[i] = guess[i] + INITIAL * size * ndtri(cube[:, i])
    for i, drawn in weights(vector, count, seed).items():
        columns[i] = drawn
    return [first, *(vector.raw(row) for row in np.column_stack(columns))]


def weights(vector: Vector, count: int, seed: int) -> dict[int, Array]:
    """The places in the vector of weights of a user's own modules, and the values [count - 1] that starts draw there.

    Start k draws them from the seed + k, as a fit with that seed does.
    """
    own = {name for name, one in vector.model.unknowns.items() if isinstance(one, Weight) and not one.listed}
    places = [i for i, entry in enumerate(vector.entries) if entry.owner in own]
    if not places:
        return {}
    model, rows = vector.model, []
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    for number in range(1, count):
        model.draw(seed + number, anew=True)
        rows.append(vector.get()[places])
        model.load_state_dict(begun)
    return dict(zip(places, np.stack(rows, 1), strict=True))


def _values(prior: Prior | None, entry: Entry, guess: float, p: Array) -> Array:
    """The natural values below which the parts `p` of what is believed of an unknown lie."""
    low, high = entry.domain.low, entry.domain.high
    if prior is not None:
        return np.asarray(prior.quantile(p))
    if math.isfinite(low) and math.isfinite(high):
        return np.asarray(low + (high - low) * p)
    if math.isfinite(low):
        return np.asarray(low + (guess - low) * np.exp(SPREAD * ndtri(p)))
    return np.asarray(guess + SPREAD * (abs(guess) or 1.0) * ndtri(p))


def _initial_scales(vector: Vector) -> dict[int, float]:
    found: dict[int, float] = {}
    for local, columns in zip(vector.vectors, vector.columns, strict=True):
        found |= dict(zip(columns[local.parameters :].tolist(), local.scale.tolist(), strict=True))
    return found


def best_of(problem: Problem, plan: FitPlan, watch: Watch, x: Array) -> tuple[Found, list[Start]]:
    """The best optimum of the plan's starts, and the record of each. Errors: Diverged when none can be solved."""
    begins = draws(problem.vector, x, plan.starts, plan.seed)
    if plan.workers is not None:
        from physid.inference.search.workers import over_processes

        return over_processes(problem, plan, watch, begins)
    return in_a_batch(problem, plan, watch, begins)


def in_a_batch(problem: Problem, plan: FitPlan, watch: Watch, begins: list[Array]) -> tuple[Found, list[Start]]:
    """All starts at once: welded segments, then the full horizon, loosely; then the best few to the full tolerance."""
    problem.integrator = looser(plan.integrator)
    batch = Batch(problem, watch, begins, auto=plan.strategy == "auto")
    goes_on = watch.held.get("stage") == "race"
    try:
        if plan.strategy in ("auto", "segments") and multiple_shooting.enough(problem) and not goes_on:
            batch.weld(looser(plan.integrator))
        batch.full()
        ended = False
    except TimeUp:
        ended = True
    records = [batch.record(i, ended) for i in range(len(begins))]
    leaders = distinct(records)
    if not leaders:
        _ = watch.left  # when it ran out, that is the reason
        raise Diverged(f"none of {len(begins)} starts could be solved: {problem.message}")
    best: tuple[float, Found] | None = None
    fresh = problem.weights
    for number in leaders[:POLISHED]:
        problem.weights, problem.integrator = fresh.copy(), plan.integrator
        point = problem.at(batch.xs[number])
        if point is None:
            continue
        found = finish(problem, plan.integrator, watch, point, held=False)
        value = problem.objective(found.point)
        if best is None or value < best[0]:
            best, fresh_best = (value, found), problem.weights
    if best is None:
        raise Diverged(f"no start could be solved at the full tolerance: {problem.message}")
    problem.weights = fresh_best
    return best[1], records


def distinct(records: list[Start]) -> list[int]:
    """The numbers of the starts with the best costs, one of each group that ended alike."""
    found: list[int] = []
    for one in sorted(records, key=lambda one: (one.cost, one.number)):
        if math.isfinite(one.cost) and all(
            abs(one.cost - records[other].cost) > ALIKE * max(one.cost, 1e-300) for other in found
        ):
            found.append(one.number)
    return found


class Batch:
    """The starts of a batch on their way: their unknowns, their costs, what became of them."""

    def __init__(self, problem: Problem, watch: Watch, begins: list[Array], auto: bool = False) -> None:
        self.problem, self.watch, self.begins = problem, watch, begins
        self.xs = list(begins)
        self.tracks: list[Track | None] = [None] * len(begins)
        self.evaluations = [0] * len(begins)
        self.stopped: set[int] = set()  # starts whose first solve took more than its budget of steps
        self.auto = auto

    def weld(self, integrator: Integrator) -> None:
        """Move every start to where welded segments lead it; one that they cannot solve stays."""
        pieces, held = Segments(self.problem, integrator), self.watch.held
        q, done = len(self.problem.vector), 0
        if held.get("stage") == "weld many":
            zs, going, done = list(held["zs"]), list(held["going"]), int(held["weld"])
            self.xs, self.evaluations = [z[:q] for z in zs], list(held["evaluations"])
        else:
            zs = [pieces.begin(x) for x in self.xs]
            going = list(range(len(zs)))
        for number, weight in enumerate(WELDS[done:], done):
            if not going:
                break
            self.watch.hold("weld many", weld=number, going=going, zs=np.array(zs), evaluations=self.evaluations)
            pieces.weld = weight
            now, phase = going, f"segments, weld {weight:g}"
            points = self._many(pieces, phase, now, [zs[i] for i in now])
            evaluate = partial(self._some, pieces, phase, now)
            tracks = least_many(evaluate, points, ROUGH, race=False)
            for i, track in zip(going, tracks, strict=True):
                if track is not None:
                    zs[i], self.xs[i] = track.point.x, track.point.x[:q]
            there = [i for i, track in zip(going, tracks, strict=True) if track is not None]
            going = [i for i in there if pieces.gap(zs[i]) >= WELDED]

    def _some(
        self, pieces: Segments, phase: str, now: list[int], numbers: Sequence[int], xs: Sequence[Array]
    ) -> list[Point | None]:
        """A batch of some of the starts that are still in it."""
        return self._many(pieces, phase, [now[i] for i in numbers], xs)

    def full(self) -> None:
        """Least squares on the full horizon, a race, from where one that was cut off stood."""
        stop, turn = Stop(offset=1e-4, ftol=1e-8), 0
        starts: list[Any]
        if self.watch.held.get("stage") == "race":
            starts, turn = self._recall(self.watch.held), int(self.watch.held["turn"])
        else:
            starts = self._begin()
        evaluate: Any = partial(self._many, self.problem, "full")
        tracks, count = least_many(evaluate, starts, stop, hold=self._hold, first=turn), len(self.begins)
        for i in range(count):
            both = [track for track in tracks[i::count] if track is not None]
            self.tracks[i] = min(both, key=lambda track: track.point.cost, default=None)
            if (best := self.tracks[i]) is not None:
                self.xs[i] = best.point.x

    def _begin(self) -> list[Point | None]:
        """The better one of where a start began and where the segments led it, for every start.

        Where none explains a fair part of the data, the others follow: all may have been led to one bad optimum.
        """
        points = self._within_budget(self.xs)
        same = all(x is begin for x, begin in zip(self.xs, self.begins, strict=True))
        others = points.copy() if same else self._within_budget(self.begins)
        for i, (point, other) in enumerate(zip(points, others, strict=True)):
            if other is not None and (point is None or other.cost < point.cost):
                points[i], others[i] = other, point
        if self.auto and points[0] is None:
            moved = match(self.problem, self.watch, self.begins[0])
            points[0] = None if moved is None else self._many(self.problem, "full", [0], [moved])[0]
        fair = any(one is not None and is_near(self.problem, one, FAIR) for one in points)
        return points if same or fair or not self.auto else points + others

    def _within_budget(self, xs: list[Array]) -> list[Point | None]:
        """The points at `xs`, where each solve may take so many steps, and more only where others took as many.

        A start whose equation is stiff there does not hold up the others; those that were stopped are tried again when
        it is known what a solve takes, and all are with a larger budget when none could be solved.
        """
        problem, numbers = self.problem, list(range(len(xs)))
        most, budget = problem.integrator.most_steps, first_budget(problem)
        while True:
            problem.patience = budget
            points = self._many(problem, "full", numbers, xs)
            if any(points) or not problem.spent or budget >= most:
                break
            budget = min(GROWTH * budget, most)
        late = sorted(problem.spent)
        self.stopped |= set(late)
        if late and any(points) and problem.patience > budget:
            again = self._many(problem, "full", late, [xs[i] for i in late])
            self.stopped -= {i for i, point in zip(late, again, strict=True) if point is not None}
            for i, point in zip(late, again, strict=True):
                points[i] = point
        return points

    def _hold(self, turn: int, tracks: list[Track | None]) -> None:
        """Let the watch know where every start of the race is."""
        there = [(i, one) for i, one in enumerate(tracks) if one is not None]
        self.watch.hold(
            "race",
            turn=turn,
            numbers=[i for i, _ in there],
            xs=np.array([one.point.x for _, one in there]),
            sizes=np.array([one.size for _, one in there]),
            numeric=np.array([[one.damping, one.growth] for _, one in there]),
            endings=[[one.status, one.message] for _, one in there],
            costs=[one.costs for _, one in there],
            counts=[one.evaluations for _, one in there],
            evaluations=self.evaluations,
        )

    def _recall(self, held: Mapping[str, Any]) -> list[Track | None]:
        """The starts of a race that was cut off, as they were."""
        tracks: list[Track | None] = [None] * (2 * len(self.begins))
        self.evaluations = list(held["evaluations"])
        for row, (i, point) in enumerate(zip(held["numbers"], self.problem.many(list(held["xs"])), strict=True)):
            if point is None:
                continue
            damping, growth = map(float, held["numeric"][row])
            status, message = held["endings"][row]
            track = Track(point, held["sizes"][row], damping, growth, status, message, held["counts"][row])
            track.costs = [math.inf if cost is None else cost for cost in held["costs"][row]]
            tracks[i] = track
        return tracks

    def _many(self, problem: Problem | Segments, phase: str, numbers: Any, xs: list[Array] | Any) -> list[Point | None]:
        """One batch of evaluations, seen by the watch."""
        problem.limited(self.watch.left)
        q = len(self.problem.vector)
        points = problem.many(xs)
        for number, x, point in zip(numbers, xs, points, strict=True):
            start = number % len(self.begins)
            self.evaluations[start] += 1
            self.watch.saw(phase, x[:q], point.cost if point else math.inf, start=start)
        return points

    def record(self, number: int, ended: bool) -> Start:
        """What is kept of a start."""
        track, natural = self.tracks[number], self.problem.vector.natural
        lost = "over budget" if number in self.stopped else "diverged"
        status = "time limit" if ended else lost if track is None else track.status
        cost = math.inf if track is None else track.point.cost
        begin, end = (natural(one[number]).tolist() for one in (self.begins, self.xs))
        return Start(number, begin, end, cost, status, self.evaluations[number])


def first_budget(problem: Problem) -> int:
    """The steps that the first solve of a start may take."""
    return STEPS + STEPS_PER_INTERVAL * max(map(intervals, problem.experiments))


def run_one(problem: Problem, plan: FitPlan, watch: Watch, number: int, x: Array, brief: bool = True) -> dict[str, Any]:
    """One start alone, as a worker does it: its end, its status and its record, all as plain data.

    Where it is `brief`, its first solve has a budget of steps.
    """
    if brief:
        problem.patience = min(first_budget(problem), problem.integrator.most_steps)
    stopped = False
    status, message, end, cost, objective = "diverged", "", x, math.inf, math.inf
    fresh = problem.weights.copy()
    try:
        with listening(watch.left):
            found = alone(problem, replace(plan, starts=1, workers=None), watch, x)
        status, message, end = ("converged" if found.converged else "not converged"), found.message, found.point.x
        objective = problem.objective(found.point)
        if found.point.seen is not None and found.point.slope is not None:
            weighed = problem.point(end, found.point.seen, found.point.slope, fresh)
            cost = math.inf if weighed is None else weighed.cost
    except Diverged as error:
        message, stopped = str(error), bool(problem.spent)
        status = "over budget" if brief and stopped else status
    except TimeUp:
        status, end = "time limit", (x if watch.best is None else watch.best)
    natural = problem.vector.natural
    record = Start(number, natural(x).tolist(), natural(end).tolist(), cost, status, len(watch.history))
    return {
        "x": end,
        "objective": objective,
        "message": message,
        "record": record,
        "history": watch.history,
        "evaluations": problem.evaluations,
    }


def history_of(rows: list[dict[str, Any]], number: int) -> list[Mapping[str, Any]]:
    """The history of one start as part of that of all."""
    return [{**row, "start": number} for row in rows]
