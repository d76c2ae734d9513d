"""Events: stop where a function of time and state changes sign, with the gradient of the event's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.optimize import brentq
from torch import Tensor

from physid.errors import InputError
from physid.ode.conclude import conclude
from physid.ode.eager.march import March
from physid.ode.eager.outcome import AcceptedStep
from physid.ode.problem import ODEProblem
from physid.ode.rhs import RightHandSide, State, attribute
from physid.ode.solution import Solution, SolveError, Status

OneEvent = Callable[[Tensor, Any], Tensor]
EventFunction = OneEvent | Sequence[OneEvent]
PROBES = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)  # two crossings within a step should not hide
ROUND_OFF = 64  # units of it, within which a start lies on an event's surface


@dataclass(frozen=True)
class Events:
    """One event function, or several of which the first one counts, as one with a row of components.

    `functions` may have an attribute `direction`: 1 where only a rise through zero along the march is an event, -1
    for a fall, 0 for both; a sequence of such, one for each component.
    """

    functions: tuple[OneEvent, ...]

    @staticmethod
    def of(given: EventFunction) -> Events:
        """InputError for what cannot be called."""
        functions = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not functions or not all(callable(one) for one in functions):
            raise InputError("event_fn is no function: expected a function (t, y) -> real tensor, or a list of such.")
        return Events(functions)

    def __call__(self, t: Tensor, y: Any) -> Tensor:
        """The components of all functions [M]."""
        return torch.cat([self._checked(one(t, y), t).reshape(-1) for one in self.functions])

    @staticmethod
    def _checked(value: Any, t: Tensor) -> Tensor:
        if isinstance(value, Tensor) and value.dtype == torch.bool:
            raise InputError(
                "event_fn returned a boolean: return a real number that changes its sign at the event, y - 0.5 in "
                "place of y < 0.5."
            )
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 0:
            raise InputError(
                f"event_fn returned {type(value).__name__}: expected a real tensor with at least one element."
            )
        if not bool(torch.isfinite(value.detach()).all()):
            raise InputError(f"event_fn returned a value that is not finite at t = {float(t.detach()):.9g}.")
        return value

    def directions(self, t: Tensor, y: Any) -> Tensor:
        """The wanted direction of every component [M]; InputError for one that is none."""
        found = []
        for one in self.functions:
            count = one(t, y).numel()
            wanted = torch.as_tensor(attribute(one, "direction") or 0.0, dtype=torch.float64).reshape(-1).sign()
            if wanted.numel() not in (1, count):
                raise InputError(
                    f"event_fn.direction has {wanted.numel()} values for {count} components: give as many."
                )
            found.append(wanted.expand(count))
        return torch.cat(found)


class Watch:
    """Looks at every accepted step for a change of sign of any component of the event function.

    A component that is zero at the start, within round-off, gets its sign when it leaves zero: the event is the next
    crossing. One that crosses in a direction that nobody asked for goes on with the sign that it has then.
    """

    def __init__(self, problem: ODEProblem, events: Events) -> None:
        self.problem, self.events = problem, events
        self.which = 0  # the component that met its event
        t, state = self._as_seen(problem.grid[0, 0], problem.y0.detach())
        with torch.no_grad():
            value = self._values(problem.grid[0, 0], problem.y0.detach())
            self.direction = events.directions(t, state)
        near = value.abs() <= self._round_off(t, state)
        self.sign = torch.where(near, 0.0, torch.sign(value))

    def __call__(self, step: AcceptedStep) -> Tensor | None:
        """The time of the first event in this step, or None."""
        before = 0.0
        states = step.dense(PROBES)
        for theta, state in zip(PROBES.tolist(), states, strict=True):
            value = self._values((step.t + theta * step.h)[0], state)
            armed = (self.sign != 0) & ((self.direction == 0) | (self.direction == -self.sign))
            met = armed & (value * self.sign <= 0)
            if bool(met.any()):
                roots = [(self._root(step, int(i), before, theta), int(i)) for i in met.nonzero().flatten()]
                root, self.which = min(roots)
                return step.t + root * step.h
            free = ~armed & (value != 0)
            self.sign = torch.where(free, torch.sign(value), self.sign)
            before = theta
        return None

    def _root(self, step: AcceptedStep, i: int, before: float, after: float) -> float:
        """The zero of component i within a step: theta."""
        sign = float(self.sign[i])

        def gap(theta: float) -> float:
            state = step.dense(torch.tensor([theta], dtype=torch.float64))[0]
            return sign * float(self._values((step.t + theta * step.h)[0], state)[i])

        if gap(before) <= 0:
            return before
        return float(brentq(gap, before, after, xtol=1e-15))

    def _values(self, t: Tensor, flat: Tensor) -> Tensor:
        return self.events(*self._as_seen(t, flat)).detach().cpu().double()

    def _as_seen(self, t: Tensor, flat: Tensor) -> tuple[Tensor, State]:
        layout = self.problem.layout
        return t.detach().to(layout.device, layout.real), layout.unpack(flat)

    def _round_off(self, t: Tensor, state: State) -> Tensor:
        """Round-off of every component [M] by time and state, to first order; 0 without derivatives."""
        many = isinstance(state, tuple)
        parts = [part.detach().requires_grad_() for part in (state if isinstance(state, tuple) else (state,))]
        inputs = [t.detach().requires_grad_(), *parts]
        slope = self.problem.layout.unpack(self.problem.derivative.detach())
        rates = [torch.ones_like(t), *(slope if isinstance(slope, tuple) else (slope,))]
        found = []
        with torch.enable_grad():
            values = self.events(inputs[0], tuple(parts) if many else parts[0])
            for value in values:
                grads: Sequence[Tensor | None] = [None]
                if value.requires_grad:
                    grads = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
                pairs = [(g, x.detach(), r) for g, x, r in zip(grads, inputs, rates, strict=False) if g is not None]
                moved = sum(float((g * x).abs().sum()) for g, x, _ in pairs)
                found.append(moved + float(t.abs()) * abs(sum(float((g.conj() * r).real.sum()) for g, _, r in pairs)))
        eps = torch.finfo(self.problem.layout.real).eps
        return ROUND_OFF * eps * torch.tensor(found, dtype=torch.float64)


def find_event(problem: ODEProblem, events: Events) -> tuple[Tensor | None, int, Solution | None]:
    """The time [] of the first event on the way to the problem's end and its component; no time where there is none."""
    if problem.layout.batched:
        raise InputError("events with batched=True: solve the samples one by one, or with batched=False.")
    watch = Watch(problem, events)
    with torch.no_grad():
        outcome = March(problem, watch=watch).run()
    if outcome.event_time is not None:
        return outcome.event_time[0], watch.which, None
    if outcome.statuses[0].ok:
        return None, 0, None
    return None, 0, conclude(problem, outcome.values, outcome, "none", throw=False)


