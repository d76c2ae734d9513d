"""The translation unit of one right-hand side: f, its derivatives, and what is prepared before the march."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from physid.ode.native.compiler.derive import TangentCode, reachable, reverse
from physid.ode.native.compiler.driving_inputs import SOURCE as INPUTS
from physid.ode.native.compiler.emit import Emitter, Output
from physid.ode.native.compiler.ir import COLUMNS, PARAMS, SHIFT, STATE, Dot, Ids
from physid.ode.native.compiler.lower import Program
from physid.ode.native.compiler.prelude import abreast as prelude_abreast
from physid.ode.native.compiler.prelude import prelude
from physid.ode.native.compiler.scalars import SCALARS

# A function of more statements than this is not inlined into the stages of the march.
INLINE = 400
# Samples are solved side by side, in the lanes of vectors, where f is no larger: statements, and numbers that it takes.
SMALL, FEW = 600, 128

HEAD = """\
#define REAL {real}
#define N {n}
#define P {p}
#define RAW {raw}
#define C_ {c}
#define OPERATIONS {operations}
#define IDENTITY {identity}
#define ASSUMED {assumed}
#define FIELD_INLINE {inline}
"""

FIELD = """\
FIELD void field(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c, REAL *restrict k,
                 REAL *restrict work) {"""
VJP = """\
FIELD void field_vjp(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c,
                     const REAL *restrict w, REAL *restrict gy, REAL *restrict gp, REAL *restrict gt,
                     REAL *restrict work) {"""
# Vectors of samples fill the widest registers; halves of them, as in the rest of the code, would go through memory.
WIDEST = """\
#define ABREAST
#ifdef __AVX512F__
#pragma GCC push_options
#pragma GCC target("prefer-vector-width=512")
#endif"""
USUAL = """\
#ifdef __AVX512F__
#pragma GCC pop_options
#endif"""
ABREAST = """\
FIELD void field_abreast(VREAL t, const VREAL *restrict y, const VREAL *restrict p, const VREAL *restrict c,
                         VREAL *restrict k) {"""
VJP_ABREAST = """\
FIELD void field_vjp_abreast(VREAL t, const VREAL *restrict y, const VREAL *restrict p, const VREAL *restrict c,
                             const VREAL *restrict w, VREAL *restrict gy, VREAL *restrict gp, VREAL *restrict gt) {"""
COLUMNS_HEAD = """\
static void {name}(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c, int m,
                   const REAL *restrict dy, const REAL *restrict dp, REAL *restrict k, REAL *restrict dk,
                   REAL *restrict work) {{"""
JVP = """\
void physid_tangents(REAL t, const REAL *y, const REAL *p, const REAL *c, int m, const REAL *dy, const REAL *dp,
                     REAL *k, REAL *dk, REAL *work) {
    if (dp) jvp_all(t, y, p, c, m, dy, dp, k, dk, work);
    else jvp_state(t, y, p, c, m, dy, dp, k, dk, work);
}
void physid_jvp(const REAL *t, const REAL *y, const REAL *p, const REAL *c, int m, const REAL *dy, const REAL *dp,
                REAL *k, REAL *dk, REAL *work) {
    physid_tangents(*t, y, p, c, m, dy, dp, k, dk, work);
}
int physid_scratch(int m) { return WORK_JVP(m); }"""
PREPARE = "void physid_prepare(const REAL *restrict p, const REAL *restrict c, REAL *restrict q) {"
PREPARE_VJP = """\
void physid_prepare_vjp(const REAL *restrict p, const REAL *restrict c, const REAL *restrict gq, REAL *restrict gp) {"""
LOAD = """\
static inline void load_columns(VREAL *restrict to, const REAL *restrict from, int rows, int m, int left) {
    if (left >= VW) for (int i = 0; i < rows; ++i) memcpy(to + i, from + (size_t)i * m, sizeof(VREAL));
    else for (int i = 0; i < rows; ++i) {
        REAL lanes[VW] = {0};
        for (int j = 0; j < left; ++j) lanes[j] = from[(size_t)i * m + j];
        memcpy(to + i, lanes, sizeof(VREAL));
    }
}
static inline void store_columns(REAL *restrict to, const VREAL *restrict from, int rows, int m, int left) {
    size_t bytes = (left < VW ? left : VW) * sizeof(REAL);
    for (int i = 0; i < rows; ++i) memcpy(to + (size_t)i * m, from + i, bytes);
}"""

# The functions for vectors, where there are any, at one point in all lanes; the results of the last lane.
PROBE_ABREAST = """\
COLD int physid_abreast(const REAL *t, const REAL *y, const REAL *p, const REAL *c, const REAL *w, REAL *k, REAL *gy,
                        REAL *gp, REAL *gt) {
#ifdef ABREAST
    VREAL in[2 * N + P + C_ + 1], out[2 * N + P + 1] = {{0}};
    const REAL *from[] = {y, w, p, c};
    const int sizes[] = {N, N, P, C_}, to[] = {N, N, P, 1};
    REAL *given[] = {k, gy, gp, gt};
    for (int part = 0, i = 0; part < 4; ++part)
        for (int n = 0; n < sizes[part]; ++n) in[i++] = SPLAT(from[part][n]);
    field_abreast(SPLAT(*t), in, in + 2 * N, in + 2 * N + P, out);
    field_vjp_abreast(SPLAT(*t), in, in + 2 * N, in + 2 * N + P, in + N, out + N, out + 2 * N, out + 2 * N + P);
    for (int part = 0, i = 0; part < 4; ++part)
        for (int n = 0; n < to[part]; ++n) given[part][n] = out[i++][VW - 1];
    return 1;
#else
    return 0;
#endif
}
"""

# What a runtime that serves every f is linked with.
LINKED = """\
#ifdef APART
HIDDEN const int unit_n = N, unit_p = P, unit_c = C_;
#ifdef ABREAST
HIDDEN const int unit_side_by_side = 1;
#else
HIDDEN const int unit_side_by_side = 0;
HIDDEN void field_abreast(VREAL t, const VREAL *y, const VREAL *p, const VREAL *c, VREAL *k) {}
HIDDEN void field_vjp_abreast(VREAL t, const VREAL *y, const VREAL *p, const VREAL *c, const VREAL *w, VREAL *gy,
                              VREAL *gp, VREAL *gt) {}
#endif
#endif
"""

# What Python calls to compare the functions with the eager ones, and tests with the truth; not the way of a solve.
PROBES = """\
#define COLD __attribute__((cold, noinline))
COLD void physid_fields(int lanes, const REAL *t, const REAL *y, const REAL *p, const REAL *c, REAL *k, REAL *work) {
    for (int l = 0; l < lanes; ++l) field(t[l], y + (size_t)l * N, p, c, k + (size_t)l * N, work);
}
COLD void physid_prepare_lanes(int lanes, const REAL *p, int ps, const REAL *c, int cs, REAL *q) {
    for (size_t l = 0; l < (size_t)lanes; ++l) physid_prepare(p + l * ps, c + l * cs, q + l * P);
}
COLD int physid_scratch(void) { return WORK; }
COLD int physid_unit(int which) {
    const int sizes[] = {N, P, RAW, C_, OPERATIONS, IDENTITY, ASSUMED};
    return sizes[which];
}
COLD void physid_vjp(const REAL *t, const REAL *y, const REAL *p, const REAL *c, const REAL *w, REAL *gy, REAL *gp,
                     REAL *gt, REAL *work) {
    field_vjp(*t, y, p, c, w, gy, gp, gt, work);
}
COLD void physid_vjps(int count, const REAL *t, const REAL *y, const REAL *p, const REAL *c, const REAL *w, REAL *gy,
                      REAL *gp, REAL *gt, REAL *work) {
    for (int i = 0; i < count; ++i) field_vjp(*t, y, p, c, w, gy, gp, gt, work);
}
COLD void physid_prepare_vjp_lanes(int lanes, const REAL *p, int ps, const REAL *c, int cs, const REAL *gq, REAL *gp) {
    for (size_t l = 0; l < (size_t)lanes; ++l) physid_prepare_vjp(p + l * ps, c + l * cs, gq + l * P, gp + l * RAW);
}
"""


@dataclass(frozen=True)
class Unit:
    """C of f and its products, with the sizes of its arrays; `head` are the macros that field.h comes after."""

    head: str
    body: str
    n: int
    p: int
    raw: int
    c: int
    identity: bool
    operations: int


def emit(program: Program, dtype: torch.dtype, batched: bool = False) -> Unit:
    """The C source of f, its products and its preparation, up to where the runtime begins.

    `batched`: for many samples, which a small f takes side by side.
    """
    writer = _Writer(program, "f" if dtype == torch.float32 else "")
    parts = [list(part) for part in (writer.field(), writer.vjp(), writer.prepare(), writer.pull())]
    count = len(parts[1])
    if batched and count <= SMALL and _abreast(program):
        parts.append(list(writer.abreast()))
    body = "\n".join(line for part in parts for line in part)
    return _unit(program, dtype, f"{body}\n{PROBES}{PROBE_ABREAST}{LINKED}", len(parts[0]), count <= INLINE)


def emit_tangents(program: Program, dtype: torch.dtype) -> Unit:
    """The C source of the tangents of f, a library of its own."""
    writer = _Writer(program, "f" if dtype == torch.float32 else "")
    return _unit(program, dtype, "\n".join(writer.jvp()) + "\n", 0, False)


def _unit(program: Program, dtype: torch.dtype, body: str, operations: int, inline: bool) -> Unit:
    sizes = {"n": program.k.size, "p": program.prepared.size, "raw": program.raw.size, "c": program.c.size}
    head = HEAD.format(
        **sizes,
        real=real(dtype),
        operations=operations,
        **{"identity": int(program.identity), "assumed": int(program.b.assumed)},
        inline="inline" if inline else "__attribute__((noinline))",
    )
    before = prelude(dtype == torch.float32)
    if program.inputs:
        first, degree, many = program.inputs
        before += INPUTS.format(first=first, degree=degree, count=many)
    return Unit(head, f"{before}\n{body}", **sizes, identity=program.identity, operations=operations)


def real(dtype: torch.dtype) -> str:
    """The type of numbers in C."""
    return "float" if dtype == torch.float32 else "double"


def _abreast(program: Program) -> bool:
    """Whether samples are solved side by side: few numbers, no matrices, whose sums would run in another order."""
    given = program.k.size + program.prepared.size + program.c.size
    return given <= FEW and not program.inputs and not any(isinstance(node, Dot) for node in program.b.nodes)


class _Writer:
    """Writes each function of the unit from one program."""

    def __init__(self, program: Program, suffix: str) -> None:
        self.program, self.b, self.suffix = program, program.b, suffix
        self.names = {i: buffer.name for i, buffer in enumerate(self.b.buffers) if buffer.name}
        self.w = self._input("w", program.k.size, STATE)
        self.gq = self._input("gq", program.prepared.size, PARAMS)
        self.dy = self._input("dy", program.k.size, COLUMNS, "dyv")
        self.dp = self._input("dp", program.prepared.size, COLUMNS, "dpv")

    def _input(self, name: str, size: int, deps: int, spelled: str = "") -> Ids:
        self.names[len(self.b.buffers)] = spelled or name
        return self.b.input(name, size, deps)

    def _emitter(self, leaves: Mapping[int, int]) -> Emitter:
        return Emitter(self.b, self.names, leaves, self.suffix)

    def field(self) -> Iterator[str]:
        """k = f(t, y)."""
        yield from _function(FIELD, self._emitter(self.program.slots).function([Output("k", self.program.k)]))

    def vjp(self) -> Iterator[str]:
        """gy, gp, gt += w^T df."""
        yield from _function(VJP, self._emitter(self.program.slots).function(self._products()))

    def _products(self) -> list[Output]:
        """w^T df by y, p and t."""
        p = self.program
        found = reverse(self.b, p.k, self.w, p.slots, STATE | PARAMS)
        parts = [found.of(p.y), found.of(self._live(p.prepared)), found.of(p.t)]
        return [Output(name, ids, add=True) for name, ids in zip(("gy", "gp", "gt"), parts, strict=True)]

    def abreast(self) -> Iterator[str]:
        """f and its product for as many samples as a vector has lanes."""
        p = self.program
        lines: list[str] = []
        for head, outputs in ((ABREAST, [Output("k", p.k)]), (VJP_ABREAST, self._products())):
            emitter = Emitter(self.b, self.names, p.slots, self.suffix, abreast=True)
            lines.extend(_function(head, emitter.function(outputs)))
        used = sorted({op for line in lines for op in re.findall(r"abreast_(\w+)\(", line)} & SCALARS.keys())
        yield WIDEST
        yield from prelude_abreast(used, self.suffix)
        yield from lines
        yield USUAL

    def _live(self, ids: Ids) -> Ids:
        """Prepared numbers that depend on captured ones; zero, which has no cotangent, for the others."""
        live = np.zeros(len(ids), bool)
        for head in self.b.heads(ids):
            same = ids >> SHIFT == head >> SHIFT if head >> SHIFT else ids == head
            live |= same & bool(self.b.depends(head) & PARAMS)
        return np.where(live, ids, self.b.zero)

    def jvp(self) -> Iterator[str]:
        """k and dk, with and without tangents of the parameters."""
        yield LOAD
        yield from self._columns("jvp_state", self._push(False))
        yield from self._columns("jvp_all", self._push(True))
        yield JVP

    def _push(self, params: bool) -> Ids:
        """The tangents of k."""
        p, b = self.program, self.b
        buffers, scalars = {int(p.y[0] >> SHIFT) - 1: self.dy}, dict[int, int]()
        if params:
            for head, slot in p.slots.items():
                if head < 0 or not b.depends(head) & PARAMS:
                    continue
                if head >> SHIFT:
                    buffer = (head >> SHIFT) - 1
                    buffers[buffer] = self.dp[slot : slot + b.buffers[buffer].size]
                else:
                    scalars[head] = int(self.dp[slot])
        tangents = TangentCode(b, buffers, scalars)
        for place in reachable(b, p.k, p.slots):
            if b.deps[place] & (STATE | PARAMS):
                tangents.push(place)
        return tangents.of(p.k)

    def _columns(self, name: str, dk: Ids) -> Iterator[str]:
        """What is the same in all columns first, then VW columns at a time."""
        p, b, emitter = self.program, self.b, self._emitter(self.program.slots)
        order = reachable(b, np.concatenate([p.k, dk]), p.slots)
        split = [place for place in order if b.deps[place] & COLUMNS]
        outputs = [Output("k", p.k), Output("dkv", dk)]
        yield COLUMNS_HEAD.format(name=name)
        yield from _indented(emitter.body(outputs, order, skip=set(split)))
        yield from _indented(emitter.copy("k", p.k, "="))
        loads = ["VREAL *restrict dyv = (VREAL *)work;", "load_columns(dyv, dy + j, N, m, m - j);"]
        if name == "jvp_all":
            loads += ["VREAL *restrict dpv = dyv + N;", "load_columns(dpv, dp + j, P, m, m - j);"]
        yield "    for (int j = 0; j < m; j += VW) {"
        yield from _indented(loads, 2)
        yield from _indented(emitter.body(outputs, order, skip=set(order) - set(split)), 2)
        yield "        VREAL dkv[N];"
        splat = [f"dkv[{i}] = SPLAT({emitter.element(n)});" for i, n in enumerate(dk.tolist()) if not self._column(n)]
        varying = [f"dkv[{i}] = {emitter.element(n)};" for i, n in enumerate(dk.tolist()) if self._column(n)]
        yield from _indented([*splat, *varying, "store_columns(dk + j, dkv, N, m, m - j);"], 2)
        yield "    }\n}"

    def _column(self, number: int) -> bool:
        return bool(self.b.depends(number) & COLUMNS)

    def prepare(self) -> Iterator[str]:
        """q, the prepared array, from the captured numbers."""
        yield from _function(PREPARE, self._emitter({}).function([Output("q", self.program.prepared)]))

    def pull(self) -> Iterator[str]:
        """gp += the cotangents of the captured numbers, for those of q."""
        p = self.program
        live = self._live(p.prepared)
        found = reverse(self.b, live, self.gq, (), PARAMS)
        yield from _function(PREPARE_VJP, self._emitter({}).function([Output("gp", found.of(p.raw), add=True)]))


def _function(head: str, lines: Iterator[str]) -> Iterator[str]:
    yield head
    yield from _indented(lines)
    yield "}"


def _indented(lines: Iterator[str] | Sequence[str], depth: int = 1) -> Iterator[str]:
    for line in lines:
        yield "    " * depth + line
