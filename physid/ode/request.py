"""Solve request: the arguments of a solve that depend neither on f nor on numbers, checked once and reused."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode import control as controls
from physid.ode.caching import Cache
from physid.ode.control import Control, Fixed
from physid.ode.methods import catalogue
from physid.ode.probes import Probes, check
from physid.ode.rhs import State, StateLayout
from physid.ode.tolerances import finite_tolerance
from physid.ode.torch_internals import transforms_active

Norm = Callable[[State], Tensor]
Tolerance = float | Tensor | Sequence[Any]  # numbers, or numbers nested as the state is
NO_TIMES = torch.empty(0, dtype=torch.float64)
MOST_STEPS = 100_000  # of a solve, unless more are asked for
LARGEST = 2**62  # of a whole number
COARSE = 1e-4  # of the span, between the times that f can tell apart
MOST_PLANS, MOST_TIMES = 64, 100_000  # plans that are kept, and the times of one


@dataclass(frozen=True)
class Limits:
    """Bounds on the steps and on the work; times in the unit of t, `seconds` of wall clock."""

    first_step: float | None = None
    min_step: float = 0.0
    max_step: float = math.inf
    max_steps: int = MOST_STEPS
    seconds: float | None = None

    def __post_init__(self) -> None:
        bad = [
            f"{name}={str(value)[:40]}"
            for name, value, fine in (
                ("first_step", self.first_step, self.first_step is None or 0 < self.first_step < math.inf),
                ("min_step", self.min_step, self.min_step >= 0),
                ("max_step", self.max_step, self.max_step > 0),
                ("max_steps", self.max_steps, self.max_steps > 0),
                ("time_limit", self.seconds, self.seconds is None or self.seconds > 0),
            )
            if not fine or (isinstance(value, int) and value > LARGEST)
        ]
        if bad or self.min_step > self.max_step:
            raise InputError(
                f"step limits {', '.join(bad) or 'min_step > max_step'}: they must be positive, at most 2^62 if whole "
                "numbers, and in order."
            )

    def bind(self, h: Tensor) -> Tensor:
        """Mask of wanted signed lengths that are shorter or longer than a step may be."""
        return (h.abs() < self.min_step) | (h.abs() > self.max_step)


NO_LIMITS = Limits()


@dataclass(frozen=True)
class SolveOptions:
    """Options of a solve: the arguments of a solve but f, y0, t and the parameters."""

    solver: str | catalogue.Tableau
    rtol: Tolerance
    atol: Tolerance
    control: Control | str | None = None
    batched: bool = False
    exact: bool = False
    limits: Limits = NO_LIMITS
    norm: Norm | None = None
    stops: Tensor | None = None
    jumps: Tensor | None = None
    perturb: bool = False
    probes: Probes | None = None

    @cached_property
    def key(self) -> Hashable | None:
        """Arguments that must be equal, beside stops and jumps, for a plan to serve again; None without a key."""
        if not (is_plain(self.rtol) and is_plain(self.atol) and self.norm is None):
            return None
        solver = self.solver if isinstance(self.solver, str) else id(self.solver)
        steps = (self.control, self.batched, self.exact, self.limits, self.perturb, self.probes)
        return solver, self.rtol, self.atol, *steps


def is_plain(tolerance: object) -> bool:
    """Whether a tolerance is a number, or a tuple of numbers, by which a plan can be found again."""
    if type(tolerance) is tuple:
        return all(map(is_plain, tolerance))
    return type(tolerance) is float


@dataclass(frozen=True)
class SolvePlan:
    """The checked arguments of a solve; `grid` [T, L] are the asked times, `stops` [P, L] those to land on.

    f jumps at the times `jumps` [J], or [J, L] where every lane has its own.
    `notes` is for what an engine derives from them.
    """

    layout: StateLayout
    grid: Tensor
    direction: int
    tableau: catalogue.Tableau
    control: Control
    rtol: float | Tensor
    atol: float | Tensor
    norm: Norm | None
    limits: Limits
    stops: Tensor
    jumps: Tensor
    moving_stops: bool
    relative: bool = False  # atol is 0 somewhere, and counts
    probes: Probes | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kept:
    """A plan with the tensors that it was made from."""

    plan: SolvePlan
    times: Tensor
    asked: SolveOptions

    def serves(self, times: Tensor, asked: SolveOptions) -> bool:
        """Whether these are the same numbers."""
        return torch.equal(self.times, times) and (
            asked is self.asked or (_alike(self.asked.stops, asked.stops) and _alike(self.asked.jumps, asked.jumps))
        )


def _alike(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether these are the same numbers, or both none."""
    return torch.equal(a, b) if a is not None and b is not None else a is b