def attach(f: RightHandSide, events: Events, which: int, time: Tensor, state: State) -> tuple[Tensor, State]:
    """Event time [] and state with their first and second derivatives, by the implicit function theorem.

    With s = dc/dt along the solution, c(t, y(t)) = 0 moves by d = -c / s; a second step of Newton's method, on the
    solution's expansion y + f d + f' d^2 / 2, makes the second derivative exact too. The state moves along.
    Not-a-number where the solution only touches the surface, s = 0.
    Source: Chen, Amos and Nickel (2021), Learning neural event functions for ordinary differential equations, eq. 7.
    """
    many = isinstance(state, tuple)
    parts = state if isinstance(state, tuple) else (state,)
    real = parts[0].real.dtype if parts[0].is_complex() else parts[0].dtype
    moment = time.to(parts[0].device, real)
    rates = _rates(f, moment, parts, many)
    plain = events(moment, state)[which]
    if not any(x.requires_grad for x in (plain, *parts, *rates)):
        return moment, state
    bends = _bends(f, moment, parts, rates, many)

    def path(eps: Tensor) -> tuple[Tensor, ...]:
        """The solution near the event, to second order."""
        return tuple(y + k * eps + 0.5 * b * eps * eps for y, k, b in zip(parts, rates, bends, strict=True))

    shift = torch.zeros_like(moment).requires_grad_()
    for _ in range(2):
        near = path(shift)
        value = events(moment + shift, near if many else near[0])[which]
        slope = torch.autograd.grad(value, shift, create_graph=True)[0]
        grazes = bool(slope.detach().abs() < torch.finfo(real).tiny)
        moved = shift - (value if grazes else value / slope)
        shift = moved - moved.detach()  # the time is what was found; its derivatives are wanted
        if grazes:
            shift.register_hook(lambda g: g * torch.nan)
    near = path(shift)
    return moment + shift, near if many else near[0]


def _rates(f: RightHandSide, t: Tensor, parts: tuple[Tensor, ...], many: bool) -> tuple[Tensor, ...]:
    """f as a tuple, of a state as one."""
    found = f(t, parts if many else parts[0])
    return tuple(found) if isinstance(found, tuple | list) else (found.clone(),)


def _bends(
    f: RightHandSide, t: Tensor, parts: tuple[Tensor, ...], rates: tuple[Tensor, ...], many: bool
) -> tuple[Tensor, ...]:
    """df/dt along the solution, with a graph; 0 for an f without second derivatives, which then says so itself."""
    eps = torch.zeros_like(t).requires_grad_()
    ahead = _rates(f, t + eps, tuple(y + k * eps for y, k in zip(parts, rates, strict=True)), many)
    return tuple(_tangent(k, eps) for k in ahead)


def _tangent(k: Tensor, eps: Tensor) -> Tensor:
    """dk/d eps: the product with a tangent, as the derivative of the one with a cotangent."""
    weight = torch.zeros_like(k).requires_grad_()
    if not k.requires_grad:
        return torch.zeros_like(k)
    try:
        pulled = torch.autograd.grad(k, eps, weight, create_graph=True, allow_unused=True)[0]
        if pulled is None or not pulled.requires_grad:
            return torch.zeros_like(k)
        bend = torch.autograd.grad(pulled, weight, create_graph=True, allow_unused=True)[0]
    except RuntimeError:
        return torch.zeros_like(k)
    return torch.zeros_like(k) if bend is None else bend


def solve_event(
    pose: Callable[[Tensor], ODEProblem],
    solve: Callable[[Tensor], Solution],
    f: RightHandSide,
    event_fn: EventFunction,
    t: Tensor,
    throw: bool,
) -> Solution:
    """Solve up to the first event or to t[-1]; the Solution's times are those asked before it, then the event's."""
    events = Events.of(event_fn)
    found, which, failed = find_event(pose(t.detach()), events)
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
    time, state = attach(f, events, which, found, last if many else last[0])
    ends = (state,) if isinstance(state, Tensor) else state
    joined = tuple(torch.cat([part[:-1], end[None]]) for part, end in zip(parts, ends, strict=True))
    y: State = joined if many else joined[0]
    times = torch.cat([kept, time.cpu().double().reshape(1)])
    message = f"{Status.EVENT.value} at t = {float(found):.9g}."
    return replace(solution, t=times, y=y, status=Status.EVENT, message=message, event_time=time)
