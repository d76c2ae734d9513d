"""The translation unit of one right-hand side: f, its derivatives, and what is prepared before the march."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from physid.ode.native.derive import Tangents, reachable, reverse
from physid.ode.native.driven import SOURCE as INPUTS
from physid.ode.native.emit import Emitter, Output
from physid.ode.native.ir import COLUMNS, PARAMS, SHIFT, STATE, Ids
from physid.ode.native.lower import Program
from physid.ode.native.prelude import prelude

# A function of more statements than this is not inlined into the stages of the march.
INLINE = 400

HEAD = """\
#include <math.h>
#include <string.h>
#define REAL {real}
#define N {n}
#define P {p}
#define RAW {raw}
#define C_ {c}
#ifdef __AVX512F__
#define VW {wide}
#else
#define VW {narrow}
#endif
#define WORK 1
#define WORK_JVP(m) (VW * (N + P + 1))
#define OPERATIONS {operations}
#define IDENTITY {identity}
#define FIELD_INLINE {inline}
/* A unit may be compiled in two halves: what only one of them exports is the other's own. */
#if defined(PART) && PART == 2
#define LOCAL1 static
#else
#define LOCAL1
#endif
#if defined(PART) && PART == 1
#define LOCAL2 static
#else
#define LOCAL2
#endif
typedef REAL VREAL __attribute__((vector_size(VW * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define SPLAT(x) ((VREAL){{0}} + (x))
"""

FIELD = """\
static FIELD_INLINE void field(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c,
                               REAL *restrict k, REAL *restrict work) {"""
VJP = """\
static FIELD_INLINE void field_vjp(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c,
                                   const REAL *restrict w, REAL *restrict gy, REAL *restrict gp, REAL *restrict gt,
                                   REAL *restrict work) {"""
PART = """\
static void {name}(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c, int m,
                   const REAL *restrict dy, const REAL *restrict dp, REAL *restrict k, REAL *restrict dk,
                   REAL *restrict work) {{"""
JVP = """\
static void field_jvp(REAL t, const REAL *y, const REAL *p, const REAL *c, int m, const REAL *dy, const REAL *dp,
                      REAL *k, REAL *dk, REAL *work) {
    if (dp) jvp_all(t, y, p, c, m, dy, dp, k, dk, work);
    else jvp_state(t, y, p, c, m, dy, dp, k, dk, work);
}"""
PREPARE = "LOCAL1 void physid_prepare(const REAL *restrict p, const REAL *restrict c, REAL *restrict q) {"
PREPARE_VJP = """\
LOCAL2 void physid_prepare_vjp(const REAL *restrict p, const REAL *restrict c, const REAL *restrict gq,
                               REAL *restrict gp) {"""
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

# What Python calls to compare the functions with the eager ones, and tests with the truth; not the way of a solve.
PROBES = """\
#define COLD __attribute__((cold, noinline))
#if !defined(PART) || PART == 1
COLD void physid_fields(int lanes, const REAL *t, const REAL *y, const REAL *p, const REAL *c, REAL *k, REAL *work) {
    for (int l = 0; l < lanes; ++l) field(t[l], y + (size_t)l * N, p, c, k + (size_t)l * N, work);
}
COLD void physid_prepare_lanes(int lanes, const REAL *p, int ps, const REAL *c, int cs, REAL *q) {
    for (size_t l = 0; l < (size_t)lanes; ++l) physid_prepare(p + l * ps, c + l * cs, q + l * P);
}
COLD int physid_scratch(int m) { return m ? WORK_JVP(m) : WORK; }
COLD int physid_unit(int which) {
    const int sizes[] = {N, P, RAW, C_, OPERATIONS, IDENTITY};
    return sizes[which];
}
#endif
#if !defined(PART) || PART == 2
COLD void physid_vjp(const REAL *t, const REAL *y, const REAL *p, const REAL *c, const REAL *w, REAL *gy, REAL *gp,
                     REAL *gt, REAL *work) {
    field_vjp(*t, y, p, c, w, gy, gp, gt, work);
}
COLD void physid_jvp(const REAL *t, const REAL *y, const REAL *p, const REAL *c, int m, const REAL *dy, const REAL *dp,
                     REAL *k, REAL *dk, REAL *work) {
    field_jvp(*t, y, p, c, m, dy, dp, k, dk, work);
}
COLD void physid_prepare_vjp_lanes(int lanes, const REAL *p, int ps, const REAL *c, int cs, const REAL *gq, REAL *gp) {
    for (size_t l = 0; l < (size_t)lanes; ++l) physid_prepare_vjp(p + l * ps, c + l * cs, gq + l * P, gp + l * RAW);
}
#endif
"""


@dataclass(frozen=True)
class Unit:
    """C source, with the sizes of its arrays."""

    source: str
    n: int
    p: int
    raw: int
    c: int
    identity: bool
    operations: int


def emit(program: Program, dtype: torch.dtype) -> Unit:
    """The C source of f, its products and its preparation, up to where the runtime begins."""
    writer = _Writer(program, "f" if dtype == torch.float32 else "")
    parts = [list(part) for part in (writer.field(), writer.vjp(), writer.jvp(), writer.prepare(), writer.pull())]
    count = len(parts[1])
    sizes = {"n": program.k.size, "p": program.prepared.size, "raw": program.raw.size, "c": program.c.size}
    single = dtype == torch.float32
    head = HEAD.format(
        **sizes,
        real="float" if dtype == torch.float32 else "double",
        wide=16 if dtype == torch.float32 else 8,
        narrow=8 if dtype == torch.float32 else 4,
        operations=len(parts[0]),
        identity=int(program.identity),
        inline="inline" if count <= INLINE else "__attribute__((noinline))",
    )
    head += prelude(single)
    if program.inputs:
        first, degree, many = program.inputs
        head += INPUTS.format(first=first, degree=degree, count=many)
    body = "\n".join(line for part in parts for line in part)
    return Unit(f"{head}\n{body}\n{PROBES}", **sizes, identity=program.identity, operations=len(parts[0]))


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
        p = self.program
        found = reverse(self.b, p.k, self.w, p.slots, STATE | PARAMS)
        parts = [found.of(p.y), found.of(self._live(p.prepared)), found.of(p.t)]
        outputs = [Output(name, ids, add=True) for name, ids in zip(("gy", "gp", "gt"), parts, strict=True)]
        yield from _function(VJP, self._emitter(p.slots).function(outputs))

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
        tangents = Tangents(b, buffers, scalars)
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
        yield PART.format(name=name)
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
