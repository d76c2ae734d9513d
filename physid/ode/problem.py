"""An initial value problem after every argument has been checked: what march, gradients and events work on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode import control as controls
from physid.ode import tableaus
from physid.ode.control import Control, Fixed, rms
from physid.ode.field import Field, Layout, RightHandSide, State
from physid.ode.stages import Coefficients, StageTimes, inward

Norm = Callable[[State], Tensor]
Tolerance = float | Tensor | Sequence[float]
NO_TIMES = torch.empty(0, dtype=torch.float64)
CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")


@dataclass(frozen=True)
class Limits:
    """Bounds on the steps and on the work; times in the unit of t, `seconds` of wall clock."""

    first_step: float | None = None
    min_step: float = 0.0
    max_step: float = math.inf
    max_steps: int = 100_000
    seconds: float | None = None

    def __post_init__(self) -> None:
        bad = [
            f"{name}={value}"
            for name, value, fine in (
                ("first_step", self.first_step, self.first_step is None or 0 < self.first_step < math.inf),
                ("min_step", self.min_step, self.min_step >= 0),
                ("max_step", self.max_step, self.max_step > 0),
                ("max_steps", self.max_steps, self.max_steps > 0),
                ("time_limit", self.seconds, self.seconds is None or self.seconds > 0),
            )
            if not fine
        ]
        if bad or self.min_step > self.max_step:
            raise InputError(
                f"step limits {', '.join(bad) or 'min_step > max_step'}: they must be positive and in order."
            )


@dataclass
class Problem:
    """dy/dt = f(t, y), y(t[0]) = y0 on flat states [L * N], with the times of lane l in grid[:, l].

    `recalled` is what a compiled engine remembers of f, which then need not be looked at again: field, slope and
    coefficients are made when they are asked for.
    """

    f: RightHandSide
    named: Sequence[Tensor] | None
    layout: Layout
    y0: Tensor
    t: Tensor
    grid: Tensor
    direction: int
    tableau: tableaus.Tableau
    control: Control
    rtol: float | Tensor
    atol: float | Tensor
    norm: Norm | None
    limits: Limits
    stops: Tensor
    jumps: Tensor
    captured: list[Tensor]
    moving_stops: bool
    started: float
    callbacks: dict[str, Callable[..., object]]
    recalled: Any = None
    slope: Tensor | None = None

    @cached_property
    def field(self) -> Field:
        """f on flat states."""
        return Field(self.f, self.layout, self.named)

    @cached_property
    def coefficients(self) -> Coefficients:
        """The method's numbers as tensors."""
        return Coefficients.of(self.tableau, self.layout)

    @property
    def derivative(self) -> Tensor:
        """f at the start [L * N]."""
        if self.slope is None:
            self.slope, _ = self.probe()
        return self.slope

    def but(self, **changes: Any) -> Problem:
        """The same problem with some values changed, and the same field."""
        other = replace(self, **changes)
        other.field = self.field
        return other

    def probe(self) -> tuple[Tensor, list[Tensor]]:
        """The first evaluation, and the tensors that f depends on."""
        return self.field.probe(self.times.start, self.y0)

    @property
    def times(self) -> StageTimes:
        """Stage times within the interval."""
        return StageTimes(self.layout, self.grid[0], self.grid[-1])

    def edges(self, t: Tensor, end: Tensor) -> tuple[Tensor, ...]:
        """Bounds for stage times that stay clear of a jump at either end of the steps [t, end]; none without jumps."""
        if not len(self.jumps):
            return ()
        low, high = torch.minimum(t, end).detach(), torch.maximum(t, end).detach()
        real = self.layout.real
        up, down = torch.tensor(math.inf, dtype=real), torch.tensor(-math.inf, dtype=real)
        (at_low, first), (at_high, last) = self._jump_at(low), self._jump_at(high)
        inner_low = torch.where(at_low, torch.nextafter(inward(first, real, up=True), up), down)
        inner_high = torch.where(at_high, torch.nextafter(inward(last, real, up=False), down), up)
        return inner_low, inner_high

    def _jump_at(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Whether these times are jumps, and the jumps; a time that was summed from a step may be off by round-off."""
        place = torch.searchsorted(self.jumps, time.contiguous()).clamp(max=len(self.jumps) - 1)
        before, after = self.jumps[(place - 1).clamp(min=0)], self.jumps[place]
        near = torch.where((time - before).abs() < (time - after).abs(), before, after)
        return (near - time).abs() <= 4 * torch.finfo(torch.float64).eps * torch.maximum(near.abs(), time.abs()), near

    def size(self, error: Tensor) -> Tensor:
        """The norm of a scaled error [L * N] per lane: rms, the largest over a tuple's parts, or the user's."""
        if self.norm is not None:
            return self.norm(self.layout.unpack(error)).reshape(1)
        rows = error.view(self.layout.lanes, self.layout.width)
        if not self.layout.is_tuple:
            return rms(rows)
        return torch.stack([rms(part) for part in rows.split(self.layout.sizes, dim=-1)]).amax(0)


NO_LIMITS = Limits()
Recall = Callable[[Problem], "tuple[list[Tensor], Any] | None"]


def pose(
    f: RightHandSide,
    y0: State,
    t: Tensor | Sequence[float],
    *,
    solver: str | tableaus.Tableau,
    rtol: Tolerance,
    atol: Tolerance,
    control: Control | str | None = None,
    params: Sequence[Tensor] | None = None,
    batched: bool = False,
    exact: bool = False,
    limits: Limits | None = None,
    norm: Norm | None = None,
    stops: Tensor | None = None,
    jumps: Tensor | None = None,
    perturb: bool = False,
    recall: Recall | None = None,
) -> Problem:
    """Check the arguments of a solve and evaluate f once; InputError says what cannot work.

    `recall` may know f from an earlier solve and give the tensors that it depends on, with what it remembers.
    """
    started = time.perf_counter()
    layout = Layout(y0, batched)
    times = read_times(t, layout)
    tableau = tableaus.lookup(solver) if isinstance(solver, str) else solver
    chosen = resolve_control(tableau, controls.lookup(control))
    if norm is not None and batched:
        raise InputError("norm with batched=True: every sample is measured by its own rms; leave norm out.")
    grid = times.detach().reshape(times.shape[0], -1).expand(-1, layout.lanes)
    direction = -1 if bool((grid[-1] < grid[0]).any()) else 1
    landing = [grid[1:]] if exact or (isinstance(chosen, Fixed) and chosen.step is None and stops is None) else []
    if isinstance(chosen, Fixed) and chosen.step is not None:
        landing.append(fixed_grid(grid, chosen.step, direction))
    moving = bool(landing) and isinstance(chosen, Fixed) and chosen.step is None
    for extra in (stops, jumps):
        if extra is not None and extra.numel():
            landing.append(extra.detach().to("cpu", torch.float64).reshape(-1, 1).expand(-1, layout.lanes))
    all_stops = _ordered([*landing, grid[-1:]], grid, direction) if landing else grid[-1:]
    jumpy = (
        torch.cat([grid[:1], all_stops])
        if perturb
        else (NO_TIMES if jumps is None else jumps.detach().cpu().double().reshape(-1))
    )
    problem = Problem(
        f=f,
        named=params,
        layout=layout,
        y0=layout.pack(y0),
        t=times,
        grid=grid,
        direction=direction,
        tableau=tableau,
        control=chosen,
        rtol=_tolerance("rtol", rtol, layout),
        atol=_tolerance("atol", atol, layout),
        norm=norm,
        limits=limits or NO_LIMITS,
        stops=all_stops,
        jumps=jumpy.reshape(-1).sort().values if len(jumpy) else NO_TIMES,
        captured=[],
        moving_stops=moving,
        started=started,
        callbacks={},
    )
    found = recall(problem) if recall else None
    if found is not None:
        problem.captured, problem.recalled = found
        return problem
    problem.slope, problem.captured = problem.probe()
    problem.callbacks = {name: getattr(f, name) for name in CALLBACKS if callable(getattr(f, name, None))}
    return problem


def read_times(t: Tensor | Sequence[float], layout: Layout | None = None) -> Tensor:
    """t as float64 on the host, [T] or per lane [T, L], strictly checked; keeps its graph."""
    try:
        times = t if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"t is a {type(t).__name__} that holds no numbers: a tensor or a sequence is allowed."
        ) from error
    if times.is_complex() or times.dtype == torch.bool:
        raise InputError(f"t has dtype {times.dtype}: real numbers are allowed.")
    times = times.to("cpu", torch.float64)
    batched = layout is not None and layout.batched
    allowed = "[T] or [T, samples]" if batched else "[T]"
    if times.ndim != 1 and not (layout and batched and times.ndim == 2 and times.shape[1] == layout.lanes):
        raise InputError(f"t has shape {tuple(times.shape)}: {allowed} is allowed.")
    if times.shape[0] == 0:
        raise InputError("t is empty: give the start time and the times at which states are wanted.")
    values = np.asarray(times.tolist()) if torch._C._are_functorch_transforms_active() else times.detach().numpy()
    if not np.isfinite(values).all():
        raise InputError("t holds a value that is not finite: every time must be a finite number.")
    rows = values.reshape(len(values), -1)
    steps = rows[1:] - rows[:-1]
    wrong = (steps < 0) if (values[-1] > values[0]).any() else (steps > 0)
    if wrong.any():
        row, lane = (int(index) for index in np.argwhere(wrong)[0])
        before, after = rows[row : row + 2, lane].tolist()
        raise InputError(
            f"t is not ordered: entry {row + 1} turns back from {before:g} to {after:g}. Times must rise or fall (equal"
            " ones are fine): sort them."
        )
    return times


def resolve_control(tableau: tableaus.Tableau, control: Control | None) -> Control:
    """The controller that was asked for, or the method's natural one."""
    if control is None:
        return controls.CONTROLS["i"] if tableau.adaptive else Fixed()
    if not tableau.adaptive and not isinstance(control, Fixed):
        raise InputError(
            f"solver '{tableau.name}' has no error estimate, so controller '{control.name}' cannot choose its steps: "
            "use control='fixed' or an adaptive solver such as 'dopri5'."
        )
    return control


def fixed_grid(grid: Tensor, step: float, direction: int) -> Tensor:
    """t0 + i h for every lane, up to the end [P, L]."""
    count = math.ceil(float((grid[-1] - grid[0]).abs().max()) / step - 1e-9)
    return grid[:1] + direction * step * torch.arange(1, max(count, 1), dtype=torch.float64)[:, None]


def with_interpolation(tableau: tableaus.Tableau, kind: str) -> tableaus.Tableau:
    """The same method with another dense output: 'linear', or 'cubic' (Hermite, with the slope at the end)."""
    b = tableau.b
    if kind == "linear":
        dense = tuple((weight,) for weight in b)
        return replace(tableau, dense=dense, dense_order=1, extra_c=(), extra_a=())
    rows = [[0.0, 3 * weight, -2 * weight] for weight in b]
    rows[0] = [rows[0][0] + 1.0, rows[0][1] - 2.0, rows[0][2] + 1.0]
    end = (0.0, -1.0, 1.0)
    if tableau.fsal:
        rows[-1] = [x + y for x, y in zip(rows[-1], end, strict=True)]
        return replace(tableau, dense=tuple(tuple(row) for row in rows), dense_order=3, extra_c=(), extra_a=())
    hermite = (*(tuple(row) for row in rows), end)
    return replace(tableau, dense=hermite, dense_order=3, extra_c=(1.0,), extra_a=(b,))


def _tolerance(name: str, value: Tolerance, layout: Layout) -> float | Tensor:
    if isinstance(value, int | float):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name}={value}: a tolerance must be a finite number that is not negative.")
        return float(value)
    tensor = torch.as_tensor(value, dtype=layout.real, device=layout.device)
    if not bool((torch.isfinite(tensor) & (tensor >= 0)).all()):
        raise InputError(
            f"{name} holds a negative or not finite value: every tolerance must be finite and not negative."
        )
    if layout.is_tuple and tensor.numel() == len(layout.shapes) and tensor.ndim == 1:
        return torch.cat([part.expand(size) for part, size in zip(tensor, layout.sizes, strict=True)]).repeat(
            layout.lanes
        )
    shape = layout.shapes[0]
    if layout.is_tuple or torch.broadcast_shapes(tensor.shape, shape) != shape:
        raise InputError(f"{name} of shape {tuple(tensor.shape)} does not fit the state of shape {tuple(shape)}.")
    return tensor.expand(shape).reshape(-1)


def _ordered(parts: list[Tensor], grid: Tensor, direction: int) -> Tensor:
    """Landing times strictly inside (t0, t1], in order along the march, padded with the end [P, L]."""
    joined = torch.cat(parts) * direction
    low, high = grid[0] * direction, grid[-1] * direction
    joined = torch.where((joined > low) & (joined <= high), joined, high)
    return joined.sort(dim=0).values * direction
