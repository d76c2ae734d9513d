"""The compiled solve as Python sees it: the C structures, one call forward and one back, and the steps that it kept."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from physid.ode.tableau import Tableau
from physid.ode.tape import Tape

PARTS = ("base.h", "carry.h", "march.h", "aware.h", "pull.h", "lanes.h")
MOST_STAGES = 24  # of a method, with those of its dense output
STAGE_BYTES = 64 * 2**20  # of stages kept for the backward pass, so that it need not evaluate them again

_i32, _i64, _f64, _ptr = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


@lru_cache(maxsize=1)
def source() -> str:
    """The runtime's C text, to follow field, field_vjp and field_jvp in one translation unit."""
    here = Path(__file__).parent
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


class Task(ctypes.Structure):
    """`Task` of base.h."""

    _fields_ = [
        ("method", Method),
        *_fields(
            "f64: safety, shrink, grow, power0, power1, power2, min_step, max_step, first_step, seconds;"
            "i64: max_steps, parts, tolerance_stride; ptr: sizes, rtol, atol;"
            "i32: fixed, remembers, direction, moving_stops, keep_states, keep_stages, keep_slopes;"
            "i32: keep_choices, threads, spare;"
            "i64: lanes, times, stops, columns, stage_bytes; ptr: y0, p, c, dp;"
            "i64: p_stride, c_stride, time_row, time_lane, stop_row, stop_lane; ptr: time, stop;"
            "ptr: y, sensitivity, culprit, final, status, stiff, accepted, rejected, evaluations, reached, tape;"
            "ptr: g, ybar, pbar, tbar; i64: vjps, replayed"
        ),
    ]


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


@dataclass(frozen=True)
class Library:
    """The entry points of one compiled right-hand side."""

    march: Callable[[Any], int]
    pull: Callable[[Any], int]
    steps: Callable[..., None]
    states: Callable[..., None]
    grids: Callable[..., None]
    bytes: Callable[..., None]
    release: Callable[..., None]
    tape: Callable[[int], int]

    @staticmethod
    def of(library: ctypes.CDLL) -> Library:
        """Declare the functions of lanes.h; RuntimeError when the structures do not agree."""

        def function(name: str, result: Any, *arguments: Any) -> Any:
            entry = getattr(library, f"physid_{name}")
            entry.restype, entry.argtypes = result, arguments
            return entry

        if function("sizes", _i64, ctypes.c_int)(0) != ctypes.sizeof(Task):
            raise RuntimeError("the compiled runtime and its Python mirror disagree about the size of a task")
        task = ctypes.POINTER(Task)
        return Library(
            function("march", ctypes.c_int, task),
            function("pull", ctypes.c_int, task),
            function("steps", None, task, _i64, _ptr),
            function("states", None, task, _i64, _ptr),
            function("grids", None, task, _ptr),
            function("bytes", None, _ptr, _i64, _i64, _i64, ctypes.POINTER(_i64), ctypes.POINTER(_i64)),
            function("release", None, _ptr, _i64),
            function("tape", _ptr, _i64),
        )


@dataclass
class Run:
    """One solve: the task with what it points to, and the tape that C holds for it."""

    library: Library
    task: Task
    y: Tensor
    counts: NDArray[np.int64]
    flags: NDArray[np.int32]
    reached: NDArray[np.float64]
    held: dict[str, Any] = field(default_factory=dict)

    def __del__(self) -> None:
        """Give the tape back."""
        tape, self.task.tape = self.task.tape, None
        if tape:
            self.library.release(tape, self.task.lanes)

    @property
    def statuses(self) -> NDArray[np.int32]:
        """How every lane ended [L], by the numbers of base.h."""
        found: NDArray[np.int32] = self.flags[0]
        return found

    def tape(self) -> Tape:
        """The accepted steps with the states at their starts, as the eager tier keeps them."""
        task, y0 = self.task, self.held["y0"]
        width = y0.numel() // task.lanes
        tape = Tape(task.lanes, width, y0.dtype, y0.device)
        for lane in range(task.lanes):
            steps = int(self.counts[0, lane])
            rows, states = torch.empty(steps, 6, dtype=torch.float64), torch.empty(steps, width, dtype=y0.dtype)
            self.library.steps(task, lane, rows.data_ptr())
            self.library.states(task, lane, states.data_ptr())
            tape.meta.append(rows)
            tape.states.append(states)
        return tape

    def grids(self) -> Callable[[], list[Tensor]]:
        """What reads the accepted times of every lane, and keeps nothing else."""
        sizes = self.counts[0] + 1
        times = torch.empty(int(sizes.sum()), dtype=torch.float64)
        self.library.grids(self.task, times.data_ptr())
        return lambda: list(times.split(sizes.tolist()))

    def tape_bytes(self) -> tuple[int, int]:
        """Bytes of checkpoints, and of stages kept beside them."""
        found = (_i64(), _i64())
        task = self.task
        self.library.bytes(task.tape, task.lanes, int(task.keep_slopes), task.method.total, *found)
        return found[0].value, found[1].value


