"""Task structure: a problem's settings as the C code reads them."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.ode.control import Control, Fixed
from physid.ode.hearing import end_of
from physid.ode.methods.tableau import Tableau
from physid.ode.native.ear import clock
from physid.ode.native.structures import Task, method_of
from physid.ode.problem import ODEProblem
from physid.ode.request import Limits
from physid.ode.rhs import StateLayout

CORES = os.cpu_count() or 1


def threads() -> int:
    """Threads for the lanes of a batch: as many as torch computes with, and no more than there are cores."""
    return min(torch.get_num_threads(), CORES)


def settings_of(problem: ODEProblem) -> Task:
    """Method, controller, limits, tolerances and times of a problem; the arrays it points to hang on it as `held`.

    Made once for a plan.
    """
    kept: Task | None = problem.notes.get("settings")
    if kept is None:
        kept = problem.notes["settings"] = _settings(problem)
    kept.threads = 1 if kept.lanes == 1 else threads()
    end = end_of(problem.started, problem.limits.seconds)
    kept.until = 0.0 if end is None else clock() + end - time.perf_counter()
    return kept if problem.landings is None else _kept_clear(kept, problem)


def _kept_clear(settings: Task, problem: ODEProblem) -> Task:
    """The settings, with how far stage times stay away from the jumps."""
    clear = None if problem.landings is None else problem.landings.clear
    if clear is None or clear.numel() != problem.jumps.numel():
        return settings
    task = Task.from_buffer_copy(settings)
    clear = clear.reshape(problem.jumps.shape).contiguous()
    task.clear, task.held = clear.data_ptr(), (settings.held, clear)
    return task


def _settings(problem: ODEProblem) -> Task:
    p, layout = problem, problem.layout
    sizes = tuple(layout.sizes) if layout.is_tuple else (layout.width,)
    if isinstance(p.rtol, float) and isinstance(p.atol, float):
        template = _template(p.tableau, p.control, p.limits, sizes, layout.real, p.rtol, p.atol)
        task = Task.from_buffer_copy(template)
        held: list[Any] = [template.held]
    else:
        template = _template(p.tableau, p.control, p.limits, sizes, layout.real, 0.0, 0.0)
        task = Task.from_buffer_copy(template)
        held = [template.held, *(_by_component(value, layout) for value in (p.rtol, p.atol))]
        task.rtol, task.atol = (value.data_ptr() for value in held[1:])
        task.tolerance_stride = layout.width
    grid, stops = p.grid, p.stops
    task.lanes, task.times, task.stops = layout.lanes, len(grid), len(stops)
    task.direction, task.moving_stops = p.direction, int(p.moving_stops)
    task.time, task.stop = grid.data_ptr(), stops.data_ptr()
    task.time_row, task.time_lane = grid.stride()
    task.stop_row, task.stop_lane = stops.stride()
    jumps = p.jumps.contiguous()
    task.jumps, task.jump = len(jumps), jumps.data_ptr() or None
    task.jump_row, task.jump_lane = (1, 0) if jumps.ndim == 1 else jumps.stride()
    task.held = (held, grid, stops, jumps)
    return task


def _by_component(value: float | Tensor, layout: StateLayout) -> Tensor:
    """A tolerance [L * N]."""
    size = layout.lanes * layout.width
    return torch.as_tensor(value, dtype=layout.real).expand(size).contiguous()


@lru_cache(maxsize=64)
def _template(
    tableau: Tableau,
    control: Control,
    limits: Limits,
    sizes: tuple[int, ...],
    real: torch.dtype,
    rtol: float,
    atol: float,
) -> Task:
    """All that does not change from one solve to the next."""
    task = Task()
    task.method, arrays = method_of(tableau)
    if isinstance(control, Fixed):
        task.fixed = 1
    else:
        exponent = tableau.exponent
        task.safety, task.shrink, task.grow = control.safety, control.shrink, control.grow
        task.power0 = -(control.p + control.i + control.d) * exponent
        task.power1 = (control.p + 2 * control.d) * exponent if control.p or control.d else 0.0
        task.power2 = -control.d * exponent
        task.remembers = int(control.remembers)
    task.min_step, task.max_step = limits.min_step, limits.max_step
    task.first_step = limits.first_step or 0.0
    task.max_steps = min(limits.max_steps, 2**62)
    parts = np.array(sizes, np.int64)
    tolerances = [torch.full((sum(sizes),), value, dtype=real) for value in (rtol, atol)]
    task.parts, task.sizes = len(sizes), parts.ctypes.data
    task.rtol, task.atol = (value.data_ptr() for value in tolerances)
    task.held = (arrays, parts, tolerances)
    return task