_PLANS: Cache[Hashable, _Kept] = Cache(MOST_PLANS)


def plan_of(y0: State, t: Tensor | Sequence[float], asked: SolveOptions) -> tuple[SolvePlan, Tensor]:
    """The plan of a solve and its times, with their graph; InputError says what cannot work."""
    times = _as_times(t)
    key = _key(y0, times, asked)
    kept = None if key is None else _PLANS.get(key)
    if kept is not None and kept.serves(times, asked):
        return kept.plan, times
    layout = StateLayout(y0, asked.batched)
    check_times(times, layout)
    if key is None or times.numel() > MOST_TIMES:
        return _planned(layout, times.detach(), asked), times
    copy = times.detach().clone()
    plan = _planned(layout, copy, asked)
    _PLANS.put(key, _Kept(plan, copy, _copied(asked)))
    return plan, times


def _copied(asked: SolveOptions) -> SolveOptions:
    """The same options, whose times nobody else can change; itself where there are none."""
    if asked.stops is None and asked.jumps is None:
        return asked
    stops, jumps = (None if x is None else x.detach().clone() for x in (asked.stops, asked.jumps))
    return replace(asked, stops=stops, jumps=jumps)


def _key(y0: State, times: Tensor, asked: SolveOptions) -> Hashable | None:
    """The key of a remembered plan; None where none can be remembered."""
    if transforms_active():
        return None
    options = asked.key
    if isinstance(y0, Tensor):
        kind: Any = (y0.shape, y0.dtype, y0.device)
    elif isinstance(y0, tuple) and all(isinstance(part, Tensor) for part in y0):
        kind = tuple((part.shape, part.dtype, part.device) for part in y0)
    else:
        return None
    return None if options is None else (options, kind, times.shape)


def _planned(layout: StateLayout, times: Tensor, asked: SolveOptions) -> SolvePlan:
    """The plan for checked times [T] or [T, L] without a graph."""
    w = asked
    tableau = catalogue.lookup(w.solver) if isinstance(w.solver, str) else w.solver
    chosen = resolve_control(tableau, controls.lookup(w.control))
    if w.norm is not None and w.batched:
        raise InputError("norm with batched=True: every sample is measured by its own rms; leave norm out.")
    if w.probes is not None:
        check(w.probes, isinstance(chosen, Fixed) or not tableau.adaptive, layout.dtype)
    grid = times.reshape(times.shape[0], -1).expand(-1, layout.lanes)
    direction = -1 if bool((grid[-1] < grid[0]).any()) else 1
    fixed, step = isinstance(chosen, Fixed), chosen.step if isinstance(chosen, Fixed) else None
    landing = [grid[1:]] if w.exact or (fixed and step is None and w.stops is None) else []
    if step is not None:
        landing.append(fixed_grid(grid, step, direction))
    moving = bool(landing) and fixed and step is None
    for extra in (w.stops, w.jumps):
        if extra is not None and extra.numel():
            own = extra.ndim == 2 and extra.shape[1] == layout.lanes
            rows = extra.detach().to("cpu", torch.float64)
            landing.append(rows if own else rows.reshape(-1, 1).expand(-1, layout.lanes))
    stops = _ordered([*landing, grid[-1:]], grid, direction) if landing else grid[-1:]
    jumps = w.jumps if not w.perturb else torch.cat([grid[:1], stops])
    rtol, atol = _tolerance("rtol", w.rtol, layout), _tolerance("atol", w.atol, layout)
    relative = not fixed and bool((torch.as_tensor(atol) == 0).any())
    if relative and bool(((torch.as_tensor(atol) == 0) & (torch.as_tensor(rtol) == 0)).any()):
        raise InputError("rtol and atol are both 0: no step is that exact. Give one of them a positive value.")
    _warn_of_resolution(grid, layout.real)
    return SolvePlan(
        layout=layout,
        grid=grid,
        direction=direction,
        tableau=tableau,
        control=chosen,
        rtol=rtol,
        atol=atol,
        norm=w.norm,
        limits=w.limits,
        stops=stops,
        jumps=NO_TIMES if jumps is None else _jumps(jumps, layout.lanes if w.batched and not w.perturb else 1),
        moving_stops=moving,
        relative=relative,
        probes=w.probes,
    )


