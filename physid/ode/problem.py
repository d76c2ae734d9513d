"""Problem: an initial value problem with every argument checked, as march, gradients and events use it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.control import Control, rms
from physid.ode.eager.stages import Coefficients, Stages, StageTimes, inward
from physid.ode.jumps import Jumps
from physid.ode.methods import catalogue
from physid.ode.probes import Probes
from physid.ode.reads import driven_by, jumps_of
from physid.ode.request import Limits, Norm, SolveOptions, plan_of
from physid.ode.rhs import Field, RightHandSide, State, StateLayout, attribute, layout_of, made_from

Recall = Callable[[RightHandSide, "Sequence[Tensor] | None", StateLayout], "tuple[list[Tensor], Any] | None"]
CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")


@dataclass
class ODEProblem:
    """dy/dt = f(t, y), y(t[0]) = y0 on flat states [L * N], with the times of lane l in grid[:, l].

    `origin` is y0 as it was given; `unknowns` are the captured tensors, in which `probes` have directions, also where a
    gradient leaves them out of `captured`. `engine` is what carries it out, where that is known: one that remembers f
    need not look at it again, and field, slope and coefficients are made when they are asked for. `notes` are kept with
    the plan, for every solve of its kind.
    """

    f: RightHandSide
    named: Sequence[Tensor] | None
    layout: StateLayout
    y0: Tensor
    t: Tensor
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
    captured: list[Tensor]
    moving_stops: bool
    started: float
    callbacks: dict[str, Callable[..., object]]
    notes: dict[str, Any]
    landings: Jumps | None = None
    origin: State = ()
    engine: Any = None
    recall: Recall | None = None
    slope: Tensor | None = None
    probes: Probes | None = None
    unknowns: Sequence[Tensor] = ()

    @cached_property
    def field(self) -> Field:
        """f on flat states."""
        return Field(self.f, self.layout, self.named)

    @cached_property
    def entangled(self) -> bool:
        """Whether f uses a tensor and another one made from it, so that their graphs run into each other."""
        return any(made_from(self.captured))

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

    def counted(self) -> int:
        """Number of evaluations of f by torch for this problem since the last call."""
        found = self.__dict__.get("field")
        count = 0 if found is None else found.count - found.told
        if found is not None:
            found.told = found.count
        return count

    def but(self, **changes: Any) -> ODEProblem:
        """The same problem with some values changed, and the same field."""
        other = replace(self, **changes)
        other.field = self.field
        return other

    def at(self, y0: Tensor, captured: Sequence[Tensor]) -> ODEProblem:
        """The same problem with other numbers: y0 [L * N], and others in the place of the captured tensors."""
        values = [new.detach() for new in captured]
        other = replace(self, y0=y0.detach(), captured=values, unknowns=values, slope=None, started=time.perf_counter())
        if any(new is not old for new, old in zip(captured, self.captured, strict=True)):
            other.field = self.field.exchanged(self.captured, values)
        else:
            other.field = self.field
        return other

    def posed(self, f: RightHandSide, y0: State, t: Tensor | Sequence[float], **changes: Any) -> ODEProblem:
        """Another problem, solved in the same way but for the `changes`, options of `pose`; its f captures nothing."""
        least = {"rtol": self.rtol, "atol": self.atol}
        how: dict[str, Any] = {name: float(torch.as_tensor(value).min()) for name, value in least.items()}
        how |= {"solver": self.tableau, "control": self.control, "limits": self.limits}
        return pose(f, y0, t, **(how | {"params": [], "recall": self.recall} | changes))

    @property
    def inputs(self) -> list[Tensor]:
        """Inputs of the states: y0 [L * N], t, the captured tensors, and the times of jumps that move."""
        return [self.y0, self.t, *self.captured, *([] if self.moved is None else [self.moved])]

    def probe(self) -> tuple[Tensor, list[Tensor]]:
        """The first evaluation, and the tensors that f depends on."""
        return self.field.probe(self.start, self.y0)

    @property
    def start(self) -> Tensor:
        """The first time at which f is evaluated, clear of a jump there, in the shape of a stage time."""
        clear, still = self.edges(self.grid[0], self.grid[-1]), torch.zeros(1, dtype=torch.float64)
        return self.times(still, self.grid[0], still, *clear)[0]

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
        (at_low, first, clear_low), (at_high, last, clear_high) = self._jump_at(low), self._jump_at(high)
        inner_low = torch.nextafter(inward(first, real, up=True), up)
        inner_high = torch.nextafter(inward(last, real, up=False), down)
        if self._clear is not None:
            inner_low = torch.maximum(inner_low, inward(first + clear_low, real, up=True))
            inner_high = torch.minimum(inner_high, inward(last - clear_high, real, up=False))
        return torch.where(at_low, inner_low, down), torch.where(at_high, inner_high, up)

    @property
    def moved(self) -> Tensor | None:
        """The times [J, L or 1] of jumps that unknowns move, with their graph; None where they stay."""
        return None if self.landings is None else self.landings.moved

    @property
    def _clear(self) -> Tensor | None:
        """Distance of stage times from the jumps [J] or [J, L]."""
        clear = None if self.landings is None else self.landings.clear
        return None if clear is None else clear.view(self.jumps.shape)

    def _jump_at(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whether these times [L] are jumps, the jumps, and how far to stay away from them.

        A time that was summed from a step may be off by round-off.
        """
        jumps, last = self.jumps, len(self.jumps) - 1
        if jumps.ndim == 2:
            place = torch.searchsorted(jumps.T.contiguous(), time[:, None].contiguous())[:, 0].clamp(max=last)
            lanes: Tensor | None = torch.arange(len(time))
        else:
            place, lanes = torch.searchsorted(jumps, time.contiguous()).clamp(max=last), None

        def row(table: Tensor, i: Tensor) -> Tensor:
            return table[i] if lanes is None else table[i, lanes]

        places = ((place - 1).clamp(min=0), place)
        before, after = (row(jumps, i) for i in places)
        earlier = (time - before).abs() < (time - after).abs()
        near, clear = torch.where(earlier, before, after), self._clear
        low, high = (torch.zeros_like(near) if clear is None else row(clear, i) for i in places)
        away = torch.where(earlier, low, high)
        slack = 4 * torch.finfo(torch.float64).eps * torch.maximum(near.abs(), time.abs())
        return (near - time).abs() <= slack, near, away

    def after_stop(self, pointer: Tensor, landed: Tensor, stop: Tensor) -> Tensor:
        """The numbers [L] of the next stops, where these lanes have landed on theirs; equal ones are passed at once."""
        if not bool(landed.any()):
            return pointer
        last = len(self.stops) - 1
        pointer = torch.where(landed, (pointer + 1).clamp(max=last), pointer)
        while bool((again := landed & (self.stops.gather(0, pointer[None])[0] == stop) & (pointer < last)).any()):
            pointer = pointer + again.long()
        return pointer

    def size(self, error: Tensor) -> Tensor:
        """The norm of a scaled error [L * N] per lane: rms, the largest over a tuple's parts, or the user's."""
        if self.norm is not None:
            return self.norm(self.layout.unpack(error)).reshape(1)
        rows = error.view(self.layout.lanes, self.layout.width)
        if not self.layout.is_tuple:
            return rms(rows)
        return torch.stack([rms(part) for part in rows.split(self.layout.sizes, dim=-1)]).amax(0)

    def ratio(self, stages: Stages, y: Tensor, y1: Tensor) -> Tensor:
        """The error of a step from y to y1 over the tolerance [L], on the host."""
        c = self.coefficients
        if c.error is None:
            return torch.zeros(self.layout.lanes, dtype=torch.float64)
        scale = torch.maximum(y.abs(), y1.abs()) * self.rtol + self.atol
        ratio = self.size(stages.weigh(c.error) / scale)
        if c.error3 is not None:
            other = self.size(stages.weigh(c.error3) / scale)
            ratio = ratio**2 / (ratio**2 + 0.01 * other**2).sqrt()
        return ratio.to("cpu", torch.float64)


