"""torchdiffeq's interface: `odeint`, `odeint_adjoint`, `odeint_event`, under the same names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError, unknown_name
from physid.ode.conclude import conclude
from physid.ode.control import Fixed
from physid.ode.dispatch import Dispatch, check_engine, memory
from physid.ode.eager_notice import notice
from physid.ode.events import EventFunction, solve_event
from physid.ode.gradients import registry
from physid.ode.gradients.adjoint import Adjoint
from physid.ode.gradients.protocol import Gradient
from physid.ode.odeint_options import Options, constructed, read_options
from physid.ode.probes import Probes, read
from physid.ode.problem import ODEProblem
from physid.ode.request import Tolerance, read_times
from physid.ode.rhs import RightHandSide, State
from physid.ode.solution import Solution, SolveError, Status

FOREVER = 1e18  # how far an event is waited for
SEARCHED = 20_000  # steps of a search for an event, unless max_num_steps says how many


def odeint(
    func: RightHandSide,
    y0: State,
    t: Tensor | Sequence[float],
    *,
    rtol: Tolerance = 1e-7,
    atol: Tolerance = 1e-9,
    method: str | None = None,
    options: Options | None = None,
    event_fn: EventFunction | None = None,
    gradient: Gradient | str = "aca",
    engine: str = "auto",
    params: Sequence[Tensor] | None = None,
    probes: Probes | int = 0,
) -> Any:
    """States [T, *state] of dy/dt = func(t, y), y(t[0]) = y0 at the times t [T]; tuples in, tuples out.

    Takes what torchdiffeq.odeint takes; method "rk4" is the 3/8 rule, as there ("rk4_classic" is Kutta's). Gradients
    reach y0, t and whatever func depends on, by the adaptive checkpoint adjoint unless `gradient` says otherwise;
    `engine` is "auto", "native" or "eager", as in `solve`; so are `probes` and options["checkpoints"].
    With `event_fn`: (event time [], states [2, *state] at t[0] and at the event), t[1] only giving the direction.
    f is never evaluated outside of [t[0], t[-1]], and fixed steps read outputs off the step as `interp` says.
    Errors: InputError (a ValueError) for what cannot work, SolveError when the solve fails.
    """
    chosen, found = registry.lookup(gradient), read(probes)
    if found is not None:
        registry.check_probes(chosen)
    solution = _integrate(func, y0, t, rtol, atol, method, options, event_fn, chosen, params, engine, found)
    return solution.y if event_fn is None else _event_pair(solution)


def odeint_adjoint(
    func: RightHandSide,
    y0: State,
    t: Tensor | Sequence[float],
    *,
    rtol: Tolerance = 1e-7,
    atol: Tolerance = 1e-9,
    method: str | None = None,
    options: Options | None = None,
    event_fn: EventFunction | None = None,
    adjoint_rtol: float | None = None,
    adjoint_atol: float | None = None,
    adjoint_method: str | None = None,
    adjoint_options: Options | None = None,
    adjoint_params: Sequence[Tensor] | None = None,
    engine: str = "auto",
) -> Any:
    """`odeint` with the gradient of the continuous adjoint; takes what torchdiffeq.odeint_adjoint takes.

    Parameters are found without `adjoint_params`, in plain functions too. `adjoint_options` may hold the options of an
    adaptive solve and norm="seminorm" or a function of (t, *y, *adjoint, *params). No second derivatives.
    """
    chosen = _adjoint(method, options, adjoint_method, adjoint_options, adjoint_rtol, adjoint_atol)
    params = None if adjoint_params is None else list(adjoint_params)
    solution = _integrate(func, y0, t, rtol, atol, method, options, event_fn, chosen, params, engine)
    return solution.y if event_fn is None else _event_pair(solution)


def odeint_event(
    func: RightHandSide,
    y0: State,
    t0: Tensor | float,
    *,
    event_fn: EventFunction,
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    """Time [] of the first event after t0 and the states [2, *state] at t0 and there, both with gradients.

    `odeint_interface`: odeint or odeint_adjoint; other keywords go to it. Errors: SolveError where no event comes.
    """
    start = torch.as_tensor(t0).reshape(())
    start = start if start.is_floating_point() else start.double()
    end = start.detach() + (-1.0 if reverse_time else 1.0)
    time, states = odeint_interface(func, y0, torch.stack([start, end]), event_fn=event_fn, **kwargs)
    return time.to(start.dtype), states


def _integrate(
    func: RightHandSide,
    y0: State,
    t: Tensor | Sequence[float],
    rtol: Tolerance,
    atol: Tolerance,
    method: str | None,
    options: Options | None,
    event_fn: EventFunction | None,
    gradient: Gradient,
    params: Sequence[Tensor] | None,
    engine: str = "auto",
    probes: Probes | None = None,
) -> Solution:
    check_engine(engine)
    setup = read_options(method, options)
    setup = setup if probes is None else replace(setup, probes=probes)
    gradient = registry.lookup(gradient, (options or {}).get("checkpoints"))

    def posed(when: Tensor) -> ODEProblem:
        return setup.pose(func, y0, when, rtol, atol, params)

    def solved(when: Tensor | Sequence[float]) -> Solution:
        problem = setup.pose(func, y0, when, rtol, atol, params, memory(engine))
        backend = Dispatch(engine)
        values, outcome = gradient.solve(problem, backend)
        solution = conclude(problem, values, outcome, gradient.name, True, backend.name, backend.note)
        if solution.engine_note:
            notice(func, solution, backend, stacklevel=4)
        return solution

    if event_fn is None:
        return solved(t)
    times = read_times(t)
    if len(times) != 2:
        raise InputError(f"t has {len(times)} times with event_fn: give [start, any time in the direction of search].")
    start, towards = times.detach().tolist()
    direction = 1.0 if towards >= start else -1.0
    if isinstance(setup.control, Fixed) and setup.control.step is None:
        raise InputError("event_fn with a fixed-step method needs options={'step_size': h}.")
    if "max_num_steps" not in (options or {}) and not isinstance(setup.control, Fixed):
        setup = replace(setup, limits=replace(setup.limits, max_steps=SEARCHED))
    far = times.detach()[0] + direction * (
        FOREVER if not isinstance(setup.control, Fixed) else SEARCHED * float(setup.control.step or 1)
    )
    try:
        solution = solve_event(posed, solved, func, event_fn, torch.stack([times[0], far]), throw=True)
    except SolveError as error:
        if error.solution.status is not Status.MAX_STEPS:
            raise
        reached = float(error.solution.grid[-1])
        raise SolveError(_eventless(reached, f"{setup.limits.max_steps} steps, "), error.solution) from None
    if solution.event_time is None:
        raise InputError(_eventless(float(far)))
    return solution


def _eventless(reached: float, after: str = "") -> str:
    """The sentence of a search that found nothing."""
    more = ", or raise options['max_num_steps']" if after else ""
    return f"no event in {after}up to t = {reached:.3g}: look at the sign of event_fn and at reverse_time{more}."


def _event_pair(solution: Solution) -> tuple[Tensor, State]:
    time = solution.event_time if solution.event_time is not None else solution.t[-1]
    return time, solution.y


def _adjoint(
    method: str | None,
    options: Options | None,
    adjoint_method: str | None,
    adjoint_options: Options | None,
    rtol: float | None,
    atol: float | None,
) -> Adjoint:
    """The reverse solve's settings; without `adjoint_options` those of the forward solve, norm left out."""
    if adjoint_method not in (None, method) and options and adjoint_options is None:
        raise InputError("adjoint_method differs from method while options are given: give adjoint_options too.")
    inherited = {key: value for key, value in (options or {}).items() if key != "norm"}
    given = dict(inherited if adjoint_options is None else adjoint_options)
    norm = given.pop("norm", None)
    if isinstance(norm, str) and norm != "seminorm":
        raise unknown_name("adjoint norm", norm, ("seminorm",))
    setup = read_options(adjoint_method or method, given)
    return Adjoint(
        solver=setup.tableau,
        rtol=rtol,
        atol=atol,
        control=setup.control,
        limits=setup.limits,
        seminorm=norm == "seminorm",
        norm=None if isinstance(norm, str) else norm,
        stops=setup.stops,
        jumps=setup.jumps,
        perturb=setup.perturb,
        grid=None if setup.grid_constructor is None else partial(constructed, setup.grid_constructor),
    )
