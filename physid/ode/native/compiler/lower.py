"""The recorded graph as numbers and loops, and what of it can be done before the march."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from physid.ode.native.compiler.all_rules import TABLE
from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.derive import inputs, reachable
from physid.ode.native.compiler.ir import PARAMS, SHIFT, STATE, Ids, Number, TooLarge
from physid.ode.native.compiler.trace import Graph, KnownTensor, Operation, Ref, Unsupported, _window
from physid.ode.torch_internals import tree_map

SMALL = 400  # operations that are written out without a second thought
LIMIT = 3_000  # operations of f that are written out at most: the compiler takes six seconds for them
LOOPS = 16  # the length from which pointwise work of a large graph loops
UNWRITTEN = -1  # the id of numbers that an operation gives and no rule does
NUMBERS = 60_000  # numbers in buffers that fit on a thread's stack


@dataclass
class Program:
    """f on ids: inputs t [1], y [N], p [RAW], c [C]; the result k [N]; and the hoisted numbers.

    `slots` gives for the head of everything that the march is given (a scalar's id, the first id of a buffer) its place
    in the prepared array; `prepared` are the ids in that array, in order.
    """

    b: Builder
    t: Ids
    y: Ids
    raw: Ids
    c: Ids
    k: Ids
    slots: dict[int, int] = field(default_factory=dict)
    prepared: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    inputs: tuple[int, ...] = ()

    @property
    def identity(self) -> bool:
        """Whether the prepared parameters are the captured numbers themselves."""
        return np.array_equal(self.prepared, self.raw)

    def slot(self, ids: Ids) -> Ids:
        """The places of prepared ids."""
        flat = [
            self.slots[(n >> SHIFT) << SHIFT or n] + (n & (1 << SHIFT) - 1 if n >> SHIFT else 0) for n in ids.tolist()
        ]
        return np.array(flat, np.int64)


def lower(graph: Graph) -> Program:
    """The program of a graph: straight-line code where it is small, loops where it is not.

    Unsupported names what cannot be expressed.
    """
    try:
        program = _lowered(graph, SMALL, None)
    except TooLarge:
        try:
            program = _lowered(graph, LIMIT, LOOPS)
        except TooLarge:
            raise Unsupported(f"a graph of more than {LIMIT} scalar operations") from None
    program.b.limit = 4 * LIMIT
    _hoist(program)
    if sum(buffer.size for buffer in program.b.buffers if buffer.producer >= 0) > NUMBERS:
        raise Unsupported(f"a graph with more than {NUMBERS} numbers in between")
    return program


def _lowered(graph: Graph, limit: int, wide: int | None) -> Program:
    b = Builder(limit + graph.raw if wide is None else limit, wide)
    t, y = b.input("t", 1, STATE), b.input("y", graph.width, STATE)
    count = sum(constant.numel() for constant in graph.constants) + len(graph.factors)
    raw, c = b.input("p", graph.raw, PARAMS), b.input("c", count, 0)
    for place, value in graph.baked:
        c[place] = b.literal(value)
    sources = {"t": t, "y": y, "p": raw, "c": c}
    memory = []
    for store in graph.stores:
        if store.kind == "made":
            cells = np.full(store.size, b.zero, np.int64)
        elif store.kind == "literal":
            cells = b.literals(store.values)
        else:
            index = np.array(store.index, np.int64)
            cells = np.where(index >= 0, sources[store.kind][index], b.zero) if len(index) else index
        memory.append(cells)
    b.exact = True
    for step in graph.steps:
        _apply(b, memory, step)
    b.exact = False
    k = _read(memory, graph.result).ravel().copy()
    return Program(b, t, y, raw, c, k, inputs=graph.inputs)


def _read(memory: list[Ids], ref: Ref) -> Ids:
    return _window(memory[ref.slot], ref.offset, ref.shape, ref.strides)


def _apply(b: Builder, memory: list[Ids], step: Operation) -> None:
    """One operation: read its arguments, apply its rule, write its results."""

    def argument(value: Any) -> Any:
        if isinstance(value, Ref):
            found = _read(memory, value)
            if bool((found == UNWRITTEN).any()):
                raise Unsupported("a result that no code is written for")
            return found.copy() if step.writes else found  # the operation may write to what it reads
        if isinstance(value, KnownTensor) and value.values.dtype.kind == "f":
            return b.literals(value.values)
        return value

    def leaf(value: Any) -> bool:
        return isinstance(value, Ref | KnownTensor)

    args, kwargs = tree_map(argument, (list(step.args), step.kwargs), is_leaf=leaf)
    kwargs.pop("out", None)
    found = TABLE[step.op](b, *args, **kwargs)
    results = found if isinstance(found, tuple) else (found,)
    for ref, ids in zip(step.out, results, strict=False):
        if ref is None:
            continue
        target = _read(memory, ref)
        if ids is None:
            target[...] = UNWRITTEN
            continue
        if step.still:  # autograd was off: a tensor that is written to keeps the derivative of what it held
            ids = b.map("still", np.broadcast_to(ids, target.shape))
            ids = b.map("carry", ids, target.copy(), 1.0) if step.writes else ids
        target[...] = np.broadcast_to(ids, target.shape) if ids.shape != target.shape else ids


def _hoist(program: Program) -> None:
    """Find what the march needs of the numbers that depend on neither state nor time, and give it places."""
    b, found = program.b, dict[int, int]()
    order = reachable(b, program.k, ())
    heads = [int(n) for n in b.heads(program.k)] if program.k.size else []
    for place in order:
        if b.deps[place] & STATE:
            heads.extend(inputs(b, place))
    raw_used = False
    for number in heads:
        buffer = number >> SHIFT
        if b.depends(number) & STATE or (buffer and b.buffers[buffer - 1].producer < 0 and not b.depends(number)):
            continue  # of the state, or a constant of the caller
        if buffer and b.buffers[buffer - 1].producer < 0:
            raw_used = True
        elif buffer:
            found[buffer << SHIFT] = b.buffers[buffer - 1].size
        elif not _literal(b, number):
            found[number] = 1
    parts = []
    if raw_used or not found:
        program.slots[int(program.raw[0]) if program.raw.size else -1] = 0
        parts.append(program.raw)
    total = sum(part.size for part in parts)
    for head in sorted(found, key=lambda n: (n >> SHIFT, n)):
        program.slots[head] = total
        total += found[head]
        parts.append(b.of_buffer((head >> SHIFT) - 1) if head >> SHIFT else np.array([head], np.int64))
    program.prepared = np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _literal(b: Builder, number: int) -> bool:
    node = b.nodes[number]
    return isinstance(node, Number) and node.op == "literal"


def size(shape: tuple[int, ...]) -> int:
    """The number of elements of a shape."""
    return math.prod(shape)
