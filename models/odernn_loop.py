"""The loop of the ODE-RNN over the times, and the same loop back, written out.

A time costs a few small matrix products, so that what torch adds to each of them would count: what is kept has its
place before the loop, the observed inputs pass their layers before it, all at once, and the gradients of the weights
are taken after it, in one product per layer over all times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physid.models.perceptron import tanh_layer, through_tanh

PARTS = 50  # an Euler step is at most about this part of the interval
LEAD = 0.01  # how long the zero state has evolved before the first observation it meets


def euler_steps(times: Sequence[float]) -> list[list[float]]:
    """The Euler steps that lead to each of the falling `times` from the one before it; the first from LEAD earlier.

    A gap shorter than 1/50 of the whole interval is one step; a longer one is cut into max(1, n - 1) with n the number
    of times that 1/50 goes into it, as in the source experiment.
    """
    shortest = (times[0] - times[-1]) / PARTS
    before, found = times[0] + LEAD, []
    for time in times:
        gap = before - time
        count = 1 if gap < shortest or shortest == 0 else max(1, int(gap / shortest) - 1)
        found.append([(time - before) / count] * count)
        before = time
    return found


@dataclass(frozen=True)
class EncoderPlan:
    """Plan of the loop, latest time first: Euler steps, then an update of those series that have an observation.

    `steps` [U] lists of step lengths, `rows` [U] the series observed at each time, `inputs` [N, 2C] their values and
    masks, in the same order.
    """

    steps: list[list[float]]
    rows: tuple[Tensor, ...]
    inputs: Tensor

    @staticmethod
    def of(times: Tensor, values: Tensor, observed: Tensor) -> EncoderPlan:
        """The plan for values and observed [B, T, C] at times [T]; times at which no series was observed are left out.

        Without any observation the state only evolves from the last time to the first.
        """
        seen = observed.sum(-1) > 0
        met = seen.any(0)
        if not bool(met.any()):
            met = torch.zeros_like(met)
            met[[0, -1]] = True
        places = torch.nonzero(met)[:, 0].flip(0)
        seen = seen[:, places].T
        counts = seen.sum(1).tolist()
        where, rows = torch.nonzero(seen, as_tuple=True)
        at = places[where]
        inputs = torch.cat((values[rows, at], observed[rows, at]), -1)
        return EncoderPlan(euler_steps(times.double()[places.to(times.device)].tolist()), rows.split(counts), inputs)


class Workspace:
    """Large blocks of memory that pass from one loop to the next, since fresh pages cost as much as filling them."""

    def __init__(self) -> None:
        self.free: list[Tensor] = []

    def take(self, size: int, like: Tensor) -> Tensor:
        """A block of at least so many numbers, which belongs to the caller until it is given back."""
        for place, block in enumerate(self.free):
            if len(block) >= size and block.dtype == like.dtype and block.device == like.device:
                return self.free.pop(place)
        return like.new_empty(size + size // 8)

    def give(self, block: Tensor) -> None:
        """Take a block back; a few are kept."""
        self.free = [block, *self.free[:3]]

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspace:
        """A copy of a model has blocks of its own."""
        return Workspace()

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        """Blocks are not written into files."""
        return Workspace, ()


def carve(block: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Tensors of these shapes, one behind the other in the block."""
    found, begin = [], 0
    for shape in shapes:
        size = math.prod(shape)
        found.append(block[begin : begin + size].view(shape))
        begin += size
    return found


