"""Runtime calls: the compiled forward solve, its pullback, and the steps it kept."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from physid.ode.eager.checkpoints import CAPPED, CUT, KEPT, LIMITED, Choices, Tape
from physid.ode.native.ear import answer, ending, owner, prick
from physid.ode.native.structures import CHOICE, LaneReport, LaneTape, Task

STAGE_BYTES = 64 * 2**20  # of stages kept for the backward pass, so that it need not evaluate them again


@dataclass
class Library:
    """The entry points of one compiled right-hand side; `spent`: seconds that its solves have taken."""

    march: Callable[[Any], int]
    pull: Callable[[Any], int]
    misfit: Callable[[Any], int]
    steps: Callable[..., None]
    grids: Callable[..., None]
    use_tangents: Callable[[Any], None]
    go: int  # the address of what ends a task
    spent: float = 0.0

    @staticmethod
    def of(library: ctypes.CDLL) -> Library:
        """Declare the functions of entry.c; RuntimeError when the structures do not agree."""

        def function(name: str, result: Any, *arguments: Any) -> Any:
            entry = getattr(library, f"physid_{name}")
            entry.restype, entry.argtypes = result, arguments
            return entry

        sizes = function("sizes", ctypes.c_int64, ctypes.c_int)
        if (sizes(0), sizes(4)) != (ctypes.sizeof(Task), ctypes.sizeof(LaneReport)):
            raise RuntimeError("the compiled runtime and its Python mirror disagree about the size of a task")
        task = ctypes.POINTER(Task)
        return Library(
            function("march", ctypes.c_int, task),
            function("pull", ctypes.c_int, task),
            function("misfit", ctypes.c_int, task),
            function("steps", None, task, ctypes.c_int64, ctypes.c_void_p),
            function("grids", None, task, ctypes.c_void_p),
            function("use_tangents", None, ctypes.c_void_p),
            ending(function("capsules", None, ctypes.c_void_p), library.physid_go),
        )


@dataclass(slots=True)
class NativeRun:
    """One solve: the task with what it points to, and the tape that C holds for it.

    `ends` [2, L * N]: what was not a number where a lane failed, and the last state of every lane; `columns`: what the
    tangents of the march began with, `tangents` [L, N, K] where they ended.
    """

    library: Library
    task: Task
    settings: Task
    y0: Tensor
    p: Tensor
    c: Tensor
    ends: Tensor
    reports: Any
    raw: Tensor | None = None
    columns: tuple[Tensor | None, ...] = ()
    tangents: Tensor | None = None

    def tape(self) -> Tape:
        """The accepted steps as the eager engine keeps them, for a replay from the first state."""
        task, y0 = self.task, self.y0
        width = y0.numel() // task.lanes
        tape = Tape(task.lanes, width, y0.dtype, y0.device, aware=bool(task.keep_choices))
        for lane in range(task.lanes):
            steps = self.reports[lane].accepted
            rows = torch.empty(steps, 6, dtype=torch.float64)
            self.library.steps(task, lane, rows.data_ptr())
            tape.meta.append(rows)
            if tape.choices is not None and steps:
                _keep_choices(tape.choices, ctypes.cast(task.tape, ctypes.POINTER(LaneTape))[lane].choice, steps)
        return tape

    def grids(self) -> list[Tensor]:
        """The accepted times of every lane."""
        sizes = [report.accepted + 1 for report in self.reports]
        times = torch.empty(sum(sizes), dtype=torch.float64)
        self.library.grids(self.task, times.data_ptr())
        return list(times.split(sizes))


def _keep_choices(choices: Choices, address: int, steps: int) -> None:
    """The choices of a lane without rejections that C holds at `address`, as the eager march keeps them."""
    table = np.frombuffer(ctypes.string_at(address, steps * CHOICE.itemsize), CHOICE)
    capped = (table["free"] == 0) & (table["factor"] == 1)
    named = {CUT: table["cut"], KEPT: table["keep"], LIMITED: table["limited"]}
    flags = {bit: torch.from_numpy(flag > 0) for bit, flag in (named | {CAPPED: capped}).items()}
    ratio = torch.from_numpy(np.ascontiguousarray(table["ratio"]))
    choices.keep(ratio, torch.zeros_like(ratio), flags)


def march(
    library: Library,
    settings: Task,
    y0: Tensor,
    p: Tensor,
    c: Tensor,
    raw: Tensor | None = None,
    *,
    keep: bool = False,
    slopes: bool = False,
    choices: bool = False,
    checkpoints: int | None = None,
    probes: Begun | None = None,
) -> tuple[NativeRun, Tensor]:
    """Solve all lanes: the run and the states [T, L * N]; `settings` holds everything but the values.

    `probes` are carried in the error norm. MemoryError when there is too little.
    """
    run, y = _prepared(library, settings, y0, p, c, raw)
    task = run.task
    task.keep_states, task.keep_stages = keep, keep and checkpoints is None
    task.most_states = checkpoints or 0
    task.keep_slopes, task.keep_choices = slopes or choices, choices
    if probes is not None:
        _probed(run, probes)
    _marched(run)
    return run, y


class Begun(NamedTuple):
    """Tangents at the start: of the states [L, N, K], of the prepared parameters [P, K] or [L, P, K]."""

    ds: Tensor
    dp: Tensor


def _probed(run: NativeRun, probes: Begun) -> None:
    """Let the march carry probes in its error norm."""
    ds, dp = (x.contiguous() for x in probes)
    task = run.task
    task.columns, task.controlled, task.ds = ds.shape[-1], 1, ds.data_ptr()
    if dp.numel():
        task.dp, task.dp_stride = dp.data_ptr(), dp[0].numel() if dp.ndim == 3 else 0
    run.columns, run.tangents = (ds, dp), torch.empty_like(ds)
    task.tangent = run.tangents.data_ptr()


def carry(
    library: Library,
    settings: Task,
    y0: Tensor,
    p: Tensor,
    c: Tensor,
    dp: Tensor,
    jumps: Tensor | None = None,
    sizes: Tensor | None = None,
) -> tuple[NativeRun, Tensor, Tensor]:
    """The same with derivatives [T, L, N, N + M] by the initial state and in the directions dp [P, M].

    `jumps` [J, L, N + M] are those of the times of jumps that move. With `sizes` [L, N + M] the columns,
    times these, are in the error norm.
    """
    run, y = _prepared(library, settings, y0, p, c, None)
    task = run.task
    lanes, width = task.lanes, y0.numel() // task.lanes
    columns = torch.cat([dp.new_zeros(len(dp), width), dp], 1) if dp.numel() else None
    task.columns, task.dp = width + dp.shape[-1], None if columns is None else columns.data_ptr()
    moves = None if jumps is None else jumps.double().contiguous()
    task.djump = None if moves is None else moves.data_ptr()
    run.columns = (columns, moves, sizes)
    if sizes is not None:
        task.controlled, task.size, task.size_stride = 1, sizes.data_ptr(), sizes.shape[-1]
    by_all = torch.empty(task.times, lanes, width, task.columns, dtype=y0.dtype)
    task.sensitivity = by_all.data_ptr()
    _marched(run)
    return run, y, by_all


def _prepared(
    library: Library, settings: Task, y0: Tensor, p: Tensor, c: Tensor, raw: Tensor | None
) -> tuple[NativeRun, Tensor]:
    """A run that is to start, and the place of its states."""
    task = Task.from_buffer_copy(settings)
    task.owner = owner(task, library.go)
    lanes, size = task.lanes, y0.numel()
    y, ends = y0.new_empty(task.times, size), y0.new_empty(2, size)
    reports = (LaneReport * lanes)()
    task.y0, task.p, task.c, task.y = y0.data_ptr(), p.data_ptr(), c.data_ptr(), y.data_ptr()
    if p.ndim == 2:
        task.p_stride = p.shape[-1]
    if c.ndim == 2:
        task.c_stride = c.shape[-1]
    task.culprit = first = ends.data_ptr()
    task.final = first + size * y0.itemsize
    task.report, task.stage_bytes = ctypes.addressof(reports), STAGE_BYTES // lanes
    return NativeRun(library, task, settings, y0, p, c, ends, reports, raw), y


def _marched(run: NativeRun) -> None:
    if _ran(run, run.library.march):
        raise MemoryError("the native solve ran out of memory: use fewer samples, or the eager engine.")


def _ran(run: NativeRun, entry: Callable[[Any], int]) -> int:
    """What an entry point returns for the run's task. Errors: what was heard while it ran."""
    prick(run.task)
    began = time.perf_counter()
    state = entry(run.task)
    run.library.spent += time.perf_counter() - began
    answer(run.task)
    return state


