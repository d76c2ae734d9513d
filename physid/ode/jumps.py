"""Jump times of f, fixed or moving with unknowns, and the derivative of the solution by their movement.

Where f jumps from f- to f+ at a time tau on the way of the solve, the solution goes on and its derivative by tau jumps:

    dy = (f- - f+) dtau

Several jumps at one time are passed one after the other, each from the f that the one before it has left. A state that
is asked for at the very time of a jump has a derivative from either side, and gets the mean of the two, as differences
have it: half the saltation. So has the whole solution for a jump at its start.
Source: Rozenvasser (1967), General sensitivity equations of discontinuous systems.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from physid.ode.caching import Cache
from physid.ode.torch_internals import transforms_active

MOST_STILL, MOST_TIMES = 32, 10_000  # jumps that are kept, and the times of each


@dataclass(frozen=True, eq=False)
class SwitchReads:
    """Reads of a driver and the switches that they pass at a jump, so that f can be evaluated with some passed.

    At jump j of lane l read `read` [J, L] (-1: none, f jumps by itself) passes the time `switch` [J, L] of the driver,
    upwards where `rising`. `unique` [R] says which reads are one and the same. `owner` hands out what it reads, one
    lane at a time where `apart`.
    """

    owner: Any
    apart: bool
    unique: Tensor
    read: Tensor
    switch: Tensor
    rising: Tensor


@dataclass(frozen=True, eq=False)
class Jumps:
    """The times at which f jumps [J, L], ascending; L = 1 where all lanes have the same.

    Those within round-off of each other are one landing and have one value. `clear` [J, L] is how far stage times stay
    away, since f may reckon the times with round-off; None for a neighbouring number. `moved` [J, L] are the same times
    with their graph, None where nothing that asks for gradients moves them. `tied`: some of one landing move apart.
    """

    times: Tensor
    clear: Tensor | None = None
    moved: Tensor | None = None
    reads: SwitchReads | None = None
    tied: bool = False

    @staticmethod
    def at(times: Tensor) -> Jumps:
        """Jumps at these times [J]; they move if they have a graph."""
        kept = None if times.requires_grad else _STILL.get(times.shape)
        if (
            kept is not None
            and times.dtype is torch.float64
            and times.device.type == "cpu"
            and torch.equal(kept[0], times)
        ):
            return kept[1]
        moved = times.to("cpu", torch.float64).reshape(-1).sort().values[:, None]
        found = Jumps(moved.detach(), moved=moved if moved.requires_grad else None)
        if found.moved is None and moved.numel() <= MOST_TIMES and not transforms_active():
            _STILL.put(times.shape, (times.detach().to("cpu", torch.float64, copy=True), found))
        return found

    @cached_property
    def plan(self) -> Tensor:
        """The times as a plan takes them: [J], or [J, L] where the lanes differ."""
        return self.times[:, 0] if self.times.shape[1] == 1 else self.times

    def landing(self, t: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The first jump [L] at exactly the times t [L], and how many there are, 0 elsewhere and where not `inside`."""
        rows = self.times.T.expand(len(t), -1).contiguous()
        column = t.detach()[:, None].contiguous()
        first = torch.searchsorted(rows, column)[:, 0]
        return first, torch.where(inside, torch.searchsorted(rows, column, right=True)[:, 0] - first, 0)

    def moved_with(self, problem: Any, moved: Tensor, t: Tensor, inside: Tensor, still: Tensor, last: bool) -> Tensor:
        """The times `still` [L], with the graph of `moved` [J, L or 1] in lanes that are at a jump at t [L].

        With that of the last jump of a landing on the way of the solve, or of the first.
        """
        first, count = self.landing(t, inside)
        if (problem.direction < 0) != last:
            first = first + (count - 1).clamp(min=0)
        return torch.where(count > 0, still.detach() + self._still(moved, first), still)

    def _still(self, moved: Tensor, index: Tensor) -> Tensor:
        """Zeros [L] with the graph of these jumps."""
        found = self.row(moved, index)
        finite = torch.where(torch.isfinite(found), found, 0.0)
        return finite - finite.detach()

    def row(self, values: Tensor, index: Tensor) -> Tensor:
        """Row index [L] of values [J, L or 1] in every lane; any row where the index is out of range."""
        lanes = values.expand(-1, len(index))
        return lanes.gather(0, index.clamp(max=len(values) - 1)[None])[0]

    def sides(self, problem: Any, t: Tensor, y: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """f before and after the jumps at t [L] with the states y [L * N], along the solve [L, N]."""
        first, count = self.landing(t, inside)
        clear = torch.zeros_like(t) if self.clear is None else self.row(self.clear, first)
        size = torch.finfo(problem.layout.real).eps * torch.maximum(t.abs(), torch.full_like(t, 1e-300))
        clear = torch.where(count > 0, torch.maximum(clear, size), 0.0) * problem.direction
        found = [problem.field(self._moment(problem, t + sign * clear), y) for sign in (-1, 1)]
        before, after = (k.view(problem.layout.lanes, -1) for k in found)
        return before, after

    @staticmethod
    def _moment(problem: Any, t: Tensor) -> Tensor:
        """Times [L] as f takes them."""
        moment = t.to(problem.layout.real).to(problem.layout.device)
        return moment if problem.layout.batched else moment[0]

    def saltation(self, problem: Any, t: Tensor, y: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """f- - f+ [M, N] of the jumps `index` [M] in the lanes [M] that are at t [L] with the states y [L * N].

        None where no lane is at a jump; lanes that are not `inside` [L] are not.
        """
        first, count = self.landing(t, inside)
        if not bool(count.any()):
            return None
        before, after = self.sides(problem, t, y, inside)
        direction, index, lanes, drops = problem.direction, [], [], []
        for lane in torch.nonzero(count).flatten().tolist():
            begin, many = int(first[lane]), int(count[lane])
            slopes = [before[lane], after[lane]]
            if many > 1 and self.tied:
                slopes[1:1] = self._between(problem, lane, t, y, begin, many)
            else:
                many = 1
            place = range(begin, begin + many) if direction > 0 else range(begin + many - 1, begin - 1, -1)
            index += list(place)
            lanes += [lane] * many
            drops += [a - b for a, b in pairwise(slopes)]
        return torch.tensor(index), torch.tensor(lanes), torch.stack(drops)

    def kick(self, problem: Any, t: Tensor, y: Tensor, moved: Tensor, inside: Tensor) -> Tensor | None:
        """Zeros [L, N] with the derivative that jumps at t [L] give the states y [L * N]; None without a jump."""
        found = self.saltation(problem, t, y, inside)
        if found is None:
            return None
        index, lanes, drops = found
        moves = moved.expand(-1, problem.layout.lanes)[index, lanes]
        share = (moves - moves.detach()).to(drops)[:, None] * drops
        return share.new_zeros(problem.layout.lanes, drops.shape[1]).index_add(0, lanes.to(drops.device), share)

    def cross(self, problem: Any, t: Tensor, y: Tensor, moved: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """y [L * N] behind all jumps at t [L], and the time there: steps of no length from each to the next.

        Their lengths have the graph of `moved` [J, L].
        """
        first, count = self.landing(t, inside)
        if not self.tied or not bool((count > 1).any()):
            return t, y
        rows, times = list(y.view(problem.layout.lanes, -1).unbind()), list(t.unbind())
        moved = moved.expand(-1, len(t))
        for lane in torch.nonzero(count > 1).flatten().tolist():
            begin, many = int(first[lane]), int(count[lane])
            order = list(range(begin, begin + many))[:: problem.direction]
            slopes = self._between(problem, lane, t.detach(), y, begin, many)
            for here, there, slope in zip(order[:-1], order[1:], slopes, strict=True):
                length = moved[there, lane] - moved[here, lane]
                length = length - length.detach()
                rows[lane] = rows[lane] + length.to(slope) * slope
                times[lane] = times[lane] + length
        return torch.stack(times), torch.stack(rows).reshape(-1)

    def _between(self, problem: Any, lane: int, t: Tensor, y: Tensor, begin: int, many: int) -> list[Tensor]:
        """f [N] in a lane with the first 1, .., many - 1 of its jumps passed."""
        reads = self.reads
        if reads is None:
            raise RuntimeError("jumps of one landing without reads that could be told apart")
        order = list(range(begin, begin + many))[:: problem.direction]
        column = lane if self.times.shape[1] > 1 else 0
        found = []
        for passed in range(1, many):
            up = {}
            own = 0.0
            for i, jump in enumerate(order):
                read = int(reads.read[jump, column])
                done = (i < passed) == (problem.direction > 0)  # whether its time lies behind, on the clock
                if read < 0:
                    own = 1.0 if done else -1.0
                else:
                    up[read] = (bool(reads.rising[jump, column]) == done, float(reads.switch[jump, column]))
            clear = 0.0 if self.clear is None else float(self.clear[begin, column])
            found.append(self._forced(problem, reads, lane, t + own * clear, y, up))
        return found

    def _forced(
        self, problem: Any, reads: SwitchReads, lane: int, t: Tensor, y: Tensor, sides: dict[int, tuple[bool, float]]
    ) -> Tensor:
        """f [N] in a lane, each of its reads on the side of a switch (upper or not, where) that is asked for."""
        layout, driver = problem.layout, reads.owner.driver
        low = torch.full((len(reads.unique),), -torch.inf, dtype=torch.float64)
        high = torch.full((len(reads.unique),), torch.inf, dtype=torch.float64)
        for i, unique in enumerate(reads.unique.tolist()):
            if unique in sides:
                upper, switch = sides[unique]
                bound = torch.tensor(switch, dtype=torch.float64)
                down = torch.tensor(-torch.inf, dtype=torch.float64)
                (low if upper else high)[i] = bound if upper else torch.nextafter(bound, down)
        seen = 0

        def reader(times: Tensor) -> Tensor:
            nonlocal seen
            lanes = 1 if reads.apart or not layout.batched else layout.lanes
            axis, flat = lane_axis(times, lanes), by_lane(times.detach().double(), lanes)
            part = slice(seen, seen + flat.shape[1])
            seen += flat.shape[1]
            shift = torch.minimum(torch.maximum(flat, low[part]), high[part]) - flat
            values: Tensor = driver(times + _laid_back(shift, times, axis).to(times))
            return values

        with reads.owner.reading(reader):
            if not reads.apart:
                k: Tensor = problem.field(self._moment(problem, t), y)
                return k.view(layout.lanes, -1)[lane]
            state = layout.unpack(y)
            one = (
                state[lane : lane + 1] if isinstance(state, Tensor) else tuple(part[lane : lane + 1] for part in state)
            )
            value = problem.f(self._moment(problem, t)[lane : lane + 1], one)
            parts = value if isinstance(value, tuple | list) else (value,)
            return torch.cat([part.reshape(-1) for part in parts])

    def tangents(self, y0: Any, lanes: int, width: int, params: list[Tensor]) -> Tensor:
        """Derivatives of the times [J, L, N + Q] by the lane's own initial state [N], and by `params`.

        y0 is the state as it was given, with the graph that the times have.
        """
        moved = self.moved
        if moved is None:
            raise RuntimeError("jumps that do not move have no derivatives")
        with torch.enable_grad():
            weight = torch.zeros(len(moved), lanes, dtype=torch.float64, requires_grad=True)
            started = isinstance(y0, Tensor) and y0.requires_grad
            wanted = [y0, *params] if started else params
            total = (moved.expand(-1, lanes) * weight).sum()
            found = torch.autograd.grad(total, wanted, create_graph=True, allow_unused=True)
            zero = [torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]
            state = zero.pop(0).reshape(lanes, width) if started else None
            columns = []
            for n in range(width):  # lanes are independent of each other: one product serves all of them
                column = None if state is None else state[:, n].sum()
                columns.append(self._column(column, weight))
            for part in zero:
                columns += [self._column(element, weight) for element in part.reshape(-1).unbind()]
        return torch.stack(columns, -1).detach()

    @staticmethod
    def _column(value: Tensor | None, weight: Tensor) -> Tensor:
        if value is None or not value.requires_grad:
            return torch.zeros_like(weight)
        found = torch.autograd.grad(value, weight, retain_graph=True, allow_unused=True)[0]
        return torch.zeros_like(weight) if found is None else found


_STILL: Cache[torch.Size, tuple[Tensor, Jumps]] = Cache(MOST_STILL)  # of no moving jumps, with what they were made of


def jump_cotangents(problem: Any) -> Tensor | None:
    """Room for the cotangents of the jumps that move; None where none do."""
    return None if problem.moved is None else torch.zeros(problem.moved.shape, dtype=torch.float64)


def add_saltation(problem: Any, grad: Tensor, g: Tensor, t: Tensor, y: Tensor, ybar: Tensor, inside: Tensor) -> None:
    """Add to `grad` [J, L or 1] what cotangents put on the jumps at the times t [L] with the states y [L * N] there.

    `ybar` [L * N] is the cotangent of the states from there on, g [T, L, N] that of the states that were asked for.
    """
    with torch.no_grad():
        found = problem.landings.saltation(problem, t, y.detach(), inside)
        if found is None:
            return
        index, lanes, drops = found
        there = asked_at(problem, t).to(g.device)[..., None]
        rows = ybar.view(problem.layout.lanes, -1) * half_at_start(problem, t).to(ybar)[:, None]
        rows = (rows + 0.5 * torch.where(there, g, 0.0).sum(0))[lanes.to(ybar.device)]
        share = (rows.conj() * drops).real.sum(-1).cpu().double()
        grad.index_put_((index, lanes if grad.shape[1] > 1 else torch.zeros_like(lanes)), share, accumulate=True)


def asked_at(problem: Any, t: Tensor) -> Tensor:
    """Mask of the requested times [T, L] that are these [L]; not the start, where the state is given."""
    found: Tensor = (problem.grid == t) & (t != problem.grid[0])
    return found


def half_at_start(problem: Any, t: Tensor) -> Tensor:
    """The part of a jump at these times [L] that counts afterwards: 1/2 at the start of the solve."""
    return torch.where(t == problem.grid[0], 0.5, 1.0)


def lane_axis(times: Tensor, lanes: int) -> int | None:
    """The axis of times read by f that counts its lanes, the first or the last one; None where none does."""
    if lanes == 1 or times.ndim == 0:
        return None
    return 0 if times.shape[0] == lanes else -1 if times.shape[-1] == lanes else None


def by_lane(times: Tensor, lanes: int) -> Tensor:
    """Times of any shape that f reads in so many lanes, as [L, n], or [1, n] where all lanes read the same."""
    axis = lane_axis(times, lanes)
    return times.reshape(1, -1) if axis is None else times.movedim(axis, 0).reshape(lanes, -1)


def _laid_back(flat: Tensor, times: Tensor, axis: int | None) -> Tensor:
    """The result of `by_lane` in the shape of the times."""
    if axis is None:
        return flat.reshape(times.shape)
    return flat.reshape(times.movedim(axis, 0).shape).movedim(0, axis)