def _jumps(times: Tensor, lanes: int) -> Tensor:
    """Times of jumps in order: [J], or [J, L] where every lane has its own."""
    rows = times.detach().cpu().double()
    return rows.sort(0).values if rows.ndim == 2 and rows.shape[1] == lanes > 1 else rows.reshape(-1).sort().values


def _warn_of_resolution(grid: Tensor, real: torch.dtype) -> None:
    """Warn where f, whose t has the state's precision, sees only a few different times."""
    span, far = float((grid[-1] - grid[0]).abs().max()), float(grid.abs().max())
    between = far * torch.finfo(real).eps
    if span > 0 and between > COARSE * span:
        warnings.warn(
            f"times near {far:.6g} over a span of {span:.3g} with {str(real).removeprefix('torch.')} states: f sees t "
            f"in steps of {between:.2g}. Let t begin near 0, or use float64 states, if f depends on t.",
            stacklevel=2,
        )


def read_times(t: Tensor | Sequence[float], layout: StateLayout | None = None) -> Tensor:
    """t as float64 on the host, [T] or per lane [T, L], strictly checked; keeps its graph."""
    times = _as_times(t)
    check_times(times, layout)
    return times


def _as_times(t: Tensor | Sequence[float]) -> Tensor:
    """t as float64 on the host."""
    try:
        times = t if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"t is a {type(t).__name__} that holds no numbers: expected a tensor or a sequence."
        ) from error
    if times.dtype is torch.float64 and times.device.type == "cpu":
        return times
    if times.is_complex() or times.dtype == torch.bool:
        raise InputError(f"t has dtype {times.dtype}: expected real numbers.")
    return times.to("cpu", torch.float64)


def check_times(times: Tensor, layout: StateLayout | None) -> None:
    """InputError unless the times [T] or [T, L] are finite and in order."""
    batched = layout is not None and layout.batched
    allowed = "[T] or [T, samples]" if batched else "[T]"
    if times.ndim != 1 and not (layout and batched and times.ndim == 2 and times.shape[1] == layout.lanes):
        raise InputError(f"t has shape {tuple(times.shape)}: expected {allowed}.")
    if times.shape[0] == 0:
        raise InputError("t is empty: give the start time and the times at which states are wanted.")
    values = np.asarray(times.tolist()) if transforms_active() else times.detach().numpy()
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


def resolve_control(tableau: catalogue.Tableau, control: Control | None) -> Control:
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


def _tolerance(name: str, value: Tolerance, layout: StateLayout) -> float | Tensor:
    value = finite_tolerance(name, value)
    if isinstance(value, float):
        return value
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
    sizes = zip(reversed(tensor.shape), reversed(shape), strict=False)  # torch.broadcast_shapes imports for a second
    if layout.is_tuple or tensor.ndim > len(shape) or any(own not in (1, whole) for own, whole in sizes):
        raise InputError(f"{name} of shape {tuple(tensor.shape)} does not fit the state of shape {tuple(shape)}.")
    return tensor.expand(shape).reshape(-1)


def _ordered(parts: list[Tensor], grid: Tensor, direction: int) -> Tensor:
    """Landing times strictly inside (t0, t1], in order along the march, padded with the end [P, L]."""
    joined = torch.cat(parts) * direction
    low, high = grid[0] * direction, grid[-1] * direction
    joined = torch.where((joined > low) & (joined <= high), joined, high)
    return joined.sort(dim=0).values * direction
