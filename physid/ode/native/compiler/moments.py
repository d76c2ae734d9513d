"""Input times of a recorded f: at t, or at a t + b without the state, proved from its graph.

The record holds f for every t, state and parameter. So what it says once holds for every later solve of the same f:
only b, and a where it is not 1, are computed again, by the few operations that lead to the times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from physid.ode.native.compiler.graph import Argument, Graph, Operation, Ref, Store
from physid.ode.reads import Foreseen

STILL, SHIFT, LINE, UNKNOWN = range(4)  # as a function of t: constant, t + b, a t + b, or not to be said
GIVEN = {"t": SHIFT, "p": STILL, "c": STILL, "literal": STILL}
LINEAR = ("add", "sub", "rsub", "neg", "mul", "div", "cat", "stack", "clone")


@dataclass(frozen=True)
class Moments:
    """What leads from t, captured numbers and constants to the times of all reads, in their order.

    `plain`: every read is at t itself. `shift`: every read is at t + b.
    """

    stores: tuple[Store, ...]
    steps: tuple[Operation, ...]
    reads: tuple[Ref, ...]
    plain: bool
    shift: bool

    @staticmethod
    def of(graph: Graph) -> Moments | None:
        """None where the record does not show that the times are a t + b, with a and b without the state."""
        stores, kinds, wanted = graph.stores, _kinds(graph), []
        reads = tuple(step.args[0] for step in graph.steps if step.op == "inputs")
        if any(not isinstance(ref, Ref) or kinds[ref.slot] == UNKNOWN for ref in reads):
            return None
        needed = {ref.slot for ref in reads}
        for step in reversed(graph.steps):
            if any(ref is not None and ref.slot in needed for ref in step.out):
                wanted.append(step)
                needed.update(ref.slot for ref in _refs((step.args, step.kwargs)))
        if any(kinds[slot] == UNKNOWN or not _foreseen(stores[slot]) for slot in needed):
            return None
        plain = all(stores[ref.slot].kind == "t" for ref in reads)
        shift = all(kinds[ref.slot] == SHIFT for ref in reads)
        return Moments(stores, tuple(reversed(wanted)), reads, plain, shift)

    def bound(self, captured: Sequence[Tensor], c: Tensor) -> Foreseen:
        """The reads with these captured tensors and constants c [C]."""
        return Foreseen(self.plain, partial(self._lines, captured, c))

    def _lines(self, captured: Sequence[Tensor], c: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """a and b [R, 1] of the times a t + b, with their graph, for constants c [C] and f's interval [2, L]."""
        if self.shift:
            b = self._at(torch.zeros((), dtype=torch.float64), captured, c)
            return torch.ones_like(b).detach(), b
        low, high = ends.min(), ends.max()
        width = high - low if bool(high > low) else torch.ones_like(low)
        first, last = (self._at(end, captured, c) for end in (low, low + width))
        a = (last - first) / width
        return a, first - a * low

    def _at(self, t: Tensor, captured: Sequence[Tensor], c: Tensor) -> Tensor:
        """The times [R, 1] of all reads at the time t []."""
        memory: dict[int, Tensor] = {}

        def value(argument: Argument) -> Any:
            if isinstance(argument, Ref):
                return _window(self._memory(memory, argument.slot, t, captured, c), argument)
            if isinstance(argument, list | tuple):
                return [value(one) for one in argument]
            return argument

        for step in self.steps:
            found = getattr(torch.ops.aten, step.op)(*map(value, step.args), **step.kwargs)
            (ref,) = step.out
            if ref is not None:
                memory[ref.slot] = found.reshape(-1)
        return torch.cat([value(ref).reshape(-1, 1) for ref in self.reads])

    def _memory(self, memory: dict[int, Tensor], slot: int, t: Tensor, captured: Sequence[Tensor], c: Tensor) -> Tensor:
        """The numbers of a store."""
        if slot not in memory:
            store = self.stores[slot]
            if store.kind == "t":
                found = t.reshape(1).expand(store.size)
            elif store.kind == "p":
                found = _piece(captured, store.index[0])
            elif store.kind == "c":
                found = c[store.index[0] : store.index[0] + store.size]
            else:
                found = torch.tensor(store.values, dtype=torch.float64)
            memory[slot] = found
        return memory[slot]


