"""Writes the intermediate form: straight-line code where work is short, loops where it is long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physid.ode.native.compiler.ir import SHIFT, Buffer, Dot, Ids, Map, Node, Number, Pack, TooLarge, View, affine
from physid.ode.native.compiler.scalars import SCALARS
from physid.ode.native.compiler.simplify import SIMPLER

SHIFT_ONE = 1 << SHIFT  # ids of scalars are below
WIDE = 16  # shorter loops are written out
DENSE = 64  # so many products, and the matrix product becomes a loop
# Operations whose result is finite where their arguments are.
BOUNDED = frozenset(("neg", "abs", "sign", "sin", "cos", "tanh", "sigmoid", "erf", "atan", "atan2", "asinh", "still"))
BOUNDED |= {"floor", "ceil", "trunc", "round", "max", "min", "fmax", "fmin", "select", "carry", "input"}
BOUNDED |= {"lt", "le", "eq", "ne", "and", "or", "not"}


class Builder:
    """Writes nodes; `limit` bounds their number, `wide` is the length from which every pointwise operation loops."""

    def __init__(self, limit: int, wide: int | None = None) -> None:
        self.nodes: list[Node] = []
        self.deps: list[int] = []
        self.buffers: list[Buffer] = []
        self.limit, self.wide = limit, wide
        self.exact = False  # f itself is written: not-a-number stays
        self.assumed = False  # the captured numbers and constants were taken to be finite
        self._finite: dict[int, bool] = {}
        self._known: dict[tuple[Any, ...], int] = {}
        self.zero, self.one = self.literal(0.0), self.literal(1.0)

    # --- inputs and literals

    def input(self, name: str, size: int, deps: int) -> Ids:
        """The ids of an input array of C."""
        self.buffers.append(Buffer(size, deps, name=name))
        return self.of_buffer(len(self.buffers) - 1)

    def of_buffer(self, buffer: int) -> Ids:
        """The ids of all elements of a buffer."""
        return ((buffer + 1) << SHIFT) + np.arange(self.buffers[buffer].size, dtype=np.int64)

    def literal(self, value: float) -> int:
        """The id of a number that is written into the code."""
        value = float(value)
        key = ("literal", math.copysign(1.0, value), value if value == value else "nan")
        if key not in self._known:
            self._known[key] = self._append(Number("literal", (), value), 0)
        return self._known[key]

    def literals(self, values: Any) -> Ids:
        """The ids of an array of literals."""
        values = np.asarray(values, dtype=np.float64)
        return np.array([self.literal(v) for v in values.ravel().tolist()], np.int64).reshape(values.shape)

    def value(self, number: int) -> float | None:
        """The value of a literal; None of anything else."""
        if number >> SHIFT:
            return None
        node = self.nodes[number]
        return node.value if isinstance(node, Number) and node.op == "literal" else None

    def depends(self, number: int) -> int:
        """What a number depends on, as bits."""
        buffer = number >> SHIFT
        return self.buffers[buffer - 1].deps if buffer else self.deps[number]

    def depend(self, ids: Ids) -> int:
        """What any of these numbers depends on."""
        found = 0
        for number in np.unique(ids).tolist() if ids.size < 64 else self.heads(ids):
            found |= self.depends(number)
        return found

    def heads(self, ids: Ids) -> list[int]:
        """The scalars among the ids and one element of every buffer."""
        flat = np.unique(np.where(ids >> SHIFT, ids >> SHIFT << SHIFT, ids))
        found: list[int] = flat.tolist()
        return found

    def _append(self, node: Node, deps: int) -> int:
        if len(self.nodes) >= self.limit:
            raise TooLarge
        self.nodes.append(node)
        self.deps.append(deps)
        return len(self.nodes) - 1

    # --- what is finite

    def drops(self, number: int) -> bool:
        """Whether zero times a number is nothing."""
        return not self.exact or self.finite(number)

    def finite(self, number: int) -> bool:
        """Whether a number is known to be finite, as states of a march, captured numbers and constants are."""
        buffer = number >> SHIFT
        key = buffer << SHIFT if buffer else number
        if key not in self._finite:
            self._finite[key] = self._bounded(key)
        found = self._finite[key]
        if found and buffer and self.buffers[buffer - 1].name in ("p", "c"):
            self.assumed = True
        return found

    def _bounded(self, key: int) -> bool:
        buffer = key >> SHIFT
        if buffer and self.buffers[buffer - 1].producer < 0:
            return True
        node = self.nodes[self.buffers[buffer - 1].producer if buffer else key]
        if isinstance(node, Number):
            if node.op == "literal":
                return math.isfinite(node.value)
            return node.op in BOUNDED and all(map(self.finite, node.args))
        if isinstance(node, Pack):
            return all(map(self.finite, self.heads(node.ids)))
        return isinstance(node, Map) and node.op in BOUNDED and all(self.finite(view.source) for view in node.operands)

    def _all_finite(self, ids: Ids) -> bool:
        return not self.exact or all(map(self.finite, self.heads(ids)))

    # --- scalars

    def number(self, op: str, *args: int | float) -> int:
        """The id of op(args); floats among the arguments are literals."""
        ids = tuple(self.literal(a) if isinstance(a, float) else int(a) for a in args)
        simple = self._simplified(op, ids)
        if simple is not None:
            return simple
        if op in ("add", "mul") and ids[0] > ids[1]:
            ids = (ids[1], ids[0])
        key = (op, *ids)
        if key not in self._known:
            deps = 0
            for number in ids:
                deps |= self.depends(number)
            self._known[key] = self._append(Number(op, ids), deps)
        return self._known[key]

    def op_of(self, number: int) -> tuple[str, tuple[int, ...]]:
        """The operation and the arguments of a scalar; "" for what lies in a buffer."""
        if number >> SHIFT:
            return "", ()
        node = self.nodes[number]
        return (node.op, node.args) if isinstance(node, Number) else ("", ())

    def _simplified(self, op: str, ids: tuple[int, ...]) -> int | None:
        values = [self.value(number) for number in ids]
        if all(value is not None for value in values):
            try:
                return self.literal(SCALARS[op].value(*values))
            except (ArithmeticError, ValueError):
                return None
        rule = SIMPLER.get(op)
        return None if rule is None else rule(self, ids, values)

    # --- arrays

    def map(self, op: str, *args: Any) -> Ids:
        """op of arrays of ids (numbers and floats too), broadcast: written out or as a loop."""
        arrays = [np.asarray(self.literal(a) if isinstance(a, float) else a, np.int64) for a in args]
        arrays = list(np.broadcast_arrays(*arrays)) if len(arrays) > 1 else arrays
        size = arrays[0].size
        if size >= WIDE and self._loops(arrays):
            return self._mapped(op, arrays)
        rows = zip(*(array.ravel().tolist() for array in arrays), strict=True)
        made = np.fromiter((self.number(op, *row) for row in rows), np.int64, size)
        return made.reshape(arrays[0].shape)

    def _loops(self, arrays: list[Ids]) -> bool:
        """Whether pointwise work on these is a loop: it is long, or what it reads is in a buffer already."""
        size = arrays[0].size
        if any(self._known_mostly(array) for array in arrays):
            return False  # zeros and ones, of which little is left
        if self.wide is not None and size >= self.wide:
            return any(bool((array >> SHIFT).any()) or len(np.unique(array)) > 1 for array in arrays)
        heads = {int(array.flat[0]) >> SHIFT for array in arrays if array.size}
        return any(b and self.buffers[b - 1].producer >= 0 for b in heads) and any(
            (view := affine(array)) is not None and any(view.strides) and self._made(view.source) for array in arrays
        )

    def _known_mostly(self, array: Ids) -> bool:
        """Whether most numbers of an array are literals, and not all the same."""
        flat = array.ravel()
        small = flat[flat < SHIFT_ONE]
        if 2 * len(small) <= len(flat) or bool((flat == flat[0]).all()):
            return False
        return 2 * sum(self.value(number) is not None for number in small.tolist()) > len(flat)

    def _made(self, number: int) -> bool:
        buffer = number >> SHIFT
        return bool(buffer) and self.buffers[buffer - 1].producer >= 0

    def _mapped(self, op: str, arrays: list[Ids]) -> Ids:
        shape = arrays[0].shape
        short = self._trivial(op, arrays)
        if short is not None:
            return short
        views = tuple(self.view(array) for array in arrays)
        deps = 0
        for array in arrays:
            deps |= self.depend(array)
        key = (op, views, shape)
        if key not in self._known:
            buffer = self._buffer(math.prod(shape), deps)
            self._append(Map(buffer, op, views, shape), deps)
            self._known[key] = buffer
        return self.of_buffer(self._known[key]).reshape(shape)

    def _trivial(self, op: str, arrays: list[Ids]) -> Ids | None:
        """Arithmetic with an array of zeros or ones needs no loop."""
        firsts = [int(array.flat[0]) for array in arrays]
        same = [first if bool((array == first).all()) else -1 for first, array in zip(firsts, arrays, strict=True)]
        if op in ("add", "sub") and same[1] == self.zero:
            return arrays[0]
        if op == "add" and same[0] == self.zero:
            return arrays[1]
        if op == "mul" and self.zero in same and self._all_finite(arrays[1 - same.index(self.zero)]):
            return np.full(arrays[0].shape, self.zero, np.int64)
        if op == "mul" and self.one in same:
            return arrays[1 - same.index(self.one)]
        return None

    def _buffer(self, size: int, deps: int) -> int:
        self.buffers.append(Buffer(size, deps, producer=len(self.nodes)))
        return len(self.buffers) - 1

    def view(self, ids: Ids) -> View:
        """The ids as a view; what lies scattered is packed side by side first."""
        found = affine(ids)
        if found is not None:
            return found
        key = ("pack", ids.tobytes())
        if key not in self._known:
            deps = self.depend(ids)
            self._known[key] = self._buffer(ids.size, deps)
            self._append(Pack(self._known[key], ids.ravel().copy()), deps)
        found = affine(self.of_buffer(self._known[key]).reshape(ids.shape))
        if found is None:
            raise AssertionError("a buffer is affine")
        return found

    def dot(self, a: Ids, b: Ids) -> Ids:
        """The matrix product [I, K] [K, J]: written out where it is small or sparse, a loop otherwise."""
        (rows, inner), columns = a.shape, b.shape[1]
        if rows * columns * inner == 0:
            return np.full((rows, columns), self.zero, np.int64)
        products = self._products(a, b)
        if products == 0:
            return np.full((rows, columns), self.zero, np.int64)
        if products >= DENSE and 2 * products > rows * columns * inner and not self._ones(a) and not self._ones(b):
            return self._product(a, b)
        if self.wide is not None and products >= self.wide * DENSE:
            return self._product(a, b)
        made = [self._inner(a[i].tolist(), b[:, j].tolist()) for i in range(rows) for j in range(columns)]
        return np.array(made, np.int64).reshape(rows, columns)

    def _products(self, a: Ids, b: Ids) -> int:
        """The number of products that have to be done, those with a zero left out where the other is finite."""
        no_a, no_b = (a == self.zero).astype(np.int64), (b == self.zero).astype(np.int64)
        if not self.exact or not (no_a.any() or no_b.any()):
            return int(((1 - no_a) @ (1 - no_b)).sum())
        ok_a, ok_b = (self._are_finite(ids).astype(np.int64) for ids in (a, b))
        left_out = no_a @ ok_b + ok_a @ no_b - (no_a * ok_a) @ (no_b * ok_b)
        return int(a.size * b.shape[1] - left_out.sum())

    def _are_finite(self, ids: Ids) -> NDArray[np.bool_]:
        known = {number: self.finite(number) for number in np.unique(ids).tolist()}
        return np.array([known[number] for number in ids.ravel().tolist()], bool).reshape(ids.shape)

    def _ones(self, a: Ids) -> bool:
        """Whether all is 1, 0 or -1, so that products cost nothing."""
        return all(self.value(number) in (0.0, 1.0, -1.0) for number in np.unique(a)[:4].tolist())

    def _inner(self, a: list[int], b: list[int]) -> int:
        total = self.zero
        for x, y in zip(a, b, strict=True):
            total = self.number("add", total, self.number("mul", x, y))
        return total

    def _product(self, a: Ids, b: Ids) -> Ids:
        (rows, inner), columns = a.shape, b.shape[1]
        if rows == 1 and columns > 1:  # a row times a matrix is a matrix times a column
            return self._product(b.T, a.T).T
        left, right = self.view(a), self.view(b)
        deps = self.depend(a) | self.depend(b)
        key = ("dot", left, right, rows, columns, inner)
        if key not in self._known:
            buffer = self._buffer(rows * columns, deps)
            self._append(Dot(buffer, left, right, (rows, columns, inner)), deps)
            self._known[key] = buffer
        return self.of_buffer(self._known[key]).reshape(rows, columns)

    def sum(self, ids: Ids, axes: Sequence[int]) -> Ids:
        """The sum over some axes, which are dropped."""
        axes = sorted(axis % ids.ndim for axis in axes) if ids.ndim else []
        kept = [axis for axis in range(ids.ndim) if axis not in axes]
        rows = ids.transpose([*kept, *axes]).reshape(math.prod(ids.shape[k] for k in kept), -1)
        return self._row_sums(rows).reshape([ids.shape[k] for k in kept])

    def _row_sums(self, rows: Ids) -> Ids:
        count, length = rows.shape
        if length == 1:
            return rows[:, 0].copy()
        if length and rows.size >= WIDE and self._loops([rows]):
            return self._product(rows, np.full((length, 1), self.one, np.int64))[:, 0]
        return np.array([self.total(row) for row in rows.tolist()], np.int64).reshape(count)

    def total(self, row: Sequence[int]) -> int:
        """The sum of a few numbers."""
        found = self.zero
        for number in row:
            found = self.number("add", found, number)
        return found