def march(
    library: Library,
    settings: Task,
    y0: Tensor,
    p: Tensor,
    c: Tensor,
    dp: Tensor | None = None,
    *,
    keep: bool = False,
    slopes: bool = False,
    choices: bool = False,
) -> Run:
    """Solve all lanes; `settings` holds everything but the values. MemoryError when there is too little."""
    task = Task.from_buffer_copy(settings)
    lanes, width = task.lanes, y0.numel() // task.lanes
    y = torch.empty(task.times, y0.numel(), dtype=y0.dtype)
    counts = torch.empty(3, lanes, dtype=torch.int64)
    flags, reached = torch.empty(2, lanes, dtype=torch.int32), torch.empty(lanes, dtype=torch.float64)
    run = Run(library, task, y, counts.numpy(), flags.numpy(), reached.numpy())
    culprit, final = torch.zeros_like(y0), torch.empty_like(y0)
    run.held = {"settings": settings, "y0": y0, "p": p, "c": c, "dp": dp, "culprit": culprit, "final": final}
    task.y0, task.p, task.c, task.y = y0.data_ptr(), p.data_ptr(), c.data_ptr(), y.data_ptr()
    task.p_stride = p.shape[-1] if p.ndim == 2 else 0
    task.c_stride = c.shape[-1] if c.ndim == 2 else 0
    task.culprit, task.final = culprit.data_ptr(), final.data_ptr()
    row = lanes * 8
    task.accepted = base = counts.data_ptr()
    task.rejected, task.evaluations = base + row, base + 2 * row
    task.status = base = flags.data_ptr()
    task.stiff, task.reached = base + row // 2, reached.data_ptr()
    task.keep_states = task.keep_stages = int(keep)
    task.keep_slopes, task.stage_bytes = int(slopes or choices), STAGE_BYTES // lanes
    task.keep_choices = int(choices)
    if dp is not None:
        columns = torch.cat([dp.new_zeros(len(dp), width), dp], 1) if dp.numel() else None
        task.columns, task.dp = width + dp.shape[-1], None if columns is None else columns.data_ptr()
        run.held["columns"], run.held["sensitivity"] = (
            columns,
            torch.empty(task.times, lanes, width, task.columns, dtype=y0.dtype),
        )
        task.sensitivity = run.held["sensitivity"].data_ptr()
    task.tape = library.tape(lanes)
    if not task.tape or library.march(task):
        raise MemoryError("the native solve ran out of memory: use fewer samples, or the eager engine.")
    return run


def pull(run: Run, g: Tensor, parameters: int, need_times: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cotangents of y0 [L * N], parameters [L, P] and times [T, L] for that of the states g [T, L * N]."""
    task = run.task
    g = g.contiguous()
    ybar = torch.empty_like(run.held["y0"])
    pbar = torch.zeros(task.lanes, parameters, dtype=g.dtype)
    tbar = torch.zeros(task.times, task.lanes, dtype=torch.float64) if need_times or task.keep_choices else None
    task.g, task.ybar, task.pbar = g.data_ptr(), ybar.data_ptr(), pbar.data_ptr()
    task.tbar = None if tbar is None else tbar.data_ptr()
    task.vjps = task.replayed = 0
    if run.library.pull(task):
        raise MemoryError("the native backward pass ran out of memory: use fewer samples, or the eager engine.")
    return ybar, pbar, tbar
