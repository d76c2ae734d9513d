"""Multiple shooting: segments with their own initial states, solved as one batch and joined by continuity residuals.

Source: multiple shooting, Bock (1981), with continuity as penalties of growing weight.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.smoothing import smooth
from physid.errors import InputError
from physid.inference.batch import solve_batch
from physid.inference.options import FitPlan
from physid.inference.parameters import ParameterVector
from physid.inference.probing import held
from physid.inference.problem import Point, Problem, prior_rows, together
from physid.inference.search.full_horizon import ROUGH, looser
from physid.inference.search.levenberg_marquardt import descent
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import PointObjective
from physid.inference.search.optimizer import Phase
from physid.modelling.observation import linearise
from physid.modelling.reconstruct import reconstruct
from physid.modelling.state_sizes import STEPS_PER_INTERVAL, intervals
from physid.ode import Integrator

MOST = 16  # segments of an experiment
SHORT = 64  # segments, where the solve fails in longer ones
WELDS = (0.1, 1.0, 10.0, 100.0)
WELDED = 1e-3  # an rms jump, in units of initial_scale, at which the pieces are one
FEWEST_ROWS = 4  # observation times in a segment
COLUMNS = 1000  # of a table of segments: beyond, one step of it takes longer than solves of the full horizon
TIMES = 20  # as many columns in a solve as the full horizon has
MOST_STEPS = 2000  # of a segment with few intervals: a start that needs more is a bad one


@dataclass(frozen=True)
class Pieces:
    """Observation times of the segments: rows [S, L] (-1 = none) and solve times [L + 2, S]."""

    rows: Array
    times: Tensor
    starts: Array

    @staticmethod
    def of(experiment: Experiment, count: int) -> Pieces:
        """Segments of nearly equal numbers of times; the end of one is the start of the next."""
        times = experiment.train.times.numpy()
        first = float(experiment.initial_time or 0.0)
        parts = np.array_split(np.arange(len(times)), count)
        longest = max(len(part) for part in parts)
        rows = np.full((count, longest), -1)
        grid = np.empty((longest + 2, count))
        starts = np.array([first, *(times[part[0]] for part in parts[1:])])
        for s, part in enumerate(parts):
            end = starts[s + 1] if s + 1 < count else times[-1]
            rows[s, : len(part)] = part
            grid[:, s] = end
            grid[0, s] = starts[s]
            grid[1 : len(part) + 1, s] = times[part]
        return Pieces(rows, torch.from_numpy(grid), starts)

    @property
    def count(self) -> int:
        """The number of segments S."""
        return len(self.rows)


@dataclass(frozen=True)
class SegmentSolution:
    """One segment of one experiment at one z: derivatives of its rows, compressed, and where it ends."""

    block: Array
    end: Array
    by: Array


class Segments:
    """The welded problem in z = (x, starts of the segments of every experiment but its first), in initial_scale.

    Residuals are those of the data, and w (end of segment k - start of segment k + 1) / (initial_scale sqrt(S n)).
    Each segment's rows are compressed by an orthogonal factor, which keeps J^T J, J^T r and the cost.
    """

    def __init__(self, problem: Problem, integrator: Integrator, most: int = MOST, rows: int = FEWEST_ROWS) -> None:
        self.problem, self.vector = problem, problem.vector
        counts = [max(1, min(most, len(one.train) // rows)) for one in problem.experiments]
        self.pieces = [Pieces.of(one, count) for one, count in zip(problem.experiments, counts, strict=True)]
        steps = max(MOST_STEPS, *map(_intervals, problem.experiments, self.pieces))
        self.integrator = replace(integrator, max_steps=min(steps, integrator.most_steps))
        self.sizes = [one.initial_scale.reshape(-1).numpy() for one in problem.experiments]
        self.n = len(self.sizes[0])
        inner = [(one.count - 1) * self.n for one in self.pieces]
        self.offsets = len(self.vector) + np.cumsum([0, *inner])
        self.joints = max(1, sum(inner))
        self.weld = 1.0
        self._jumps: dict[bytes, float] = {}

    def begin(self, x: Array) -> Array:
        """The vector z at `x`, with starts from smoothing splines of the observations where these tell them."""
        z = [x]
        for vector, columns, pieces, size in zip(
            self.vector.vectors, self.vector.columns, self.pieces, self.sizes, strict=True
        ):
            starts = pieces.starts[1:]
            if len(starts):
                initial = vector.put(x[columns])
                positive = self.problem.noise.logarithms
                seen, rate = smooth(vector.experiment.train, starts, positive)
                guess = initial[None].expand(len(starts), *initial.shape)
                scale = torch.from_numpy(size).view(initial.shape)
                lifted = reconstruct(self.vector.model, starts, seen, rate, guess, scale, values=positive)
                z.append((lifted.double().cpu().numpy().reshape(len(starts), -1) / size).reshape(-1))
        return np.concatenate(z)

    def at(self, z: Array) -> Point | None:
        """The welded problem at `z`; None when any segment's solve fails."""
        return self.many([z])[0]

    def many(self, zs: Sequence[Array]) -> list[Point | None]:
        """The welded problem at several z, solved as one batch; None where a segment's solve fails."""
        found: dict[tuple[int, int, int], SegmentSolution | None] = {}
        pairs = [(i, e) for i in range(len(zs)) for e in range(len(self.pieces))]
        for group in together(pairs, self.problem.experiments):
            found |= self._solved([(i, e, s) for i, e in group for s in range(self.pieces[e].count)], zs)
        return [self._point(i, z, found) for i, z in enumerate(zs)]

    def _solved(
        self, samples: list[tuple[int, int, int]], zs: Sequence[Array]
    ) -> dict[tuple[int, int, int], SegmentSolution | None]:
        """Solve the samples (z, experiment, segment) as one batch."""
        vectors, columns = self.vector.vectors, self.vector.columns
        own = {(i, e): zs[i][columns[e]] for i, e, _ in samples}
        first = {key: vectors[key[1]].put(x) for key, x in own.items()}
        theta = {key: vectors[key[1]].theta(x) for key, x in own.items()}
        grids = [self.pieces[e].times[:, s] for _, e, s in samples]
        longest, there = max(map(len, grids)), sorted({e for _, e, _ in samples})
        found = solve_batch(
            self.vector.model,
            self.vector.raws,
            torch.stack([theta[i, e] for i, e, _ in samples]),
            torch.stack([self._start(zs[i], e, s, first[i, e]) for i, e, s in samples]),
            torch.stack([torch.cat([grid, grid[-1:].expand(longest - len(grid))]) for grid in grids], 1),
            held(self.integrator, [vectors[e] for e in there], [self.sizes[e] for e in there]),
        )
        self.problem.account(found.solution)
        out: dict[tuple[int, int, int], SegmentSolution | None] = {}
        for sample, (i, e, s) in enumerate(samples):
            if not found.ok[sample]:
                out[i, e, s] = None
                continue
            if s == 0:
                vectors[e].put(own[i, e])
            by = self._scaled(vectors[e], found.slopes[:, sample], e)
            block = self._block(e, s, found.states[:, sample], by)
            end = found.states[-1, sample].reshape(-1).double().cpu().numpy()
            out[i, e, s] = SegmentSolution(block, end, by[-1].double().cpu().numpy())
        return out

    def _scaled(self, vector: ParameterVector, by: Tensor, e: int) -> Tensor:
        """Derivatives [T, N, P + N] by parameters and by the start in units of initial_scale."""
        factor = torch.ones(by.shape[-1], dtype=torch.float64)
        factor[vector.parameters :] = torch.from_numpy(self.sizes[e])
        return by * factor.to(by)

    def _start(self, z: Array, e: int, s: int, first: Tensor) -> Tensor:
        """The start [*state] of a segment, in the model's dtype."""
        if s == 0:
            return first
        return torch.from_numpy(z[self._own(e, s)] * self.sizes[e]).view(first.shape).to(first)

    def _point(self, i: int, z: Array, found: dict[tuple[int, int, int], SegmentSolution | None]) -> Point | None:
        """All rows of z."""
        q, rows, jumps = len(self.vector), [], []
        for e, pieces in enumerate(self.pieces):
            segments = [found[i, e, s] for s in range(pieces.count)]
            there = [one for one in segments if one is not None]
            if len(there) < len(segments):
                return None
            rows += [self._place(e, s, one.block, len(z)) for s, one in enumerate(there)]
            jumps += [self._jump(e, s, one, z) for s, one in enumerate(there[:-1])]
        rows += jumps
        self._jumps = {} if len(self._jumps) > 1000 else self._jumps
        self._jumps[z.tobytes()] = float(np.sqrt(sum((row[:, -1] ** 2).sum() for row in jumps))) / self.weld
        extra, slope = prior_rows(self.vector, z[:q], self.problem.prior_weight)
        rows.append(np.column_stack([np.pad(slope, ((0, 0), (0, len(z) - q))), extra]))
        table = np.concatenate(rows)
        return Point(z.copy(), table[:, -1], table[:, :-1]) if np.isfinite(table).all() else None

    def gaps(self, zs: Sequence[Array]) -> list[float]:
        """The rms of the jumps between segments at points z, in units of initial_scale."""
        lost = [z for z in zs if z.tobytes() not in self._jumps]  # as after a checkpoint
        if lost:
            self.many(lost)
        return [self._jumps.get(z.tobytes(), float("inf")) for z in zs]

    def limited(self, seconds: float | None) -> None:
        """Let no solve take longer than `seconds` of wall clock."""
        self.integrator = replace(self.integrator, time_limit=seconds)

    def _block(self, e: int, s: int, states: Tensor, by: Tensor) -> Array:
        """The data's rows of a segment, compressed: derivatives by parameters and own start, then the residual."""
        problem, rows = self.problem, self.pieces[e].rows[s]
        rows = rows[rows >= 0]
        inside = slice(1, len(rows) + 1)
        seen, slope = linearise(self.vector.model, states[inside], by[inside], self.vector.raws)
        rows = rows + problem.parts[e].start
        mask = problem.mask[rows]
        residual, jacobian = problem.residuals.weigh(
            seen.double().cpu().numpy()[mask],
            problem.measured[rows][mask],
            problem.residuals.scales[rows][mask],
            slope.double().cpu().numpy()[mask],
        )
        table = np.column_stack([jacobian, residual])
        if len(table) <= table.shape[1] or not np.isfinite(table).all():
            return table
        return np.asarray(np.linalg.qr(table, mode="r"))

    def _place(self, e: int, s: int, block: Array, width: int) -> Array:
        """The rows of a segment in the columns of z and the residual."""
        vector, columns = self.vector.vectors[e], self.vector.columns[e]
        p = vector.parameters
        out = np.zeros((len(block), width + 1))
        out[:, columns[:p]], out[:, -1] = block[:, :p], block[:, -1]
        start = block[:, p:-1]
        if s == 0:
            out[:, columns[p:]] = start[:, vector.places.numpy()]
        else:
            out[:, self._own(e, s)] = start
        return out

    def _own(self, e: int, s: int) -> slice:
        """The columns of the start of segment s > 0 of an experiment."""
        low = int(self.offsets[e]) + (s - 1) * self.n
        return slice(low, low + self.n)

    def _jump(self, e: int, s: int, segment: SegmentSolution, z: Array) -> Array:
        """The rows [n, columns + 1] of the jump from the end of segment s to the start of the next."""
        own = self._own(e, s + 1)
        size = self.sizes[e]
        out = self._place(e, s, np.column_stack([segment.by / size[:, None], segment.end / size - z[own]]), len(z))
        out[:, own] -= np.eye(self.n)
        return np.asarray(out * (self.weld / np.sqrt(self.joints)))


