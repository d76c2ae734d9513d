"""A posed problem's settings as the C structure reads them."""

from __future__ import annotations

import os

import numpy as np
import torch

from physid.ode.control import Fixed
from physid.ode.native.runtime import Task, method_of
from physid.ode.problem import Problem


def threads() -> int:
    """Threads for the lanes of a batch: as many as torch computes with, and no more than there are cores."""
    return min(torch.get_num_threads(), os.cpu_count() or 1)


def settings_of(problem: Problem) -> Task:
    """Method, controller, limits, tolerances and times of a problem; the arrays it points to hang on it as `held`."""
    p, layout = problem, problem.layout
    task = Task()
    task.method, arrays = method_of(p.tableau)
    if isinstance(p.control, Fixed):
        task.fixed = 1
    else:
        control, exponent = p.control, p.tableau.exponent
        task.safety, task.shrink, task.grow = control.safety, control.shrink, control.grow
        task.power0 = -(control.p + control.i + control.d) * exponent
        task.power1 = (control.p + 2 * control.d) * exponent if control.p or control.d else 0.0
        task.power2 = -control.d * exponent
        task.remembers = int(control.remembers)
    limits = p.limits
    task.min_step, task.max_step = limits.min_step, limits.max_step
    task.first_step, task.seconds = limits.first_step or 0.0, limits.seconds or 0.0
    task.max_steps = min(limits.max_steps, 2**62)
    sizes = np.array(layout.sizes if layout.is_tuple else [layout.width], np.int64)
    single = isinstance(p.rtol, float) and isinstance(p.atol, float)
    count = layout.width if single else layout.width * layout.lanes
    real = np.float32 if layout.real is torch.float32 else np.float64
    tolerances = [
        np.full(count, value, real) if isinstance(value, float) else np.ascontiguousarray(value.numpy(), real)
        for value in (p.rtol, p.atol)
    ]
    task.parts, task.sizes = len(sizes), sizes.ctypes.data
    task.rtol, task.atol = (value.ctypes.data for value in tolerances)
    task.tolerance_stride = 0 if single else layout.width
    grid, stops = p.grid, p.stops
    task.lanes, task.times, task.stops = layout.lanes, len(grid), len(stops)
    task.direction, task.moving_stops = p.direction, int(p.moving_stops)
    task.time, task.stop = grid.data_ptr(), stops.data_ptr()
    task.time_row, task.time_lane = grid.stride()
    task.stop_row, task.stop_lane = stops.stride()
    task.threads = threads()
    task.held = (arrays, sizes, tolerances, grid, stops)
    return task
