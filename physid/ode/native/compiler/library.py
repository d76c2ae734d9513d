"""A graph's C source, written once, and the entry points of a compiled one."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from physid.ode.caching import Cache
from physid.ode.native.compiler import build
from physid.ode.native.compiler.lower import lower
from physid.ode.native.compiler.trace import Graph, Unsupported
from physid.ode.native.compiler.translation_unit import Unit, emit


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
    """A sum over all files that write C source; the runtime's is a part of it."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def library_of(graph: Graph, runtime: str, flags: tuple[str, ...], batched: bool = False) -> ctypes.CDLL:
    """The compiled library of a graph, with the C text `runtime` behind it; its source is written only if need be."""
    mark = "\0".join((graph.key(), "batched" if batched else "alone", generator(), runtime))
    return build.load(mark, lambda: unit_of(graph, batched).source + _but_for_tangents(runtime), flags)


def _but_for_tangents(runtime: str) -> str:
    """The runtime, left out of the part that has the tangents alone."""
    return f"#if !defined(PART) || PART < 3\n{runtime}\n#endif\n"


_UNITS: Cache[tuple[str, bool], Unit | str] = Cache(64)


def unit_of(graph: Graph, batched: bool = False) -> Unit:
    """The C source of a graph, written once."""
    found = _UNITS.made((graph.key(), batched), lambda: _written(graph, batched))
    if isinstance(found, str):
        raise Unsupported(found)
    return found


def _written(graph: Graph, batched: bool) -> Unit | str:
    """The C source of a graph, or why there is none."""
    try:
        return emit(lower(graph), graph.dtype, batched)
    except Unsupported as why:
        return str(why)
    except (TypeError, ValueError, KeyError, IndexError, NotImplementedError) as error:
        return f"f cannot be written as C ({type(error).__name__}: {error})"


COUNTS = ("physid_scratch", "physid_abreast")


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes what the entry points take."""
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    signatures: dict[str, list[Callable[..., Any]]] = {
        "physid_fields": [whole, *[pointer] * 6],
        "physid_vjp": [pointer] * 9,
        "physid_vjps": [whole, *[pointer] * 9],
        "physid_jvp": [*[pointer] * 4, whole, *[pointer] * 5],
        "physid_abreast": [pointer] * 9,
        "physid_scratch": [whole],
        "physid_prepare": [pointer] * 3,
        "physid_prepare_vjp": [pointer] * 4,
        "physid_prepare_lanes": [whole, pointer, whole, pointer, whole, pointer],
        "physid_prepare_vjp_lanes": [whole, pointer, whole, pointer, whole, pointer, pointer],
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, whole if name in COUNTS else None


def pointers(*tensors: Tensor) -> list[int]:
    """The addresses of the first numbers of contiguous tensors, which the caller keeps alive."""
    return [tensor.data_ptr() for tensor in tensors]


def strided(rows: Tensor) -> tuple[int, int]:
    """Where rows of numbers begin, and how far apart they are: not at all where all share one."""
    rows = rows.contiguous()
    return rows.data_ptr(), rows.shape[-1] if rows.ndim > 1 else 0
