"""`solve`: one call from f, y0 and times to a Solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from torch import Tensor

from physid.ode import methods
from physid.ode.conclude import conclude
from physid.ode.control import Control
from physid.ode.engines import check_engine, equip, memory
from physid.ode.events import EventFunction, solve_event
from physid.ode.field import RightHandSide, State
from physid.ode.gradients import Gradient
from physid.ode.plan import Limits, Norm, Tolerance, Wishes, read_times
from physid.ode.problem import Problem, Recall, pose
from physid.ode.solution import Solution
from physid.ode.tableaus import Tableau


@dataclass(frozen=True)
class Integrator:
    """How to integrate: solver, tolerances, controller, gradient method, limits; swappable after training.

    `rtol`, `atol`: error per step <= atol + rtol |y|, rms over the components. `exact=True` steps onto every asked time
    instead of reading them off the dense output. `time_limit` in seconds of wall clock. `checkpoints`: the most states
    that gradient "aca" holds in memory, for more evaluations. `engine`: "native" compiles f, "eager" runs it by torch,
    "auto" compiles where that applies. `norm(error) -> []` measures the scaled error of the whole state in place of the
    rms.
    """

    solver: str | Tableau = "dopri5"
    rtol: Tolerance = 1e-7
    atol: Tolerance = 1e-9
    control: Control | str | None = None
    gradient: Gradient | str = "aca"
    engine: str = "auto"
    exact: bool = False
    first_step: float | None = None
    max_step: float = float("inf")
    max_steps: int = 100_000
    time_limit: float | None = None
    checkpoints: int | None = None
    norm: Norm | None = None

    def pose(
        self,
        f: RightHandSide,
        y0: State,
        t: Tensor | Sequence[float],
        params: Sequence[Tensor] | None,
        batched: bool,
        recall: Recall | None = None,
    ) -> Problem:
        """The checked problem."""
        check_engine(self.engine)
        jumps = getattr(f, "switches", None)
        wishes = self._plain[batched] if jumps is None else replace(self._plain[batched], jumps=jumps)
        return pose(f, y0, t, params=params, recall=recall, wishes=wishes)

    @cached_property
    def _plain(self) -> tuple[Wishes, Wishes]:
        """What it asks for, for one state and for a batch."""
        limits = Limits(self.first_step, 0.0, self.max_step, self.max_steps, self.time_limit)
        one = Wishes(self.solver, self.rtol, self.atol, self.control, exact=self.exact, limits=limits, norm=self.norm)
        return one, replace(one, batched=True)

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
        method = methods.lookup(self.gradient, self.checkpoints)

        def posed(times: Tensor | Sequence[float]) -> Problem:
            return self.pose(f, y0, times, params, batched)

        def solved(times: Tensor | Sequence[float]) -> Solution:
            problem = self.pose(f, y0, times, params, batched, memory(self.engine, method))
            equipped, choice = equip(method, problem, self.engine)
            values, outcome = equipped.solve(problem)
            return conclude(problem, values, outcome, method.name, throw, choice.tier.name, choice.note)

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
    event_fn: EventFunction | None = None,
    throw: bool = True,
) -> Solution:
    """Solve dy/dt = f(t, y), y(t[0]) = y0, for the states at the times t [T].

    f takes (t, y) and returns dy/dt with the shape and dtype of y; y0 is a tensor of any shape or a tuple of tensors.
    An f with an attribute `switches`, a tensor of times, jumps there: steps land on them (a Model with held inputs).
    The states come as `Solution.y` [T, *state] and carry gradients with respect to y0, t, and every tensor that f
    depends on: those are found in f's module, its closure and its first evaluation, or named by `params`.
    `batched=True`: y0 [B, *state], every sample has its own steps, f gets t [B], and t may be [T] or [T, B].
    `event_fn(t, y)`: the solve ends where a component of it changes sign; the Solution then holds the asked times
    before the event and the event's time, both with gradients.

    solver: a name (see `physid list`) or a Tableau. control: "i", "pi", "pid", "fixed" or a value.
    gradient: "aca", "naive", "adjoint", "forward" or a value; `checkpoints=K` bounds the states that "aca" holds in
    memory, which the backward pass then rebuilds. engine: "native" runs the whole solve as compiled C,
    "eager" by torch; "auto" takes the native one where it applies, and `Solution.engine_note` says why it did not.
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
    )
    plain = type(rtol) is float and type(atol) is float and isinstance(gradient, str) and isinstance(solver, str)
    integrator = _integrator(*options) if plain else Integrator(*options)  # type: ignore[arg-type]
    return integrator.solve(f, y0, t, params=params, batched=batched, event_fn=event_fn, throw=throw)


_integrator = lru_cache(maxsize=64)(Integrator)
