"""A graph's C source, written once, and the entry points of a compiled one."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from physid.ode.caching import Cache
from physid.ode.native.compiler import build
from physid.ode.native.compiler.lower import Program, lower
from physid.ode.native.compiler.trace import Graph, Unsupported
from physid.ode.native.compiler.translation_unit import Unit, emit, emit_tangents, real
from physid.ode.native.structures import FOLDER

RUNTIME = (
    *("base.h", "hear.c", "pool.c", "sensitivity.c", "march.c", "stepsize.c", "revolve.c", "pullback.c", "simd.c"),
    "entry.c",
)


@dataclass(frozen=True)
class Sizes:
    """What a library says of itself: numbers of a state, prepared and captured numbers, constants, operations of f.

    `identity`: the prepared numbers are the captured ones. `assumed`: captured numbers and constants that are finite.
    """

    n: int
    p: int
    raw: int
    c: int
    operations: int
    identity: bool
    assumed: bool = False

    @staticmethod
    def of(library: ctypes.CDLL) -> Sizes:
        """Ask a library."""
        n, p, raw, c, operations, same, assumed = (int(library.physid_unit(which)) for which in range(7))
        return Sizes(n, p, raw, c, operations, bool(same), bool(assumed))


@cache
def generator() -> str:
    """A sum over all files that C source comes from."""
    files = sorted([*Path(__file__).parent.glob("*.py"), *FOLDER.iterdir()])
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


@cache
def text(*parts: str) -> str:
    """Files of the folder c behind one another."""
    return "\n".join((FOLDER / part).read_text() for part in parts)


@dataclass(frozen=True)
class Sources:
    """What the libraries of one f are made of; `extra` are flags for the compiler."""

    graph: Graph
    extra: tuple[str, ...] = ()
    batched: bool = False

    def linked(self) -> build.Target:
        """f and its product, with the runtime that serves every f: soon there."""
        kind = real(self.graph.dtype)
        runtime = build.Target(
            f"runtime\0{kind}\0{generator()}",
            lambda: f"#define REAL {kind}\n#define ANY_F\n{text('field.h', *RUNTIME)}",
        )
        return self._job("linked", lambda: f"#define APART\n{self.functions()}", runtime)

    def whole(self) -> build.Target:
        """The same with a runtime of its own, in which f is inlined."""
        return self._job("whole", lambda: f"{self.functions()}\n{text(*RUNTIME)}")

    def tangents(self) -> build.Target:
        """The tangents of f."""
        return self._job("tangents", lambda: _source(_written(self.graph, emit_tangents)))

    def functions(self) -> str:
        """The C source of f and its product, without what runs them."""
        return _source(unit_of(self.graph, self.batched))

    def _job(self, kind: str, source: Callable[[], str], runtime: build.Target | None = None) -> build.Target:
        mark = "\0".join((kind, self.graph.key(), "batched" if self.batched else "alone", generator()))
        return build.Target(mark, source, self.extra, runtime)


def _source(unit: Unit) -> str:
    return f"{unit.head}{text('field.h')}\n{unit.body}"


_UNITS: Cache[tuple[str, bool], Unit | str] = Cache(64)


def unit_of(graph: Graph, batched: bool = False) -> Unit:
    """The C source of a graph, written once."""

    def written() -> Unit | str:
        try:
            return _written(graph, partial(emit, batched=batched))
        except Unsupported as why:
            return str(why)

    found = _UNITS.made((graph.key(), batched), written)
    if isinstance(found, str):
        raise Unsupported(found)
    return found


def _written(graph: Graph, write: Callable[[Program, torch.dtype], Unit]) -> Unit:
    """The C source of a graph; Unsupported where there is none."""
    try:
        return write(lower(graph), graph.dtype)
    except (TypeError, ValueError, KeyError, IndexError, NotImplementedError) as error:
        raise Unsupported(f"f cannot be written as C ({type(error).__name__}: {error})") from None


_POINTER, _WHOLE = ctypes.c_void_p, ctypes.c_int
FUNCTIONS: dict[str, list[Any]] = {
    "physid_fields": [_WHOLE, *[_POINTER] * 6],
    "physid_vjp": [_POINTER] * 9,
    "physid_vjps": [_WHOLE, *[_POINTER] * 9],
    "physid_abreast": [_POINTER] * 9,
    "physid_scratch": [],
    "physid_prepare": [_POINTER] * 3,
    "physid_prepare_vjp": [_POINTER] * 4,
    "physid_prepare_lanes": [_WHOLE, _POINTER, _WHOLE, _POINTER, _WHOLE, _POINTER],
    "physid_prepare_vjp_lanes": [_WHOLE, _POINTER, _WHOLE, _POINTER, _WHOLE, _POINTER, _POINTER],
}
TANGENTS: dict[str, list[Any]] = {
    "physid_jvp": [*[_POINTER] * 4, _WHOLE, *[_POINTER] * 5],
    "physid_scratch": [_WHOLE],
}
COUNTS = ("physid_scratch", "physid_abreast")


def declare(library: ctypes.CDLL, signatures: Mapping[str, list[Any]] = FUNCTIONS) -> ctypes.CDLL:
    """The library, with what its entry points take told to ctypes."""
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, _WHOLE if name in COUNTS else None
    return library


def pointers(*tensors: Tensor) -> list[int]:
    """The addresses of the first numbers of contiguous tensors, which the caller keeps alive."""
    return [tensor.data_ptr() for tensor in tensors]


def strided(rows: Tensor) -> tuple[int, int]:
    """Where rows of numbers begin, and how far apart they are: not at all where all share one."""
    rows = rows.contiguous()
    return rows.data_ptr(), rows.shape[-1] if rows.ndim > 1 else 0
