"""The program as C: straight-line statements, short loops, and the functions that the runtime calls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.derive import reachable
from physid.ode.native.compiler.ir import COLUMNS, RUN, SHIFT, Dot, Ids, Map, Node, Number, Pack, View, scattered
from physid.ode.native.compiler.prelude import ARITHMETIC, LANES
from physid.ode.native.compiler.scalars import SCALARS

MASK = (1 << SHIFT) - 1
ROWS = 4  # rows of a matrix that are multiplied at a time


@dataclass(frozen=True)
class Output:
    """Numbers that go to the array `target`, added to it or stored."""

    target: str
    ids: Ids
    add: bool = False


class Emitter:
    """Writes the statements that compute some outputs.

    `names` are the C names of input buffers; `leaves` are the places of given numbers in the array `given`. `abreast`:
    every number is a vector, one of each sample that is solved beside others.
    """

    def __init__(
        self,
        builder: Builder,
        names: Mapping[int, str],
        leaves: Mapping[int, int],
        suffix: str,
        given: str = "p",
        abreast: bool = False,
    ) -> None:
        self.b, self.names, self.leaves, self.suffix, self.given = builder, dict(names), leaves, suffix, given
        self.abreast = abreast
        self.direct: dict[int, tuple[str, bool]] = {}

    # --- expressions

    def literal(self, value: float) -> str:
        """A number in C."""
        if math.isnan(value):
            return "(REAL)NAN"
        if math.isinf(value):
            return "(REAL)INFINITY" if value > 0 else "-(REAL)INFINITY"
        text = repr(float(np.float32(value)) if self.suffix else value) + self.suffix
        return f"({text})" if value < 0 else text

    def element(self, number: int) -> str:
        """The C expression of one number."""
        buffer = number >> SHIFT
        if buffer:
            return self.indexed(buffer - 1, str(self._shift(buffer - 1) + (number & MASK)))
        if number in self.leaves:
            return f"{self.given}[{self.leaves[number]}]"
        value = self.b.value(number)
        if value is None:
            return f"v{number}"
        return f"SPLAT({self.literal(value)})" if self.abreast else self.literal(value)

    def _shift(self, buffer: int) -> int:
        """The place of a buffer's first element in its array."""
        return self.leaves.get((buffer + 1) << SHIFT, 0)

    def name(self, buffer: int) -> str:
        """The C array that holds a buffer."""
        if (buffer + 1) << SHIFT in self.leaves:
            return self.given
        return self.names.get(buffer, f"b{buffer}")

    def indexed(self, buffer: int, index: str) -> str:
        """One element of a buffer."""
        name = self.name(buffer)
        return name if name == "t" else f"{name}[{index}]"

    def at(self, view: View, indices: Sequence[str]) -> str:
        """The element of a view at loop indices."""
        buffer = view.source >> SHIFT
        if not buffer:
            return self.element(view.source)
        start = self._shift(buffer - 1) + (view.source & MASK)
        terms = [f"{s} * {i}" if s != 1 else i for s, i in zip(view.strides, indices, strict=True) if s]
        if start or not terms:
            terms.append(str(start))
        return self.indexed(buffer - 1, " + ".join(terms))

    def kind(self, deps: int) -> str:
        """REAL, or VREAL for what differs from column to column, or from sample to sample."""
        return "VREAL" if self.abreast or deps & COLUMNS else "REAL"

    def expression(self, op: str, args: Sequence[str], kinds: Sequence[str]) -> str:
        """op of C expressions, by functions that the compiler can put into lanes where there are any."""
        if self.abreast and op not in ARITHMETIC:
            return f"abreast_{op}({', '.join(args)})"
        if op in LANES:
            return LANES[op].format(*args)
        if op == "select" and kinds[1] != kinds[2]:
            args = [args[0], *(a if k == "VREAL" else f"SPLAT({a})" for a, k in zip(args[1:], kinds[1:], strict=True))]
        return SCALARS[op].c.format(*args, s=self.suffix)

    # --- statements

    def body(self, outputs: Sequence[Output], order: Sequence[int], skip: Collection[int] = ()) -> Iterator[str]:
        """The statements for the nodes in `order`, then the stores of the outputs."""
        todo = [place for place in order if place not in skip]
        used = self._uses(order, outputs)
        at = 0
        while at < len(todo):
            node = self.b.nodes[todo[at]]
            if isinstance(node, Map) and self._flat(node):
                group = self._group(todo, at)
                yield from self._fused([self._map(place) for place in group], used)
                at += len(group)
                continue
            yield from self._statement(todo[at], node)
            at += 1

    def _map(self, place: int) -> Map:
        node = self.b.nodes[place]
        if not isinstance(node, Map):
            raise AssertionError("a map was expected")
        return node

    def _statement(self, place: int, node: Node) -> Iterator[str]:
        kind = self.kind(self.b.deps[place])
        if isinstance(node, Number):
            if node.op != "literal" and place not in self.leaves:
                args = [self.element(n) for n in node.args]
                kinds = [self.kind(self.b.depends(n)) for n in node.args]
                yield f"const {kind} v{place} = {self.expression(node.op, args, kinds)};"
            return
        if node.buffer not in self.direct:
            yield f"{kind} b{node.buffer}[{self.b.buffers[node.buffer].size}];"
        if isinstance(node, Pack):
            yield from self.copy(f"b{node.buffer}", node.ids, "=", kind)
        elif isinstance(node, Map):
            yield from self._looped(node)
        else:
            yield from self._dot(node, kind)

    def copy(self, target: str, ids: Ids, sign: str, kind: str = "REAL") -> Iterator[str]:
        """Numbers into target[0], target[1], ... of that kind; neighbours in a loop."""
        flat = ids.tolist()

        def fitting(number: int, text: str) -> str:
            """The same in every column, where the target differs from column to column."""
            return text if self.kind(self.b.depends(number)) == kind or kind == "REAL" else f"SPLAT({text})"

        if scattered(ids):
            places = ", ".join(str(number & MASK) for number in flat)
            source = fitting(flat[0], self.at(View(flat[0] >> SHIFT << SHIFT, (1,)), ["at[i]"]))
            yield (
                f"{{ static const int at[{len(flat)}] = {{{places}}}; "
                f"for (int i = 0; i < {len(flat)}; ++i) {target}[i] {sign} {source}; }}"
            )
            return
        at = 0
        while at < len(flat):
            end = at + 1
            while end < len(flat) and flat[end] == flat[end - 1] + 1 and flat[at] >> SHIFT:
                end += 1
            if end - at >= RUN:
                source = fitting(flat[at], self.at(View(flat[at], (1,)), ["i"]))
                yield f"for (int i = 0; i < {end - at}; ++i) {target}[{at} + i] {sign} {source};"
            else:
                for place in range(at, end):
                    if sign == "=" or flat[place] != self.b.zero:
                        yield f"{target}[{place}] {sign} {fitting(flat[place], self.element(flat[place]))};"
            at = end

    # --- pointwise loops

    def _flat(self, node: Map) -> bool:
        """Whether every operand runs through its memory as the result does, or is one number."""
        full = _contiguous(node.shape)
        return all(not any(v.strides) or v.strides == full for v in node.operands)

    def _group(self, todo: Sequence[int], at: int) -> list[int]:
        """The run of flat maps of one length that starts at `at`: they share a loop."""
        size, made = math.prod(self._map(todo[at]).shape), dict[int, int]()
        group: list[int] = []
        for place in todo[at:]:
            node = self.b.nodes[place]
            if not isinstance(node, Map) or not self._flat(node) or math.prod(node.shape) != size:
                break
            if any(v.source >> SHIFT in made and not self._whole(v) for v in node.operands):
                break
            made[node.buffer + 1] = place
            group.append(place)
        return group

    def _whole(self, view: View) -> bool:
        return bool(any(view.strides)) and not view.source & MASK

    def _fused(self, group: Sequence[Map], used: Mapping[int, int]) -> Iterator[str]:
        inside: set[int] = set()
        inner: Counter[int] = Counter(v.source >> SHIFT for node in group for v in node.operands)
        lines = []
        for node in group:
            deps = self.b.buffers[node.buffer].deps
            args = [
                f"m{(v.source >> SHIFT) - 1}" if (v.source >> SHIFT) - 1 in inside else self._run(v)
                for v in node.operands
            ]
            kinds = [self.kind(self.b.depends(v.source)) for v in node.operands]
            lines.append(f"const {self.kind(deps)} m{node.buffer} = {self.expression(node.op, args, kinds)};")
            inside.add(node.buffer)
            if node.buffer in self.direct:
                target, add = self.direct[node.buffer]
                lines.append(f"{target}[i] {'+=' if add else '='} m{node.buffer};")
            elif used[node.buffer + 1] > inner[node.buffer + 1]:
                yield f"{self.kind(deps)} b{node.buffer}[{self.b.buffers[node.buffer].size}];"
                lines.append(f"b{node.buffer}[i] = m{node.buffer};")
        yield f"for (int i = 0; i < {math.prod(group[0].shape)}; ++i) {{ {' '.join(lines)} }}"

    def _run(self, view: View) -> str:
        return self.at(View(view.source, (1,)), ["i"]) if any(view.strides) else self.element(view.source)

    def _looped(self, node: Map) -> Iterator[str]:
        """A map with operands that are broadcast or transposed: nested loops."""
        indices = [f"i{axis}" for axis in range(len(node.shape))]
        heads = " ".join(f"for (int {i} = 0; {i} < {n}; ++{i})" for i, n in zip(indices, node.shape, strict=True))
        target, add = self.direct.get(node.buffer, (f"b{node.buffer}", False))
        place = " + ".join(f"{s} * {i}" for s, i in zip(_contiguous(node.shape), indices, strict=True))
        args = [self.at(v, indices) for v in node.operands]
        kinds = [self.kind(self.b.depends(v.source)) for v in node.operands]
        yield f"{heads} {target}[{place}] {'+=' if add else '='} {self.expression(node.op, args, kinds)};"

    # --- matrix products

    def _dot(self, node: Dot, kind: str) -> Iterator[str]:
        rows, columns, inner = node.shape
        target, add = self.direct.get(node.buffer, (f"b{node.buffer}", False))
        sign = "+=" if add else "="
        if columns == 1 and node.a.strides[0] != 1:
            yield from self._row_sums(node, target, sign, kind)
        elif inner == 1:
            product = f"{self.at(node.a, ['i', '0'])} * {self.at(node.b, ['0', 'j'])}"
            yield (
                f"for (int i = 0; i < {rows}; ++i) for (int j = 0; j < {columns}; ++j) "
                f"{target}[{columns} * i + j] {sign} {product};"
            )
        else:
            if not add:
                yield f"for (int i = 0; i < {rows * columns}; ++i) {target}[i] = ({kind}){{0}};"
            product = f"{self.at(node.a, ['i', 'l'])} * {self.at(node.b, ['l', 'j'])}"
            order = ("l", "j", "i") if node.a.strides[0] == 1 and columns == 1 else ("i", "l", "j")
            bound = {"i": rows, "j": columns, "l": inner}
            loops = " ".join(f"for (int {x} = 0; {x} < {bound[x]}; ++{x})" for x in order)
            yield f"{loops} {target}[{columns} * i + j] += {product};"

    def _row_sums(self, node: Dot, target: str, sign: str, kind: str) -> Iterator[str]:
        """A matrix times a vector, some rows at a time, each sum in lanes of its own."""
        rows, _, inner = node.shape
        whole = rows - rows % ROWS
        for first, last, step in ((0, whole, ROWS), (whole, rows, 1)):
            if first == last:
                continue
            names = [f"s{r}" for r in range(step)]
            simd = f"\n#pragma omp simd reduction(+:{', '.join(names)})\n" if kind == "REAL" else " "
            start = " ".join(f"{kind} {name} = {{0}};" for name in names)
            vector = self.at(node.b, ["l", "0"])
            sums = " ".join(
                f"{name} += {self.at(node.a, [f'(i + {r})' if r else 'i', 'l'])} * {vector};"
                for r, name in enumerate(names)
            )
            stores = " ".join(f"{target}[i + {r}] {sign} {name};" for r, name in enumerate(names))
            yield (
                f"for (int i = {first}; i < {last}; i += {step}) {{ {start}{simd}"
                f"for (int l = 0; l < {inner}; ++l) {{ {sums} }} {stores} }}"
            )

    # --- outputs

    def _uses(self, order: Sequence[int], outputs: Sequence[Output]) -> Counter[int]:
        """How often each buffer is read, keyed by buffer + 1."""
        used: Counter[int] = Counter()
        for place in order:
            node = self.b.nodes[place]
            if isinstance(node, Number):
                used.update(n >> SHIFT for n in node.args)
            elif isinstance(node, Pack):
                used.update((node.ids >> SHIFT).tolist())
            else:
                used.update(v.source >> SHIFT for v in (node.operands if isinstance(node, Map) else (node.a, node.b)))
        for output in outputs:
            used.update((output.ids >> SHIFT).tolist())
        return used

    def function(self, outputs: Sequence[Output]) -> Iterator[str]:
        """All statements of a function without columns."""
        order = reachable(self.b, np.concatenate([o.ids for o in outputs]), self.leaves)
        rest = [self._redirected(output, order, outputs) for output in outputs]
        yield from self.body(outputs, order)
        for copies in rest:
            yield from copies

    def _redirected(self, output: Output, order: Sequence[int], outputs: Sequence[Output]) -> list[str]:
        """The stores of an output, less the buffers that are filled in place because nothing else reads them."""
        used, places = self._uses(order, outputs), set(order)
        lines: list[str] = []
        at, ids = 0, output.ids
        sign = "+=" if output.add else "="
        start = 0
        pieces: list[tuple[int, int]] = []
        while at < len(ids):
            buffer = int(ids[at]) >> SHIFT
            size = self.b.buffers[buffer - 1].size if buffer else 0
            whole = size > 1 and not int(ids[at]) & MASK and at + size <= len(ids)
            if whole and self.b.buffers[buffer - 1].producer in places and used[buffer] == size:
                node = self.b.nodes[self.b.buffers[buffer - 1].producer]
                if np.array_equal(ids[at : at + size], self.b.of_buffer(buffer - 1)) and isinstance(node, Map | Dot):
                    self.direct[buffer - 1] = (f"({output.target} + {at})", output.add)
                    pieces.append((start, at))
                    at += size
                    start = at
                    continue
            at += 1
        pieces.append((start, len(ids)))
        for first, last in pieces:
            target = f"({output.target} + {first})" if first else output.target
            lines.extend(self.copy(target, ids[first:last], sign))
        return lines


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step if size > 1 else 0)
        step *= size
    return tuple(reversed(strides))
