"""`solve`: one call from f, y0 and times to a Solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from torch import Tensor

from physid.ode.conclude import conclude
from physid.ode.control import Control, Fixed
from physid.ode.dispatch import Dispatch, check_engine, memory
from physid.ode.eager_notice import notice
from physid.ode.events import EventFunction, solve_event
from physid.ode.gradients import registry
from physid.ode.gradients.protocol import Gradient
from physid.ode.methods import catalogue
from physid.ode.methods.catalogue import Tableau
from physid.ode.probes import Probes, read
from physid.ode.problem import ODEProblem, Recall, pose
from physid.ode.request import MOST_STEPS, Limits, Norm, SolveOptions, Tolerance, is_plain, read_times
from physid.ode.rhs import RightHandSide, State
from physid.ode.solution import Solution

ABSOLUTE = 1e-9  # the absolute tolerance of a solve, unless one is given


@dataclass(frozen=True)
class Integrator:
    """Settings of an integration: solver, tolerances, controller, gradient method, limits; swappable after training.

    `rtol`, `atol`: error per step <= atol + rtol |y|, rms over the components; without an `atol` it is 1e-9 in a solve,
    and rtol times the size of each state in a fit. `max_steps`: 100,000 in a solve unless given; in a fit more for a
    longer record. `exact=True` steps onto every asked time instead of reading them off the dense output. `time_limit`:
    seconds of wall clock. `checkpoints`: the most states that gradient "aca" holds in memory, for more evaluations.
    `engine`: "native" compiles f, "eager" runs it by torch, "auto" compiles where that applies. `norm(error) -> []`
    measures the scaled error of the whole state in place of the rms. `probes`: how many random tangents are held to the
    tolerance beside the state, so that steps are fine enough for the gradient, too (gradients "aca" and "forward"; see
    `Probes`).
    """

    solver: str | Tableau = "dopri5"
    rtol: Tolerance = 1e-7
    atol: Tolerance | None = None
    control: Control | str | None = None
    gradient: Gradient | str = "aca"
    engine: str = "auto"
    exact: bool = False
    first_step: float | None = None
    max_step: float = float("inf")
    max_steps: int | None = None
    time_limit: float | None = None
    checkpoints: int | None = None
    norm: Norm | None = None
    probes: Probes | int = 0

    @property
    def absolute(self) -> Tolerance:
        """The absolute tolerance of a solve."""
        return ABSOLUTE if self.atol is None else self.atol

    @property
    def most_steps(self) -> int:
        """The most steps of a solve."""
        return MOST_STEPS if self.max_steps is None else self.max_steps

    def changed(self, *, step: float | None = None, **changes: Any) -> Integrator:
        """This integrator with some fields changed, and with a controller that fits its solver.

        `step` fixes the length of the steps; a solver without an error estimate takes steps of 1 unless it is given.
        Errors: InputError for a solver that is none, and for a `step` that is not positive.
        """
        solver = changes.get("solver", self.solver)
        tableau = catalogue.lookup(solver) if isinstance(solver, str) else solver
        if step is not None or not tableau.adaptive:
            changes["control"] = Fixed(1.0 if step is None else step)
        elif isinstance(self.control, Fixed) and "control" not in changes:
            changes["control"] = None
        return replace(self, **changes)

    def pose(
        self,
        f: RightHandSide,
        y0: State,
        t: Tensor | Sequence[float],
        params: Sequence[Tensor] | None,
        batched: bool,
        recall: Recall | None = None,
        graph: bool | None = None,
    ) -> ODEProblem:
        """The checked problem; `graph` says whether jumps are to have one, by default whether autograd is on."""
        check_engine(self.engine)
        return pose(f, y0, t, params=params, recall=recall, asked=self._plain[batched], graph=graph)

    @cached_property
    def _plain(self) -> tuple[SolveOptions, SolveOptions]:
        """Its options, for one state and for a batch."""
        steps = (self.first_step, self.max_step, self.most_steps, self.time_limit)
        asked = (self.solver, self.rtol, self.absolute, self.control, self.exact, self.norm, read(self.probes), *steps)
        plain = is_plain(self.rtol) and is_plain(self.absolute) and isinstance(self.solver, str)
        return _kept_wishes(*asked) if plain else _wishes(*asked)

    def solve(
        self,
        f: RightHandSide,
        y0: State,
        t: Tensor | Sequence[float],
        *,
        params: Sequence[Tensor] | None = None,
        batched: bool = False,
        event_fn: EventFunction | None = None,
        throw: bool = True,
    ) -> Solution:
        """Solve dy/dt = f(t, y), y(t[0]) = y0; see `solve`."""
        return self._solved(f, y0, t, params, batched, event_fn, throw)

    def _solved(
        self,
        f: RightHandSide,
        y0: State,
        t: Tensor | Sequence[float],
        params: Sequence[Tensor] | None,
        batched: bool,
        event_fn: EventFunction | None,
        throw: bool,
        tells: int = 0,
    ) -> Solution:
        """The same; `tells`: how many calls up the one is who hears that f runs by torch, 0 for nobody."""
        method = registry.lookup(self.gradient, self.checkpoints)
        if self.probes:
            registry.check_probes(method)

        def posed(times: Tensor | Sequence[float]) -> ODEProblem:
            return self.pose(f, y0, times, params, batched)

        def solved(times: Tensor | Sequence[float]) -> Solution:
            problem = self.pose(f, y0, times, params, batched, memory(self.engine))
            backend = Dispatch(self.engine)
            values, outcome = method.solve(problem, backend)
            how = (backend.name, backend.note, lambda other: method.solve(other, Dispatch(self.engine))[1])
            solution = conclude(problem, values, outcome, method.name, throw, *how)
            if tells and solution.engine_note:
                notice(f, solution, backend, tells)
            return solution

        if event_fn is None:
            return solved(t)
        return solve_event(posed, solved, f, event_fn, read_times(t), throw)


def solve(
    f: RightHandSide,
    y0: State,
    t: Tensor | Sequence[float],
    *,
    solver: str | Tableau = "dopri5",
    rtol: Tolerance = 1e-7,
    atol: Tolerance = 1e-9,
    control: Control | str | None = None,
    gradient: Gradient | str = "aca",
    engine: str = "auto",
    params: Sequence[Tensor] | None = None,
    batched: bool = False,
    exact: bool = False,
    first_step: float | None = None,
    max_step: float = float("inf"),
    max_steps: int = 100_000,
    time_limit: float | None = None,
    checkpoints: int | None = None,
    probes: Probes | int = 0,
    event_fn: EventFunction | None = None,
    throw: bool = True,
) -> Solution:
    """Solve dy/dt = f(t, y), y(t[0]) = y0, for the states at the times t [T].

    f takes (t, y) and returns dy/dt with the shape and dtype of y; y0 is a tensor of any shape or a tuple of tensors.
    An f with an attribute `switches`, a tensor of times, jumps there: steps land on them (a Model with held inputs).
    Times with a graph move with what they are made of, and gradients hold their movement.
    The states come as `Solution.y` [T, *state] and carry gradients with respect to y0, t, and every tensor that f
    depends on: those are found in f's module, its closure and its first evaluation, or named by `params`.
    `batched=True`: y0 [B, *state], every sample has its own steps, f gets t [B], and t may be [T] or [T, B].
    `event_fn(t, y)`, or a list of such: the solve ends where a component of one changes sign, or only where it rises
    (falls) if the function has an attribute `direction` of 1 (-1); a start on the surface is no event. The Solution
    then holds the asked times before the event and the event's time, both with gradients.

    solver: a name (see `physid list`) or a Tableau. control: "i", "pi", "pid", "fixed" or a value.
    gradient: "aca", "naive", "adjoint", "forward" or a value; `checkpoints=K` bounds the states that "aca" holds in
    memory, which the backward pass then rebuilds. probes: how many random tangents are held to rtol and atol beside the
    state, so that the gradient is as exact as they say; with "forward" all its columns are (see `Probes`).
    engine: "native" runs the whole solve as compiled C, "eager" by torch; "auto" takes the native one where it applies,
    and `Solution.engine_note` says why it did not, one warning too when that has cost more than .1 s.
    Errors: InputError for arguments that cannot work;
    SolveError, with the part that was reached, when the solve fails (`throw=False` returns it with its status).
    """
    options = (
        solver,
        rtol,
        atol,
        control,
        gradient,
        engine,
        exact,
        first_step,
        max_step,
        max_steps,
        time_limit,
        checkpoints,
        None,
        read(probes) or 0,
    )
    plain = is_plain(rtol) and is_plain(atol) and isinstance(gradient, str) and isinstance(solver, str)
    integrator = _integrator(*options) if plain else Integrator(*options)  # type: ignore[arg-type]
    return integrator._solved(f, y0, t, params, batched, event_fn, throw, tells=4)


def _wishes(
    solver: str | Tableau,
    rtol: Tolerance,
    atol: Tolerance,
    control: Control | str | None,
    exact: bool,
    norm: Norm | None,
    probes: Probes | None,
    first_step: float | None,
    max_step: float,
    max_steps: int,
    time_limit: float | None,
) -> tuple[SolveOptions, SolveOptions]:
    """Options of an integrator, for one state and for a batch."""
    limits = Limits(first_step, 0.0, max_step, max_steps, time_limit)
    one = SolveOptions(solver, rtol, atol, control, exact=exact, limits=limits, norm=norm, probes=probes)
    return one, replace(one, batched=True)


_kept_wishes = lru_cache(maxsize=64)(_wishes)
_integrator = lru_cache(maxsize=64, typed=True)(Integrator)  # 1 and True are equal