class EncoderLoop:
    """One pass from the last time to the first, with what it keeps of each time for the pass back.

    `tensors` are weight and bias of every layer: those of the field, then two layers each of update, reset and fresh.
    The state q [B, 2R] is the mean beside the spread.
    """

    def __init__(
        self, plan: EncoderPlan, batch: int, tensors: Sequence[Tensor], keep: bool, workspace: Workspace | None = None
    ) -> None:
        self.plan, self.keep, self.workspace = plan, keep, workspace or Workspace()
        pairs = [(tensors[i].detach(), tensors[i + 1].detach()) for i in range(0, len(tensors), 2)]
        self.field, self.gates = pairs[:-6], Gates(pairs[-6:], plan.inputs)
        self.size = tensors[0].shape[1]
        like: dict[str, Any] = {"dtype": tensors[0].dtype, "device": tensors[0].device}
        count = sum(map(len, plan.steps)) if keep else 1
        total = len(plan.inputs) if keep else max(map(len, plan.rows))
        self.shapes = [(count, batch, weight.shape[1]) for weight, _ in self.field]
        self.block = self.workspace.take(sum(map(math.prod, self.shapes)), tensors[0].detach())
        self.layers = carve(self.block, self.shapes)
        self.kept = self.gates.room(total)
        self.q = torch.zeros(batch, 2 * self.size, **like)

    def run(self) -> Tensor:
        """The state [B, 2R] at the first time."""
        mean, step, begin = self.q[:, : self.size], 0, 0
        for lengths, rows in zip(self.plan.steps, self.plan.rows, strict=True):
            for length in lengths:
                mean.add_(self._field(mean, step if self.keep else 0), alpha=length)
                step += 1
            if len(rows):
                self._meet(rows, begin)
                begin += len(rows)
        state, self.q = self.q, self.q.new_empty(0)  # autograd's node would keep itself alive by its output
        return state

    def _field(self, mean: Tensor, slot: int) -> Tensor:
        """The field at the mean, its layers' inputs kept."""
        self.layers[0][slot] = mean
        for (weight, bias), before, after in zip(self.field[:-1], self.layers[:-1], self.layers[1:], strict=True):
            tanh_layer(bias, before[slot], weight, out=after[slot])
        weight, bias = self.field[-1]
        return torch.addmm(bias, self.layers[-1][slot], weight.T)

    def _meet(self, rows: Tensor, begin: int) -> None:
        """The update of the series `rows` by their observations."""
        kept = self._kept(begin if self.keep else 0, len(rows))
        torch.index_select(self.q, 0, rows, out=kept.before)
        self.q.index_copy_(0, rows, self.gates.apply(kept, slice(begin, begin + len(rows))))

    def _kept(self, begin: int, count: int) -> Kept:
        return Kept(*(tensor[begin : begin + count] for tensor in self.kept))

    def pull(self, cotangent: Tensor) -> list[Tensor]:
        """The cotangents of all tensors, for that of the state at the first time."""
        g = cotangent.clone()
        mean, step, end = g[:, : self.size], len(self.layers[0]), len(self.plan.inputs)
        block = self.workspace.take(sum(map(math.prod, self.shapes)), g)
        deltas = carve(block, [*self.shapes[1:], self.shapes[0]])
        back = self.gates.room(end)
        for lengths, rows in zip(reversed(self.plan.steps), reversed(self.plan.rows), strict=True):
            if len(rows):
                begin = end - len(rows)
                into = Kept(*(tensor[begin:end] for tensor in back))
                g.index_copy_(0, rows, self.gates.pull(self._kept(begin, len(rows)), into, g[rows]))
                end = begin
            for length in reversed(lengths):
                step -= 1
                self._pull_field(mean, length, [delta[step] for delta in deltas], step)
        found = []
        for layer, delta in zip(self.layers, deltas, strict=True):
            found += [delta.flatten(0, 1).T @ layer.flatten(0, 1), delta.sum((0, 1))]
        self.workspace.give(block)
        return found + self.gates.collect(self.kept, back)

    def release(self) -> None:
        """Give back what the pass kept, which then cannot be pulled back any more."""
        self.workspace.give(self.block)
        self.layers, self.block = [], self.q[:0]

    def _pull_field(self, mean: Tensor, length: float, deltas: list[Tensor], step: int) -> None:
        """Pull the mean's cotangent back through one Euler step; `deltas` are those of the layers' outputs."""
        torch.mul(mean, length, out=deltas[-1])
        for place in range(len(deltas) - 1, 0, -1):
            torch.mm(deltas[place], self.field[place][0], out=deltas[place - 1])
            through_tanh(deltas[place - 1], self.layers[place][step])
        mean.addmm_(deltas[0], self.field[0][0])


@dataclass(frozen=True)
class Kept:
    """Of n updates: state before, hidden layer and value of the gates, gated state, hidden layer and value of what is
    new; or the cotangents of these [n, ...]."""

    before: Tensor
    hidden: Tensor
    open: Tensor
    gated: Tensor
    unit: Tensor
    new: Tensor

    def __iter__(self) -> Any:
        """One tensor after the other."""
        return iter((self.before, self.hidden, self.open, self.gated, self.unit, self.new))


