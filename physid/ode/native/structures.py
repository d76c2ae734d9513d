"""The structures of the runtime's C as Python fills them: mirrors of base.h, and the C text itself."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physid.ode.methods.tableau import Tableau

PARTS = (
    "base.h",
    "hear.h",
    "pool.h",
    "sensitivity.h",
    "march.h",
    "stepsize.h",
    "revolve.h",
    "pullback.h",
    "simd.h",
    "entry.h",
)
MOST_STAGES = 24  # of a method, with those of its dense output

_i32, _i64, _f64, _ptr = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


@lru_cache(maxsize=1)
def source() -> str:
    """The runtime's C text, to follow field, field_vjp and field_jvp in one translation unit."""
    here = Path(__file__).parent / "c"
    return "\n".join((here / part).read_text() for part in PARTS)


def _fields(text: str) -> list[tuple[str, Any]]:
    """`type: name, name; ...` as the fields of a structure."""
    kinds = {"i32": _i32, "i64": _i64, "f64": _f64, "ptr": _ptr}
    pairs = (line.split(":") for line in text.split(";"))
    return [(name.strip(), kinds[kind.strip()]) for kind, names in pairs for name in names.split(",")]


class Method(ctypes.Structure):
    """`Method` of base.h."""

    _fields_ = _fields(
        "i32: stages, total, degree, fsal, has_error, has_error3; f64: exponent; ptr: c, a, at, b, error, error3, dense"
    )


class Report(ctypes.Structure):
    """`Report` of base.h."""

    _fields_ = _fields("i64: accepted, rejected, evaluations, pushed; f64: reached; i32: status, stiff")


class Task(ctypes.Structure):
    """`Task` of base.h, and the owner of its tape."""

    owner: Any
    _fields_ = [
        ("method", Method),
        *_fields(
            "f64: safety, shrink, grow, power0, power1, power2, min_step, max_step, first_step, until, late;"
            "i64: max_steps, parts, tolerance_stride; ptr: sizes, rtol, atol;"
            "i32: fixed, remembers, direction, moving_stops, keep_states, keep_stages, keep_slopes;"
            "i32: keep_choices, threads, halted, controlled, spare;"
            "i64: lanes, times, stops, jumps, columns, stage_bytes, most_states;"
            "ptr: y0, p, c, dp, ds, size; i64: dp_stride, size_stride, p_stride, c_stride, time_row, time_lane;"
            "i64: stop_row, stop_lane, jump_row, jump_lane; ptr: time, stop, jump, clear, djump;"
            "ptr: y, sensitivity, tangent, culprit, final, report, tape;"
            "ptr: g, ybar, pbar, tbar, jbar, target, weight; f64: total;"
            "i64: vjps, replayed, checkpoint_bytes, kept_bytes;"
            "ptr: ear, flag, raised, raised_value, raised_trace"
        ),
    ]


class LaneTape(ctypes.Structure):
    """`Tape` of base.h."""

    _fields_ = _fields("i64: count, room, state_room, stage_room; ptr: step, y, u, k, choice")


CHOICE = np.dtype(
    [
        ("ratio", "f8"),
        ("before", "f8", 2),
        ("factor", "f8"),
        *((name, "u1") for name in ("cut", "keep", "free", "limited")),
    ],
    align=True,
)  # `Choice` of base.h


@lru_cache(maxsize=64)
def method_of(tableau: Tableau) -> tuple[Method, tuple[NDArray[np.float64], ...]]:
    """The C structure of a tableau, and the arrays that it points into."""
    total = tableau.stages + len(tableau.extra_c)
    a = np.zeros((total, total))
    for i, row in enumerate((*tableau.a, *tableau.extra_a)):
        a[i, : len(row)] = row
    none = np.zeros(tableau.stages)
    arrays = (
        np.array((*tableau.c, *tableau.extra_c)),
        a,
        np.ascontiguousarray(a.T),
        np.array(tableau.b),
        none if tableau.error is None else np.array(tableau.error),
        none if tableau.error3 is None else np.array(tableau.error3),
        np.ascontiguousarray(np.array(tableau.dense).T),
    )
    degree = len(tableau.dense[0])
    flags = (tableau.fsal, tableau.error is not None, tableau.error3 is not None)
    pointers = (array.ctypes.data for array in arrays)
    return Method(tableau.stages, total, degree, *map(int, flags), tableau.exponent, *pointers), arrays