def weld(
    problem: Problem, plan: FitPlan, monitor: Monitor, x: Array, most: int, rows: int, welds: Sequence[float] = WELDS
) -> Generator[Phase, Any, Array | None]:
    """The unknowns from welded segments, `most` at most, of `rows` times at least; None when none could be solved."""
    pieces, solved = Segments(problem, looser(plan.integrator), most, rows), False
    z = pieces.begin(x)
    for weight in welds:
        pieces.weld = weight
        phase = f"segments, weld {weight:g}"
        at = PointObjective(pieces, monitor, phase, width=len(x))
        monitor.begin(z[: len(x)])
        end = yield from descent(phase, at, z, ROUGH)
        if end is None:
            break
        solved, z = True, end.x
        if pieces.gaps([z])[0] < WELDED:
            break
    return z[: len(x)] if solved else None


def _intervals(experiment: Experiment, pieces: Pieces) -> int:
    """Steps for the intervals of a segment, between observations and between jumps of inputs."""
    return STEPS_PER_INTERVAL * -(-intervals(experiment) // pieces.count)


def divisions(problem: Problem) -> list[tuple[int, int]]:
    """Divisions (most segments, fewest times) to try: long ones, then short ones for starts far from the data."""
    longest = max(len(one.train) for one in problem.experiments)
    return [(MOST, FEWEST_ROWS), (SHORT, 1)] if min(SHORT, longest) > longest // FEWEST_ROWS else [(MOST, FEWEST_ROWS)]


def need(problem: Problem) -> None:
    """Errors: InputError when there are too few times for segments."""
    if not enough(problem):
        raise InputError(
            f"strategy 'segments' needs {2 * FEWEST_ROWS} observation times or more; {problem.experiment.name} has "
            f"{len(problem.train)}. Use strategy 'full'."
        )


def costly(problem: Problem) -> bool:
    """Whether segments cost far more than the full horizon: by their own starts, as columns of a table and of solves.

    A segment is solved with a column for every component of its start, the full horizon with one for every free one.
    """
    one = problem.vector.vectors[0]
    size = one.experiment.initial.numel()
    inner = sum(max(0, min(MOST, len(each.train) // FEWEST_ROWS) - 1) for each in problem.experiments)
    return inner * size > COLUMNS or 1 + one.parameters + size > TIMES * (1 + len(one))


def enough(problem: Problem) -> bool:
    """Whether any experiment has enough times for two segments."""
    return any(len(one.train) >= 2 * FEWEST_ROWS for one in problem.experiments)
