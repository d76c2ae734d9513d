"""Derivatives of the intermediate form, written with its own operations: cotangents backwards, tangents forwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import SHIFT, Ids, Map, Number, Pack, View, affine, turns
from physid.ode.native.compiler.scalars import SCALARS, Apply, Rule

MANY = 64  # numbers of one buffer, whose cotangents are added side by side


def reachable(builder: Builder, outputs: Ids, leaves: Collection[int]) -> list[int]:
    """The places of the nodes that the outputs need, in order; the ids in `leaves` are given, not computed.

    A leaf is a scalar's id or the first id of a buffer.
    """
    stops, found = set(leaves), set()
    todo = builder.heads(outputs)
    while todo:
        number = todo.pop()
        buffer = number >> SHIFT
        head = buffer << SHIFT if buffer else number
        if head in stops:
            continue
        place = builder.buffers[buffer - 1].producer if buffer else number
        if place < 0 or place in found:
            continue
        found.add(place)
        todo.extend(inputs(builder, place))
    return sorted(found)


def inputs(builder: Builder, place: int) -> list[int]:
    """The ids that the node at `place` reads; of a buffer one element stands for all."""
    node = builder.nodes[place]
    if isinstance(node, Number):
        return list(node.args)
    if isinstance(node, Pack):
        return builder.heads(node.ids)
    views = node.operands if isinstance(node, Map) else (node.a, node.b)
    return [view.source for view in views]


class PerNumber:
    """What belongs to every number, zero where nothing does: an id for scalars, ids for the elements of buffers."""

    def __init__(self, builder: Builder, buffers: dict[int, Ids], scalars: dict[int, int]) -> None:
        self.b, self.buffers, self.scalars = builder, dict(buffers), dict(scalars)

    def of(self, ids: Ids) -> Ids:
        """What belongs to numbers."""
        heads = np.unique(ids >> SHIFT).tolist()
        if len(heads) == 1 and heads[0]:
            held = self.buffers.get(heads[0] - 1)
            return np.full(ids.shape, self.b.zero, np.int64) if held is None else held[ids & (1 << SHIFT) - 1]
        flat = [self.one(number) for number in ids.ravel().tolist()]
        return np.array(flat, np.int64).reshape(ids.shape)

    def one(self, number: int) -> int:
        """What belongs to one number."""
        buffer = number >> SHIFT
        if not buffer:
            return self.scalars.get(number, self.b.zero)
        held = self.buffers.get(buffer - 1)
        return self.b.zero if held is None else int(held[number & (1 << SHIFT) - 1])


class Cotangents(PerNumber):
    """Reverse mode: what has been collected for every number."""

    def __init__(self, builder: Builder, wanted: Callable[[int], bool]) -> None:
        super().__init__(builder, {}, {})
        self.wanted = wanted

    def add(self, ids: Ids, share: Ids) -> None:
        """Add a share to the cotangents of `ids`, which may name a number more than once."""
        ids, share = np.broadcast_arrays(ids, share)
        if bool((share == self.b.zero).all()):
            return
        view = affine(ids) if ids.size > 1 else None
        if view is not None:
            repeated = [axis for axis, step in enumerate(view.strides) if step == 0 and ids.shape[axis] > 1]
            if repeated:
                share = self.b.sum(share, repeated)
                ids = ids[tuple(0 if axis in repeated else slice(None) for axis in range(ids.ndim))]
        flat, shares = ids.ravel(), share.ravel()
        if view is not None and len(flat) and flat[0] >> SHIFT and len(np.unique(flat)) == len(flat):
            self._add_block(flat, shares)
            return
        if len(flat) >= MANY and flat[0] >> SHIFT and bool((flat >> SHIFT == flat[0] >> SHIFT).all()):
            if self.wanted(int(flat[0])):
                for chosen in turns(flat):
                    self._add_block(flat[chosen], shares[chosen])
            return
        for number, one in zip(flat.tolist(), shares.tolist(), strict=True):
            self.add_one(number, one)

    def _held(self, buffer: int) -> Ids:
        if buffer not in self.buffers:
            self.buffers[buffer] = np.full(self.b.buffers[buffer].size, self.b.zero, np.int64)
        return self.buffers[buffer]

    def _add_block(self, flat: Ids, shares: Ids) -> None:
        held, at = self._held(int(flat[0] >> SHIFT) - 1), flat & (1 << SHIFT) - 1
        before = held[at]
        held[at] = shares if bool((before == self.b.zero).all()) else self.b.map("add", before, shares)

    def add_one(self, number: int, share: int) -> None:
        """Add a share to the cotangent of one number."""
        if share == self.b.zero or not self.wanted(number):
            return
        if not number >> SHIFT:
            self.scalars[number] = self.b.number("add", self.scalars.get(number, self.b.zero), share)
            return
        held, at = self._held((number >> SHIFT) - 1), number & (1 << SHIFT) - 1
        held[at] = self.b.number("add", int(held[at]), share)


def reverse(builder: Builder, outputs: Ids, seeds: Ids, leaves: Collection[int], wanted: int) -> Cotangents:
    """The cotangents of everything that `outputs` depend on, for cotangents `seeds` of the outputs.

    Only numbers that depend on one of the bits `wanted` get any; those in `leaves` collect and pass nothing on.
    """
    order = reachable(builder, outputs, leaves)
    collected = Cotangents(builder, lambda number: bool(builder.depends(number) & wanted))
    collected.add(outputs, seeds)
    for place in reversed(order):
        if builder.deps[place] & wanted:
            _pull(builder, collected, place, wanted)
    return collected


def _pull(b: Builder, collected: Cotangents, place: int, wanted: int) -> None:
    """Pass the cotangent of one node on to what it reads."""
    node = b.nodes[place]
    if isinstance(node, Number):
        one = collected.scalars.get(place, b.zero)
        if one != b.zero:
            for number, rule in zip(node.args, SCALARS[node.op].rules, strict=True):
                if rule is not None and b.depends(number) & wanted:
                    collected.add_one(number, _id(b, rule(b.number, place, node.args, one)))
        return
    held = collected.buffers.get(node.buffer)
    if held is None:
        return
    if isinstance(node, Pack):
        collected.add(node.ids, held)
    elif isinstance(node, Map):
        args = tuple(view.ids(node.shape) for view in node.operands)
        out, g = b.of_buffer(node.buffer).reshape(node.shape), held.reshape(node.shape)
        for ids, rule in zip(args, SCALARS[node.op].rules, strict=True):
            if rule is not None and b.depends(int(ids.flat[0])) & wanted:
                collected.add(ids, _array(b, rule(b.map, out, args, g), node.shape))
    else:
        rows, columns, inner = node.shape
        left, right, g = node.a.ids((rows, inner)), node.b.ids((inner, columns)), held.reshape(rows, columns)
        if b.depends(node.a.source) & wanted:
            collected.add(left, _laid_out(b, node.a, g, right.T))
        if b.depends(node.b.source) & wanted:
            collected.add(right, _laid_out(b, node.b, left.T, g))


def _laid_out(b: Builder, view: View, x: Ids, y: Ids) -> Ids:
    """x y, computed so that it lies in memory as the matrix lies whose cotangent it is."""
    rows, columns = view.strides
    return b.dot(y.T, x.T).T if 0 < rows < columns else b.dot(x, y)


def _id(b: Builder, value: Any) -> int:
    return b.literal(value) if isinstance(value, float) else int(value)


def _array(b: Builder, value: Any, shape: tuple[int, ...]) -> Ids:
    return np.broadcast_to(np.asarray(_id(b, value) if np.ndim(value) == 0 else value, np.int64), shape)


@dataclass(frozen=True)
class Share:
    """Stands for a cotangent of which only is asked whether it is left out: the id of a truth, or ids of some."""

    left: Any


def _follow(apply: Apply, one: int) -> Apply:
    """What rules are written with, for shares: a choice leaves out what it does not take, all else scales."""

    def follow(op: str, *args: Any) -> Any:
        shares = [arg for arg in args if isinstance(arg, Share)]
        if op != "select" or not shares:
            return shares[0] if shares else apply(op, *args)
        return Share(apply(op, args[0], *(arg.left if isinstance(arg, Share) else one for arg in args[1:])))

    return follow


def _chooses(rules: Sequence[Rule | None]) -> bool:
    """Whether an operation leaves out an argument at some values."""
    follow, names = _follow(lambda op, *args: op, 1), ("",) * len(rules)
    return any(rule is not None and rule(follow, "", names, Share("")).left == "select" for rule in rules)


CHOOSES = frozenset(op for op, scalar in SCALARS.items() if _chooses(scalar.rules))


class TangentCode(PerNumber):
    """Forward mode: the tangent of every number, given those of the inputs (buffer -> ids).

    As a cotangent that is masked stays zero whatever slope is before it, the tangent of what is left out stays zero
    whatever slope comes after it: sqrt(clamp(x, min=0)) does not move below the bound, though its slope is infinite.
    """

    def __init__(self, builder: Builder, given: dict[int, Ids], scalars: dict[int, int]) -> None:
        super().__init__(builder, given, scalars)
        self.left = PerNumber(builder, {}, {})  # whether all that moves a number is left out

    def push(self, place: int) -> None:
        """Compute the tangent of the node at `place`."""
        b, node = self.b, self.b.nodes[place]
        if isinstance(node, Number):
            moved, left = self._moved(b.number, node.op, place, node.args)
            self.scalars[place], self.left.scalars[place] = int(moved), int(left)
        elif isinstance(node, Pack):
            self.buffers[node.buffer], self.left.buffers[node.buffer] = self.of(node.ids), self._left(node.ids)
        elif isinstance(node, Map):
            args = tuple(view.ids(node.shape) for view in node.operands)
            found = self._moved(b.map, node.op, b.of_buffer(node.buffer).reshape(node.shape), args)
            moved, left = (np.broadcast_to(part, node.shape).ravel() for part in found)
            self.buffers[node.buffer], self.left.buffers[node.buffer] = moved, left
        else:
            rows, columns, inner = node.shape
            left, right = node.a.ids((rows, inner)), node.b.ids((inner, columns))
            share = b.dot(self.of(left), right)
            self.buffers[node.buffer] = b.map("add", share, b.dot(left, self.of(right))).ravel()

    def _left(self, ids: Ids | int) -> Any:
        """Whether all that moves numbers is left out; nothing moves what has no tangent."""
        if isinstance(ids, int):
            return self.b.one if self.one(ids) == self.b.zero else self.left.one(ids)
        return np.where(self.of(ids) == self.b.zero, self.b.one, self.left.of(ids))

    def _moved(self, apply: Apply, op: str, out: Any, args: tuple[Any, ...]) -> tuple[Any, Any]:
        """The tangent of op(args), which is `out`, and whether all that moves it is left out."""
        b, total, left = self.b, self.b.zero, self.b.one
        for arg, rule in zip(args, SCALARS[op].rules, strict=True):
            d = self.one(arg) if isinstance(arg, int) else self.of(arg)
            if rule is None or bool(np.all(d == b.zero)):
                continue
            slope, here = rule(apply, out, args, b.one), self._left(arg)
            if bool(np.any(here != b.zero)) and not self._known(slope):
                slope = apply("select", here, 0.0, slope)
            total = apply("add", total, apply("mul", slope, d))
            if op in CHOOSES:
                here = rule(_follow(apply, b.one), out, args, Share(here)).left
            left = self._both(apply, left, here)
        return total, left

    def _known(self, slope: Any) -> bool:
        """Whether a slope is written into the code; those are finite."""
        return isinstance(slope, float) or all(self.b.value(n) is not None for n in np.unique(slope).tolist())

    def _both(self, apply: Apply, one: Any, other: Any) -> Any:
        """Whether both hold, written out only where that is not known."""
        for here, there in ((one, other), (other, one)):
            if bool(np.all(here == self.b.one)):
                return there
            if bool(np.all(here == self.b.zero)):
                return here
        return apply("and", one, other)