class Gates:
    """The gated update, its two gates as one network, so that it is four matrix products."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]], inputs: Tensor) -> None:
        update, reset, fresh = pairs[0:2], pairs[2:4], pairs[4:6]
        self.units, self.size = update[0][0].shape[0], update[1][0].shape[0]
        self.first = torch.cat((update[0][0], reset[0][0]))
        self.second = torch.block_diag(update[1][0], reset[1][0])
        self.second_bias = torch.cat((update[1][1], reset[1][1]))
        self.fresh, self.seen = fresh, inputs.to(self.first)
        both = 2 * self.size
        self.first_state, self.fresh_state = self.first[:, :both].contiguous(), fresh[0][0][:, :both].contiguous()
        self.first_seen = torch.addmm(torch.cat((update[0][1], reset[0][1])), self.seen, self.first[:, both:].T)
        self.fresh_seen = torch.addmm(fresh[0][1], self.seen, fresh[0][0][:, both:].T)

    def room(self, count: int) -> Kept:
        """Memory for that many updates."""
        both = 2 * self.size
        widths = both, 2 * self.units, both, both, self.units, both
        return Kept(*(self.first.new_empty(count, width) for width in widths))

    def apply(self, kept: Kept, rows: slice) -> Tensor:
        """The state after, [n, 2R]; `rows` says which of the inputs are met."""
        n, size = len(kept.before), self.size
        tanh_layer(self.first_seen[rows], kept.before, self.first_state, kept.hidden)
        torch.addmm(self.second_bias, kept.hidden, self.second.T, out=kept.open).sigmoid_()
        before = kept.before.view(n, 2, size)
        torch.mul(before, kept.open[:, None, size:], out=kept.gated.view(n, 2, size))
        tanh_layer(self.fresh_seen[rows], kept.gated, self.fresh_state, kept.unit)
        torch.addmm(self.fresh[1][1], kept.unit, self.fresh[1][0].T, out=kept.new)
        return torch.lerp(self._candidate(kept), before, kept.open[:, None, :size]).view(n, -1)

    def _candidate(self, kept: Kept) -> Tensor:
        """New mean and new spread, which is never negative [n, 2, R]."""
        candidate = kept.new.view(-1, 2, self.size).clone()
        candidate[:, 1].abs_()
        return candidate

    def pull(self, kept: Kept, back: Kept, cotangent: Tensor) -> Tensor:
        """The cotangent of the state before, for that of the state after [n, 2R]; `back` takes those in between."""
        n, size = len(cotangent), self.size
        g, before = cotangent.view(n, 2, size), kept.before.view(n, 2, size)
        u, r = kept.open[:, None, :size], kept.open[:, None, size:]
        back.open[:, :size] = (g * (before - self._candidate(kept))).sum(1)
        torch.mul(g, 1 - u, out=back.new.view(n, 2, size))
        back.new[:, size:] *= kept.new[:, size:].sign()
        torch.mm(back.new, self.fresh[1][0], out=back.unit)
        through_tanh(back.unit, kept.unit)
        gated = torch.mm(back.unit, self.fresh_state).view(n, 2, size)
        back.open[:, size:] = (gated * before).sum(1)
        torch.ops.aten.sigmoid_backward.grad_input(back.open, kept.open, grad_input=back.open)
        torch.mm(back.open, self.second, out=back.hidden)
        through_tanh(back.hidden, kept.hidden)
        total = (g * u).addcmul_(gated, r).view(n, -1)
        return total.addmm_(back.hidden, self.first_state)

    def collect(self, kept: Kept, back: Kept) -> list[Tensor]:
        """The cotangents of weights and biases, in the order in which they were given."""
        units, size = self.units, self.size
        first = back.hidden.T @ torch.cat((kept.before, self.seen), 1)
        first_bias, second_bias = back.hidden.sum(0), back.open.sum(0)
        found = []
        for u, s in ((slice(0, units), slice(0, size)), (slice(units, None), slice(size, None))):
            found += [first[u], first_bias[u], back.open[:, s].T @ kept.hidden[:, u], second_bias[s]]
        fresh = back.unit.T @ torch.cat((kept.gated, self.seen), 1)
        return [*found, fresh, back.unit.sum(0), back.new.T @ kept.unit, back.new.sum(0)]