def pose(
    f: RightHandSide,
    y0: State,
    t: Tensor | Sequence[float],
    *,
    params: Sequence[Tensor] | None = None,
    recall: Recall | None = None,
    asked: SolveOptions | None = None,
    landings: Jumps | None = None,
    graph: bool | None = None,
    **options: Any,
) -> ODEProblem:
    """Check the arguments of a solve and evaluate f once; InputError says what cannot work.

    How to solve comes as `asked`, or as its fields by name. `recall` may know f from an earlier solve and give the
    tensors that it depends on, with what it remembers. `landings` are the jumps of f, which are else looked for;
    `graph` says whether those that move are to have one, by default whether autograd is on.
    """
    started = time.perf_counter()
    asked = asked or SolveOptions(**options)
    found, by = None, driven_by(f)
    driven = landings is None and by[1] is not None
    recall = recall if asked.norm is None else None
    if recall and driven:
        found = recall(f, params, layout_of(y0, asked.batched))
    foreseen = None if found is None else found[1].foresees(found[0])
    landings = landings or jumps_of(f, y0, t, asked.batched, graph, asked.jumps, foreseen, by)
    if landings is not None:
        asked = replace(asked, jumps=landings.plan)
    plan, times = plan_of(y0, t, asked)
    if plan.relative:
        _check_relative(plan.layout.pack(y0), plan.atol)
    problem = ODEProblem(
        f=f,
        named=params,
        layout=plan.layout,
        y0=plan.layout.pack(y0),
        t=times,
        grid=plan.grid,
        direction=plan.direction,
        tableau=plan.tableau,
        control=plan.control,
        rtol=plan.rtol,
        atol=plan.atol,
        norm=plan.norm,
        limits=plan.limits,
        stops=plan.stops,
        jumps=plan.jumps,
        captured=[],
        moving_stops=plan.moving_stops,
        started=started,
        callbacks={},
        notes=plan.notes,
        landings=landings,
        origin=y0,
        probes=plan.probes,
        recall=recall,
    )
    if recall and not driven:
        found = recall(f, params, problem.layout)
    if found is not None and not (landings is not None and landings.tied):
        problem.captured, problem.engine = found
        problem.unknowns = problem.captured
        return problem
    problem.slope, problem.captured = problem.probe()
    problem.unknowns = problem.captured
    problem.callbacks = callbacks_of(f)
    return problem


def callbacks_of(f: RightHandSide, ending: str = "") -> dict[str, Callable[..., object]]:
    """Callbacks of f on steps, as in torchdiffeq: its methods of these names, with `ending`."""
    found = {name: attribute(f, name + ending) for name in CALLBACKS}
    return {name: callback for name, callback in found.items() if callable(callback)}


def _check_relative(y0: Tensor, atol: float | Tensor) -> None:
    """InputError where atol is 0 and so is a state: what is relative to it would be divided by nothing."""
    wrong = (y0.detach() == 0) & (torch.as_tensor(atol, device=y0.device) == 0)
    if bool(wrong.any()):
        raise InputError(
            f"atol=0 with a state that starts at 0 (number {int(wrong.nonzero()[0])}): an error relative to 0 means "
            "nothing. Give atol a positive value, of the size of what may be neglected."
        )
