"""Segments: the horizon in pieces with starts of their own, solved as one batch and welded by continuity residuals.

Source: multiple shooting, Bock (1981), with continuity as penalties of growing weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from physid.errors import InputError
from physid.fitting.lift import lift, smooth
from physid.fitting.observation import linearise
from physid.fitting.problem import Point, Problem, prior_rows
from physid.fitting.vector import Array
from physid.ode import Integrator, sensitivities

MOST = 16  # segments
SHORT = 64  # segments, where the solve fails in longer ones
FEWEST_ROWS = 4  # observation times in a segment


@dataclass(frozen=True)
class Pieces:
    """Which observation times belong to which segment: rows [S, L] (-1 = none) and solve times [L + 2, S]."""

    rows: Array
    times: Tensor
    starts: Array

    @staticmethod
    def of(problem: Problem, count: int) -> Pieces:
        """Segments of nearly equal numbers of times; the end of one is the start of the next."""
        times = problem.train.times.numpy()
        first = float(problem.experiment.initial_time or 0.0)
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


class Segments:
    """The welded problem in z = (x, start of segment 2, ..., start of segment S), starts in units of initial_scale.

    Residuals are those of the data, and w (end of segment k - start of segment k + 1) / (initial_scale sqrt(S n)).
    Each segment's rows are compressed by an orthogonal factor, which keeps J^T J, J^T r and the cost.
    """

    def __init__(self, problem: Problem, integrator: Integrator, count: int) -> None:
        self.problem, self.vector, self.integrator = problem, problem.vector, integrator
        self.pieces = Pieces.of(problem, count)
        self.size = problem.experiment.initial_scale.reshape(-1)
        self.n = self.size.numel()
        self.weld = 1.0
        self._jumps: dict[bytes, float] = {}
        self.base = problem.experiment.initial[None].expand(self.pieces.count, *problem.experiment.initial.shape)

    def begin(self, x: Array) -> Array:
        """The vector z at `x`, with starts from smoothing splines of the observations where these tell them."""
        initial = self.vector.put(x)
        starts = self.pieces.starts[1:]
        if len(starts):
            seen, rate = smooth(self.problem.train, starts)
            guess = initial[None].expand(len(starts), *initial.shape)
            lifted = lift(self.vector.model, starts, seen, rate, guess, self.size)
            self.base = torch.cat([self.problem.experiment.initial[None], lifted.double().cpu()])
        return np.concatenate([x, np.zeros(len(starts) * self.n)])

    def at(self, z: Array) -> Point | None:
        """The welded problem at `z`; None when any segment's solve fails."""
        q = len(self.vector)
        y0 = self._starts(z)
        found = sensitivities(
            self.vector.model,
            y0,
            self.pieces.times,
            params=self.vector.raws,
            integrator=self.integrator,
            batched=True,
            throw=False,
        )
        self.problem.account(found.solution)
        states = found.solution.y
        if not found.solution.ok or not isinstance(states, Tensor):
            return None
        count, lanes = states.shape[:2]
        flat = [part.reshape(count, lanes, self.n, -1) for part in (*found.params, found.y0)]
        by = torch.cat([*flat[:-1], flat[-1] * self.size.to(states)], -1)
        blocks = [self._block(s, states[:, s], by[:, s]) for s in range(lanes)]
        rows = [self._place(s, block, len(z)) for s, block in enumerate(blocks)]
        rows.append(self._continuity(states[-1], by[-1], y0, len(z)))
        self._jumps[z.tobytes()] = float(np.linalg.norm(rows[-1][:, -1])) / self.weld
        extra, slope = prior_rows(self.vector, z[:q], self.problem.count)
        rows.append(np.column_stack([np.pad(slope, ((0, 0), (0, len(z) - q))), extra]))
        table = np.concatenate(rows)
        if not np.isfinite(table).all():
            return None
        return Point(z.copy(), table[:, -1], table[:, :-1])

    def gap(self, z: Array) -> float:
        """The rms of the jumps between segments at the last point `z` of `at`, in units of initial_scale."""
        return self._jumps.get(z.tobytes(), float("inf"))

    def limited(self, seconds: float | None) -> None:
        """Let no solve take longer than `seconds` of wall clock."""
        self.integrator = replace(self.integrator, time_limit=seconds)

    def _starts(self, z: Array) -> Tensor:
        """The starts [S, *state] in the model's dtype."""
        q = len(self.vector)
        first = self.vector.put(z[:q])
        moved = torch.from_numpy(z[q:].copy()).view(-1, self.n) * self.size
        others = self.base[1:] + moved.view(-1, *self.base.shape[1:])
        return torch.cat([first[None], others.to(first)])

    def _block(self, s: int, states: Tensor, by: Tensor) -> Array:
        """The data's rows of segment s, compressed: derivatives by parameters and own start, then the residual."""
        problem, rows = self.problem, self.pieces.rows[s]
        rows = rows[rows >= 0]
        inside = slice(1, len(rows) + 1)
        seen, slope = linearise(self.vector.model, states[inside], by[inside], self.vector.raws)
        mask = problem.mask[rows]
        residual = (seen.double().cpu().numpy() - problem.measured[rows])[mask]
        table = np.column_stack([slope.double().cpu().numpy()[mask], residual]) * problem.weight
        return np.asarray(np.linalg.qr(table, mode="r")) if len(table) > table.shape[1] else table

    def _place(self, s: int, block: Array, width: int) -> Array:
        """The rows of a segment in the columns of z and the residual."""
        p, q = self.vector.parameters, len(self.vector)
        out = np.zeros((len(block), width + 1))
        out[:, :p], out[:, -1] = block[:, :p], block[:, -1]
        start = block[:, p:-1]
        if s == 0:
            out[:, p:q] = start[:, self.vector.places.numpy()]
        else:
            out[:, self._own(s)] = start
        return out

    def _own(self, s: int) -> slice:
        """The columns of the start of segment s > 0."""
        low = len(self.vector) + (s - 1) * self.n
        return slice(low, low + self.n)

    def _continuity(self, ends: Tensor, by: Tensor, starts: Tensor, width: int) -> Array:
        """The rows of the jumps between segments."""
        lanes, n = self.pieces.count, self.n
        weight = self.weld / np.sqrt(max(1, (lanes - 1) * n))
        size = self.size.numpy()[:, None]
        out = np.zeros(((lanes - 1) * n, width + 1))
        jump = ((ends[:-1] - starts[1:]).reshape(lanes - 1, n)).double().cpu().numpy()
        for s in range(lanes - 1):
            rows = slice(s * n, (s + 1) * n)
            block = np.column_stack([by[s].double().cpu().numpy(), jump[s]]) / size
            out[rows] = self._place(s, block, width)
            out[rows, self._own(s + 1)] -= np.eye(n)
        return np.asarray(out * weight)


def counts(problem: Problem) -> list[int]:
    """How many segments to try: of FEWEST_ROWS times or more, then short ones for starts far from the data."""
    times = len(problem.train)
    return sorted({max(1, min(MOST, times // FEWEST_ROWS)), min(SHORT, times)})


def need(problem: Problem) -> None:
    """Errors: InputError when there are too few times for segments."""
    if len(problem.train) < 2 * FEWEST_ROWS:
        raise InputError(
            f"strategy 'segments' needs {2 * FEWEST_ROWS} observation times or more; {problem.experiment.name} has "
            f"{len(problem.train)}. Use strategy 'full'."
        )
