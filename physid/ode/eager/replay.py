"""Replay of a tape for the backward pass: accepted steps in waves, one step per sample at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from physid.ode.eager.checkpoints import COUNT, END_OUTPUT, FIRST, START, STEP, Tape
from physid.ode.eager.dense_output import theta_of
from physid.ode.eager.revolve import Shelf
from physid.ode.eager.stages import InPlace, Traced, evaluate
from physid.ode.hearing import audible
from physid.ode.problem import ODEProblem


@dataclass(frozen=True)
class Wave:
    """The w-th step of every lane: start and length [L], the lanes that have one, and the outputs inside.

    `lane`, `place`, `theta` [m] say whose outputs, which of them, and where in the step; `begin`, `end` [L] are the
    indices of the asked times with which the step's ends move (-1: they stay).
    """

    t: Tensor
    h: Tensor
    inside: Tensor
    lane: Tensor
    place: Tensor
    theta: Tensor
    weights: Tensor
    begin: Tensor
    end: Tensor
    dense: bool
    closes: bool
    scaled: float | Tensor


class Replay:
    """Reads a tape wave by wave, in either direction; the small numbers of all waves are prepared at once."""

    def __init__(self, problem: ODEProblem, tape: Tape) -> None:
        self.problem, self.tape = problem, tape
        layout = problem.layout
        self.rows, self.counts = tape.waves()
        self.single = layout.lanes == 1
        self.lane_index = torch.arange(layout.lanes)
        meta = tape.meta.whole()[self.rows]
        wave = torch.arange(len(self.rows))[:, None]
        self.inside = wave < self.counts
        self.closes = (wave == self.counts - 1).any(1).tolist()
        self.t, self.h = meta[..., START], torch.where(self.inside, meta[..., STEP], 0.0)
        ends = torch.where(self.inside, meta[..., END_OUTPUT], -1.0).long()
        begins = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
        self.begins, self.ends = torch.where(self.inside, begins, -1), ends
        self._outputs(meta)
        self.steps: list[float] = self.h[:, 0].tolist() if self.single and not layout.batched else []
        self.columns = self.h.to(layout.device, layout.real)[..., None]
        self.evaluations = 0  # of f, to rebuild states
        self.shelf = Shelf(tape.most or 0, self._advance, [(0, problem.y0.detach())]) if tape.thinned else None

    def _outputs(self, meta: Tensor) -> None:
        """Lane, place, theta and weights of every output, ordered by wave, and where each wave begins."""
        p = self.problem
        count = torch.where(self.inside, meta[..., COUNT], 0.0).long().flatten()
        owner = torch.repeat_interleave(torch.arange(len(count)), count)
        self.lane = owner % p.layout.lanes
        offset = torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
        self.place = meta[..., FIRST].long().flatten()[owner] + offset
        self.theta = theta_of(p.grid[self.place, self.lane], self.t.flatten()[owner], self.h.flatten()[owner])
        per_wave = count.view(-1, p.layout.lanes).sum(1)
        self.cuts = [0, *per_wave.cumsum(0).tolist()]
        interior = (self.theta > 0) & (self.theta < 1)
        inner = torch.zeros(len(self.rows), dtype=torch.bool)
        inner[(owner // p.layout.lanes)[interior]] = True
        self.dense = (inner & bool(p.tableau.extra_c)).tolist()
        self.weights = p.coefficients.basis(self.theta, len(p.coefficients.a)).to(p.layout.device, p.layout.dtype)

    def __len__(self) -> int:
        return self.rows.shape[0]

    def state(self, w: int) -> Tensor:
        """The states at the start of wave w [L * N]; of a thinned tape, the last wave first."""
        if self.shelf is not None:
            return self._only(w, self.shelf.state(w), self.problem.y0.detach())
        if self.single:
            return self.tape.states.row(w)
        return self.tape.states.whole()[self.rows[w].to(self.problem.layout.device)].reshape(-1)

    def closing(self, w: int) -> Tensor:
        """The lanes [L] whose last step is wave w."""
        return self.counts - 1 == w

    def _only(self, w: int, ours: Tensor, others: Tensor) -> Tensor:
        """The states of the lanes that have a wave w, and others for the rest."""
        if self.single:
            return ours
        inside = self.inside[w].to(ours.device)[:, None]
        return torch.where(inside, ours.view(len(inside), -1), others.view(len(inside), -1)).reshape(-1)

    def _advance(self, y: Tensor, first: int, last: int) -> Tensor:
        """The states after the waves [first, last), step by step as the march took them."""
        p = self.problem
        stages, fresh, count = InPlace(p.coefficients, p.layout), None, len(p.tableau.b)
        for w in range(first, last):
            wave = self.wave(w)
            edges = p.edges(wave.t, wave.t + wave.h)
            times = p.times(p.coefficients.c[:count], wave.t, wave.h, *edges)
            stages.put(0, p.field(times[0], y) if fresh is None else fresh, wave.scaled)
            y1, k = evaluate(stages, p.field, times, y, wave.scaled, range(1, count))
            if not p.tableau.fsal:
                y1 = y + stages.weigh(p.coefficients.b)
            self.evaluations += count - (fresh is not None)
            fresh = k if p.tableau.fsal and not edges and self.single else None
            y = self._only(w, y1, y)
        return y

    def wave(self, w: int) -> Wave:
        """Wave w without its states."""
        piece = slice(self.cuts[w], self.cuts[w + 1])
        return Wave(
            t=self.t[w],
            h=self.h[w],
            inside=self.inside[w],
            lane=self.lane[piece],
            place=self.place[piece],
            theta=self.theta[piece],
            weights=self.weights[piece],
            begin=self.begins[w],
            end=self.ends[w],
            dense=self.dense[w],
            closes=self.closes[w],
            scaled=self.steps[w] if self.steps else self.columns[w],
        )


@dataclass(frozen=True)
class Piece:
    """One step as a piece of a graph: its wave, start and length [L], first state and stages hk [S, L * N]."""

    wave: Wave
    start: Tensor
    h: Tensor
    y: Tensor
    hk: Tensor


def walk(
    problem: ODEProblem,
    stages: Traced,
    wave: Wave,
    start: Tensor,
    h: Tensor,
    y: Tensor,
    fresh: Tensor | None = None,
    dense: bool = False,
) -> tuple[Piece, Tensor, Tensor | None]:
    """One step of length h [L] from y at `start`; the state at its end, and f there if the next step begins with it.

    `fresh` is f at the start, where it is known; `dense` evaluates the dense stages even without an output inside.
    """
    layout, c, base = problem.layout, problem.coefficients, len(problem.tableau.b)
    edges = problem.edges(wave.t, wave.t + wave.h)
    times = problem.times(c.c, start, h, *edges)
    column = h.to(layout.device, layout.real)[:, None]
    stages.put(0, problem.field(times[0], y) if fresh is None else fresh, column)
    y1, k = evaluate(stages, problem.field, times, y, column, range(1, base))
    if not problem.tableau.fsal:
        y1 = y + stages.weigh(c.b)
    audible(y1)
    width = len(c.a) if wave.dense or dense else base
    evaluate(stages, problem.field, times, y, column, range(base, width))
    return Piece(wave, start, h, y, stages.kept(width)), y1, k if problem.tableau.fsal and not edges else None


def pieces(
    problem: ODEProblem, tape: Tape, y0: Tensor, t: Tensor, moved: Tensor | None = None, *, dense: bool = False
) -> Iterator[Piece]:
    """The accepted steps as one graph from y0 [L * N], t and the jumps `moved` [J, L or 1].

    Interior grid times are constants but for the jumps that move; the first and the last step move with t[0] and t[-1].
    `dense` evaluates the dense stages of every step.
    """
    replay, layout, landings = Replay(problem, tape), problem.layout, problem.landings
    moving = t.reshape(t.shape[0], -1).expand(-1, layout.lanes)
    stages, y, fresh = Traced(problem.coefficients, layout), y0, None
    for w in range(len(replay)):
        wave = replay.wave(w)
        start = _moved(moving, wave.begin, wave.t, replay.lane_index)
        end = _moved(moving, wave.end, wave.t + wave.h, replay.lane_index)
        if moved is not None and landings is not None:
            if w:
                start = landings.moved_with(problem, moved, wave.t, wave.inside, start, last=True)
                _, y = landings.cross(problem, wave.t, y, moved, wave.inside)
            else:
                kick = landings.kick(problem, wave.t, y, moved, wave.inside)
                y = y if kick is None else y + 0.5 * kick.reshape(-1)
            if w + 1 < len(replay):
                after = replay.wave(w + 1)
                end = landings.moved_with(problem, moved, after.t, after.inside, end, last=False)
        h = torch.where(wave.inside, end - start, 0.0)
        piece, y, fresh = walk(problem, stages, wave, start, h, y, fresh, dense)
        yield piece


def read(problem: ODEProblem, piece: Piece, times: Tensor) -> Tensor:
    """The states [m, N] at the asked times [m] inside of a step, which move through the dense output."""
    wave, rows, device = piece.wave, problem.layout.lanes, problem.layout.device
    theta = theta_of(times, piece.start[wave.lane], piece.h[wave.lane])
    weights = problem.coefficients.basis(theta, len(piece.hk)).to(device, problem.layout.dtype)
    lane = wave.lane.to(device)
    hk = piece.hk.view(len(piece.hk), rows, -1)[:, lane]
    return piece.y.view(rows, -1)[lane] + torch.einsum("ms,smn->mn", weights, hk)


def half_saltations(problem: ODEProblem, piece: Piece, values: Tensor, wave: Wave, moved: Tensor) -> Tensor:
    """Zeros [m, N] with half the derivative that jumps at the very times of outputs give them."""
    landings, halves = problem.landings, list(torch.zeros_like(values).unbind())
    if landings is None:
        return torch.stack(halves)
    for i, (lane, place) in enumerate(zip(wave.lane.tolist(), wave.place.tolist(), strict=True)):
        inside = torch.arange(problem.layout.lanes) == lane
        t = problem.grid[place]
        if not bool(landings.landing(t, inside)[1].any()):
            continue
        rows = piece.y.view(problem.layout.lanes, -1)
        y = torch.where(inside.to(rows.device)[:, None], values[i], rows).reshape(-1)
        kick = landings.kick(problem, t, y, moved, inside)
        if kick is not None:
            halves[i] = 0.5 * kick[lane]
    return torch.stack(halves)


def differentiable(
    problem: ODEProblem, steps: Iterable[Piece], y0: Tensor, t: Tensor, moved: Tensor | None = None
) -> Tensor:
    """The discrete map as one graph: states [T, L * N] from y0 [L * N], t, jumps and the steps that begin with them.

    Memory grows with the number of steps: this is for second derivatives and forward mode.
    """
    layout, rows = problem.layout, problem.layout.lanes
    moving = t.reshape(t.shape[0], -1).expand(-1, rows)
    values, lanes = [y0.view(rows, -1)], [torch.arange(rows)]
    places = [torch.zeros(rows, dtype=torch.long)]
    for piece in steps:
        wave = piece.wave
        if not len(wave.place):
            continue
        values.append(read(problem, piece, moving[wave.place, wave.lane]))
        lanes.append(wave.lane)
        places.append(wave.place)
        if moved is not None:
            values[-1] = values[-1] + half_saltations(problem, piece, values[-1], wave, moved)
    joined = torch.cat(values)
    blank = joined.new_full((problem.grid.shape[0], rows, layout.width), torch.nan)
    index = (torch.cat(places).to(layout.device), torch.cat(lanes).to(layout.device))
    return blank.index_put(index, joined).reshape(problem.grid.shape[0], -1)


def _moved(moving: Tensor, index: Tensor, still: Tensor, lanes: Tensor) -> Tensor:
    return torch.where(index >= 0, moving[index.clamp(min=0), lanes], still)