def misfit(
    library: Library,
    settings: Task,
    y0: Tensor,
    p: Tensor,
    c: Tensor,
    raw: Tensor,
    target: Tensor,
    weight: Tensor | None,
    probes: Begun | None = None,
) -> tuple[NativeRun, Tensor, Tensor, Tensor | None]:
    """Solve, sum weight (y - target)^2 into the task's total, and pull it back: run, residuals, cotangents.

    Cotangents of y0 [L * N] and of the parameters [L, P], the latter None where a lane failed; the residuals [T, L * N]
    are those of the sum's derivative.
    """
    run, y = _prepared(library, settings, y0, p, c, raw)
    task, target = run.task, target.contiguous()
    weight = None if weight is None else weight.contiguous()
    ybar, pbar = torch.empty_like(y0), y0.new_zeros(task.lanes, p.shape[-1])
    task.keep_states = task.keep_stages = 1
    task.target, task.weight = target.data_ptr(), None if weight is None else weight.data_ptr()
    task.g, task.ybar, task.pbar = task.y, ybar.data_ptr(), pbar.data_ptr()
    if probes is not None:
        _probed(run, probes)
    state = _ran(run, library.misfit)
    if state == 1:
        raise MemoryError("the native solve ran out of memory: use fewer samples, or the eager engine.")
    return run, y, ybar, None if state else pbar


def pull(
    run: NativeRun, g: Tensor, parameters: int, need_times: bool, need_jumps: bool = False
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Cotangents of y0 [L * N], parameters [L, P], times [T, L], jumps [J, L], for that g [T, L * N] of the states."""
    task, g = run.task, g.contiguous()
    ybar, pbar = torch.empty_like(run.y0), g.new_zeros(task.lanes, parameters)
    tbar = torch.zeros(task.times, task.lanes, dtype=torch.float64) if need_times or task.keep_choices else None
    task.g, task.ybar, task.pbar = g.data_ptr(), ybar.data_ptr(), pbar.data_ptr()
    task.tbar = None if tbar is None else tbar.data_ptr()
    jbar = torch.zeros(task.jumps, task.lanes, dtype=torch.float64) if need_jumps else None
    task.jbar = None if jbar is None else jbar.data_ptr()
    task.vjps = task.replayed = 0
    if _ran(run, run.library.pull):
        raise MemoryError("the native backward pass ran out of memory: use fewer samples, or the eager engine.")
    return ybar, pbar, tbar, jbar
