"""The step-size-aware gradient: cotangents follow the lengths of all attempts, too, one accepted step at a time.

A step from y at t takes on, beside y and t, the length H that was wanted after the step before and the two error ratios
before its own, r' and r''. Each attempt at it, the rejected ones first, has with the way s - t to the stop ahead

    h = s - t if cut,  a constant if limited,  else H        y1, outputs, r: the Runge-Kutta step
    H = factor(r, r', r'') h after it,  or H as it was if that is kept

The backward pass replays one accepted step at a time under autograd, from its checkpoint and with the attempts that
were rejected there, and hands the cotangents of y, t, H, r' and r'' to the step before. The gradient is that of the
program that ran, as `naive` has it, in the memory of checkpoints. Second derivatives chain the same steps into one
graph.

Source: Zhuang et al. (2020), Algorithm 2, extended by the recursion of Soederlind (2003).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from physid.ode.control import PID
from physid.ode.eager.checkpoints import BROKEN, CAPPED, CUT, FLAGS, KEPT, LENGTH, LIMITED, OWNER, RATIO, TRIED, Tape
from physid.ode.eager.replay import Piece, Replay, Wave, read, walk
from physid.ode.eager.stages import Traced, pinned
from physid.ode.problem import ODEProblem
from physid.ode.solution import Statistics

SHRUNK = 0.1  # what is left of a length after an error that is no number


class Link(NamedTuple):
    """State of the march between two steps: state [L * N], time, wanted length, the last two error ratios [L]."""

    y: Tensor
    t: Tensor
    h: Tensor
    ratio: Tensor
    ratio_before: Tensor


class Recursion:
    """The steps of a tape with choices, each as a function of what the step before leaves."""

    def __init__(self, problem: ODEProblem, tape: Tape) -> None:
        if tape.choices is None or not isinstance(problem.control, PID):
            raise RuntimeError("the choice of the steps was not kept")
        self.p, self.control = problem, problem.control
        self.replay, self.stages = Replay(problem, tape), Traced(problem.coefficients, problem.layout)
        rows = tape.choices.rows.whole()[self.replay.rows]
        one = torch.ones_like(rows[:1, :, RATIO])
        self.ratios = torch.cat([one, one, rows[..., RATIO]])
        flags = rows[..., FLAGS].long()
        self.cut, self.kept, self.capped, self.limited = ((flags & bit) > 0 for bit in (CUT, KEPT, CAPPED, LIMITED))
        self.tried = torch.where(self.replay.inside, rows[..., TRIED], 0.0).long()
        self.rejected = tape.choices.rejected.whole()
        # rejected attempts were kept in the order of their steps' rows
        self.first = torch.searchsorted(self.rejected[:, OWNER].contiguous(), self.replay.rows.double())
        self.stop = self._stops()
        self.moves = self.stop == problem.grid[-1]

    def __len__(self) -> int:
        return len(self.replay)

    def _stops(self) -> Tensor:
        """The time ahead of every wave on which a step must land [W, L]."""
        ahead, t = ((times * self.p.direction).T.contiguous() for times in (self.p.stops, self.replay.t))
        index = torch.searchsorted(ahead, t, right=True).clamp(max=len(self.p.stops) - 1)
        return self.p.stops.gather(0, index.T)

    def recorded(self, w: int) -> Link:
        """The recorded state before wave w; a wanted length enters linearly, so that its value does not matter."""
        t = self.replay.t[w]
        return Link(self.replay.state(w), t, torch.zeros_like(t), self.ratios[w + 1], self.ratios[w])

    def step(self, w: int, link: Link, stop: Tensor, fresh: Tensor | None) -> tuple[Piece, Link, Tensor | None]:
        """Wave w over its recorded length, what it leaves, and f at its end where the next step begins with it."""
        p, wave, way, wanted = self.p, self.replay.wave(w), stop - link.t, link.h
        for attempt in range(self.attempts(w)):
            wanted = self._reject(w, attempt, wave, link, way, wanted, fresh)
        length = torch.where(self.cut[w], way, torch.where(self.limited[w], 0.0, wanted))
        h = torch.where(wave.inside, pinned(wave.h, length), 0.0)
        piece, y1, k = walk(p, self.stages, wave, pinned(wave.t, link.t), h, link.y, fresh)
        ratios = (p.ratio(self.stages, link.y, y1), link.ratio, link.ratio_before)
        factor = self.control.factor(p.tableau.exponent, ratios)
        factor = torch.where(self.capped[w], factor.clamp(max=1.0), factor)
        end = torch.where(self.cut[w], stop, link.t + h)
        return piece, Link(y1, end, torch.where(self.kept[w], wanted, factor * h), *ratios[:2]), k

    def attempts(self, w: int) -> int:
        """The most attempts that a lane rejected before its wave w."""
        return int(self.tried[w].max())

    def _reject(
        self, w: int, attempt: int, wave: Wave, link: Link, way: Tensor, wanted: Tensor, fresh: Tensor | None
    ) -> Tensor:
        """The length that is wanted after an attempt that was rejected; as before in the lanes that had none [L].

        Where the error was no number the length shrinks by a tenth, and nothing of the stages counts.
        """
        p, there = self.p, attempt < self.tried[w]
        rows = self.rejected[torch.where(there, self.first[w] + attempt, 0)]
        flags = rows[:, FLAGS].long()
        cut, limited, broken = ((flags & bit) > 0 for bit in (CUT, LIMITED, BROKEN))
        h = pinned(rows[:, LENGTH], torch.where(cut, way, torch.where(limited, 0.0, wanted)))
        sound = there & ~broken
        taken = torch.where(sound, h, 0.0)
        one = replace(wave, h=taken.detach(), dense=False, lane=wave.lane[:0], place=wave.place[:0])
        _, y1, _ = walk(p, self.stages, one, pinned(wave.t, link.t), taken, link.y, fresh)
        ratio = torch.where(sound, p.ratio(self.stages, link.y, y1), 1.0)
        factor = self.control.factor(p.tableau.exponent, (ratio, link.ratio, link.ratio_before)).clamp(max=1.0)
        return torch.where(there, torch.where(sound, factor, SHRUNK) * h, wanted)


def linked(problem: ODEProblem, tape: Tape, y0: Tensor, t: Tensor) -> Iterator[Piece]:
    """The accepted steps as one graph from y0 [L * N] and t, their lengths included."""
    recursion = Recursion(problem, tape)
    moving = t.reshape(t.shape[0], -1).expand(-1, problem.layout.lanes)
    one, fresh = torch.ones(problem.layout.lanes, dtype=torch.float64), None
    link = Link(y0, moving[0], 0 * one, one, one)
    for w in range(len(recursion)):
        stop = torch.where(recursion.moves[w], moving[-1], recursion.stop[w])
        piece, link, fresh = recursion.step(w, link, stop, fresh)
        yield piece


class AwarePullback:
    """Cotangents of y0, the captured tensors and the times, for the cotangent of the states at the asked times."""

    def __init__(
        self, problem: ODEProblem, tape: Tape, captured: list[Tensor], need_times: bool, stats: Statistics
    ) -> None:
        self.p, self.captured, self.need_times, self.stats = problem, captured, need_times, stats
        self.recursion = Recursion(problem, tape)
        self.grads: list[Tensor | None] = [None] * len(captured)
        self.time_grad = torch.zeros(problem.grid.shape, dtype=torch.float64)

    def run(self, g: Tensor) -> tuple[Tensor, list[Tensor | None], Tensor | None]:
        """g [T, L * N] -> cotangents of y0 [L * N], of every captured tensor, of the times [T, L]."""
        self.g = g.reshape(g.shape[0], self.p.layout.lanes, -1)
        zero = torch.zeros(self.p.layout.lanes, dtype=torch.float64)
        bar = Link(torch.zeros_like(self.g[0]).reshape(-1), zero, zero, zero, zero)
        for w in range(len(self.recursion) - 1, -1, -1):
            bar = self._step(w, bar)
        self.time_grad[0] += bar.t
        return bar.y + self.g[0].reshape(-1), self.grads, self.time_grad if self.need_times else None

    def _step(self, w: int, bar: Link) -> Link:
        """Replay wave w and pull `bar`, the cotangents of what it leaves, back to what it was given."""
        wave, before = self.recursion.replay.wave(w), self.recursion.recorded(w)
        asked = self.p.grid[wave.place, wave.lane]
        *leaves, stop, asked = (x.detach().requires_grad_() for x in (*before, self.recursion.stop[w], asked))
        with torch.enable_grad():
            piece, after, _ = self.recursion.step(w, Link(*leaves), stop, None)
            values = read(self.p, piece, asked)
        g = self.g[wave.place.to(self.g.device), wave.lane.to(self.g.device)]
        pairs = [(x, xbar) for x, xbar in zip((*after, values), (*bar, g), strict=True) if x.requires_grad]
        inputs = [*leaves, stop, asked, *self.captured]
        found = torch.autograd.grad([x for x, _ in pairs], inputs, [xbar for _, xbar in pairs], allow_unused=True)
        count = len(piece.hk) + self.recursion.attempts(w) * len(self.p.tableau.b)
        self.stats.backward_evaluations += count
        self.stats.backward_vjps += count
        self._add(found[7:])
        *bars, stop_bar, asked_bar = (
            torch.zeros_like(x) if xbar is None else xbar for x, xbar in zip(inputs[:7], found, strict=False)
        )
        self.time_grad.index_put_((wave.place, wave.lane), asked_bar, accumulate=True)
        self.time_grad[-1] += torch.where(self.recursion.moves[w], stop_bar, 0.0)
        return Link(*bars)

    def _add(self, found: tuple[Tensor | None, ...]) -> None:
        """The captured tensors' share of a step."""
        for j, new in enumerate(found):
            old = self.grads[j]
            if new is not None:
                self.grads[j] = new if old is None else old + new
