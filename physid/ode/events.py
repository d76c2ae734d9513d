"""Events: stop where a function of time and state changes sign, with the gradient of the event's time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from scipy.optimize import brentq
from torch import Tensor

from physid.errors import InputError
from physid.ode.field import RightHandSide, State
from physid.ode.march import March, Step
from physid.ode.problem import Problem
from physid.ode.solution import Solution, SolveError, Status

EventFunction = Callable[[Tensor, Any], Tensor]
PROBES = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)  # two crossings within a step should not hide


class Watch:
    """Looks at every accepted step for a change of sign of any component of the event function."""

    def __init__(self, problem: Problem, event_fn: EventFunction) -> None:
        self.problem, self.event_fn = problem, event_fn
        start = self._values(problem.grid[0, 0], problem.y0.detach())
        self.sign = torch.sign(start)

    @property
    def at_start(self) -> bool:
        """Whether the event is met at t0 already."""
        return bool((self.sign == 0).any())

    def __call__(self, step: Step) -> Tensor | None:
        """The time of the first change of sign in this step, or None."""
        before = 0.0
        states = step.dense(PROBES)
        for theta, state in zip(PROBES.tolist(), states, strict=True):
            if self._gap(step, theta, state) <= 0:
                root = brentq(
                    lambda x: self._gap(step, x, step.dense(torch.tensor([x], dtype=torch.float64))[0]),
                    before,
                    theta,
                    xtol=1e-15,
                )
                return step.t + float(root) * step.h
            before = theta
        return None

    def _gap(self, step: Step, theta: float, state: Tensor) -> float:
        """The smallest component, each taken positive at the start: negative once any has changed its sign."""
        return float((self._values((step.t + theta * step.h)[0], state) * self.sign).min())

    def _values(self, t: Tensor, flat: Tensor) -> Tensor:
        layout = self.problem.layout
        value = self.event_fn(t.to(layout.device, layout.real), layout.unpack(flat))
        if not isinstance(value, Tensor) or value.is_complex() or value.numel() == 0:
            raise InputError(
                f"event_fn returned {type(value).__name__}: a real tensor with at least one element is allowed."
            )
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"event_fn returned a value that is not finite at t = {float(t):.9g}.")
        return value.detach().reshape(-1).cpu().double()


def find_event(problem: Problem, event_fn: EventFunction) -> tuple[Tensor | None, Solution | None]:
    """The time [] of the first event on the way to the problem's end; None where there is none."""
    if problem.layout.batched:
        raise InputError("events with batched=True: solve the samples one by one, or with batched=False.")
    with torch.no_grad():
        watch = Watch(problem, event_fn)
        if watch.at_start:
            return problem.grid[0, 0].clone(), None
        outcome = March(problem, watch=watch).run()
    if outcome.event_time is not None:
        return outcome.event_time[0], None
    if outcome.statuses[0].ok:
        return None, None
    from physid.ode.conclude import conclude

    return None, conclude(problem, outcome.values, outcome, "none", throw=False)


def attach(f: RightHandSide, event_fn: EventFunction, time: Tensor, state: State) -> tuple[Tensor, State]:
    """Event time [] and state with their gradients, by the implicit function theorem.

    With c(t, y(t)) = 0: dt = -(dc/dy dy + dc/dp dp) / (dc/dt + dc/dy f), and the state moves along by f dt.
    Source: Chen, Amos and Nickel (2021), Learning neural event functions for ordinary differential equations, eq. 7.
    """
    parts = state if isinstance(state, tuple) else (state,)
    real = parts[0].real.dtype if parts[0].is_complex() else parts[0].dtype
    slope = _slope(f, event_fn, time.to(parts[0].device, real), parts, isinstance(state, tuple))
    moment = time.to(parts[0].device, real)
    value = event_fn(moment, state).reshape(-1)
    first = int(value.detach().abs().argmin())
    moved = moment - (value[first] - value[first].detach()) / slope[first]
    k = f(moment, state)
    rates = k if isinstance(k, tuple | list) else (k,)
    carried = tuple(part + rate.detach() * (moved - moment) for part, rate in zip(parts, rates, strict=True))
    return moved, carried if isinstance(state, tuple) else carried[0]


def _slope(f: RightHandSide, event_fn: EventFunction, t: Tensor, parts: tuple[Tensor, ...], many: bool) -> Tensor:
    """dc/dt along the solution for every component of the event function."""
    frozen = tuple(part.detach() for part in parts)
    with torch.no_grad():
        k = f(t.detach(), frozen if many else frozen[0])
    rates = tuple(k) if many else (k,)

    def along(eps: Tensor) -> Tensor:
        moved = tuple(part + eps * rate for part, rate in zip(frozen, rates, strict=True))
        return event_fn(t.detach() + eps, moved if many else moved[0]).reshape(-1)

    with torch.enable_grad():
        slope = torch.autograd.functional.jacobian(along, torch.zeros_like(t)).reshape(-1).detach()
    small = slope.abs() < torch.finfo(slope.dtype).tiny
    return torch.where(small, torch.nan, slope)


def solve_event(
    pose: Callable[[Tensor], Problem],
    solve: Callable[[Tensor], Solution],
    f: RightHandSide,
    event_fn: EventFunction,
    t: Tensor,
    throw: bool,
) -> Solution:
    """Solve up to the first event or to t[-1]; the Solution's times are those asked before it, then the event's."""
    found, failed = find_event(pose(t.detach()), event_fn)
    if failed is not None:
        if throw:
            raise SolveError(failed.message, failed)
        return failed
    if found is None:
        return solve(t)
    start, *_, end = plain = t.detach()
    direction = 1.0 if end >= start else -1.0
    kept = t[:1] if found == start else t[plain * direction < found * direction]
    solution = solve(torch.cat([kept, found.reshape(1)]))
    if not solution.ok:
        return solution
    many = not isinstance(solution.y, Tensor)
    parts = tuple(solution.y) if many else (solution.y,)
    last = tuple(part[-1] for part in parts)
    time, state = attach(f, event_fn, found, last if many else last[0])
    ends = (state,) if isinstance(state, Tensor) else state
    joined = tuple(torch.cat([part[:-1], end[None]]) for part, end in zip(parts, ends, strict=True))
    y: State = joined if many else joined[0]
    times = torch.cat([kept, time.cpu().double().reshape(1)])
    message = f"{Status.EVENT.value} at t = {float(found):.9g}."
    return replace(solution, t=times, y=y, status=Status.EVENT, message=message, event_time=time)