def _kinds(graph: Graph) -> dict[int, int]:
    """What each store is as a function of t, after all steps."""
    found = {slot: GIVEN.get(store.kind, UNKNOWN) for slot, store in enumerate(graph.stores) if store.kind != "made"}
    for step in graph.steps:
        kind = _kind(step, [found[ref.slot] for ref in _refs((step.args, step.kwargs))])
        made = [ref for ref in step.out if ref is not None]
        simple = len(step.out) == 1 and len(made) == 1 and not step.writes and _whole(made[0], graph.stores)
        for ref in made:
            found[ref.slot] = kind if simple and ref.slot not in found else UNKNOWN
    return found


def _kind(step: Operation, given: list[int]) -> int:
    """What the result of an operation on such arguments is."""
    if step.op == "inputs" or step.still or UNKNOWN in given or _masked((step.args, step.kwargs)):
        return UNKNOWN
    if all(kind == STILL for kind in given):
        return STILL if step.kwargs.keys() <= {"alpha", "dim"} else UNKNOWN
    if step.op not in LINEAR or step.kwargs.keys() - {"alpha"}:
        return UNKNOWN
    if step.op in ("cat", "stack", "clone"):
        return max(given) if STILL not in given else LINE
    if step.op == "neg":
        return LINE
    moving = [bool(refs) and any(kind != STILL for kind in refs) for refs in _by_argument(step, given)]
    if step.op == "mul":
        return LINE if sum(moving) == 1 else UNKNOWN
    if step.op == "div":
        return LINE if moving[:2] == [True, False] else UNKNOWN
    first = {"add": moving.count(True) == 1, "sub": moving[:2] == [True, False], "rsub": False}[step.op]
    kept = first and not step.kwargs and len(step.args) == 2
    return max(given) if kept else LINE


def _by_argument(step: Operation, given: list[int]) -> list[list[int]]:
    """The kinds of the references in each argument."""
    left, found = iter(given), []
    for argument in step.args:
        found.append([next(left) for _ in _refs(argument)])
    return found


def _refs(argument: Any) -> list[Ref]:
    if isinstance(argument, Ref):
        return [argument]
    if isinstance(argument, dict):
        argument = list(argument.values())
    return [ref for one in argument for ref in _refs(one)] if isinstance(argument, list | tuple) else []


def _masked(argument: Any) -> bool:
    """Whether there are arguments other than references and plain numbers: masks, indices, types."""
    if isinstance(argument, dict):
        argument = list(argument.values())
    if isinstance(argument, list | tuple):
        return any(map(_masked, argument))
    return not isinstance(argument, Ref | int | float)


def _foreseen(store: Store) -> bool:
    """Whether the memory of a store that was given is the elements of one tensor in their order."""
    first = store.index[0] if store.index else 0
    return store.kind not in ("p", "c") or store.index == tuple(range(first, first + store.size))


def _whole(ref: Ref, stores: Sequence[Store]) -> bool:
    """Whether a result fills its store in order, so that later windows of it mean the same."""
    return ref.offset == 0 and math.prod(ref.shape) == stores[ref.slot].size and _contiguous(ref)


def _contiguous(ref: Ref) -> bool:
    step = 1
    for size, stride in zip(reversed(ref.shape), reversed(ref.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _window(memory: Tensor, ref: Ref) -> Tensor:
    """What a reference sees of its store."""
    if ref.offset == 0 and memory.numel() == math.prod(ref.shape) and _contiguous(ref):
        return memory.view(ref.shape)
    return memory.as_strided(ref.shape, ref.strides, ref.offset)


def _piece(captured: Sequence[Tensor], first: int) -> Tensor:
    """The captured tensor whose numbers begin at `first` of them all, flat."""
    for tensor in captured:
        if first == 0:
            return tensor.reshape(-1).double()
        first -= tensor.numel()
    raise IndexError("a record of other tensors")
