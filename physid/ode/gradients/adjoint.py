"""The continuous adjoint: a second ODE, solved backwards from one asked time to the one before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.backend import Backend
from physid.ode.conclude import conclude
from physid.ode.control import Control, rms
from physid.ode.eager.engine import EAGER
from physid.ode.eager.outcome import Outcome
from physid.ode.gradients.adjoint_field import augmented, uncompiled
from physid.ode.gradients.protocol import fold_times, wants_gradient, with_pullback
from physid.ode.jumps import add_saltation, jump_cotangents
from physid.ode.methods.catalogue import Tableau
from physid.ode.problem import ODEProblem, callbacks_of
from physid.ode.request import Limits, Norm
from physid.ode.solution import Solution, SolveError, Statistics


@dataclass(frozen=True)
class Adjoint:
    """da/dt = -a^T df/dy and dL/dp = -int a^T df/dp dt, solved backwards together with y; memory independent of steps.

    Its gradient is that of the continuous problem, so that it differs from the discrete map's by the tolerance, and
    fails where the reverse solve is unstable. None means: as in the forward solve. `seminorm=True` leaves the
    parameters' share out of the error norm (Kidger, Chen and Lyons, 2021); `norm` measures (t, *y, *a, *params).
    The reverse solves of modules are compiled where the forward one is; of other functions all run by torch.
    `stops`, `jumps` and `perturb` are those of a solve, in the time of the forward one; `grid(f, y, t) -> times` makes
    the grid of a reverse solve over t [2], which falls.

    Source: Pontryagin et al. (1962); Chen et al. (2018), Neural ordinary differential equations, Algorithm 1.
    """

    name: str = "adjoint"
    solver: str | Tableau | None = None
    rtol: float | None = None
    atol: float | None = None
    control: Control | str | None = None
    limits: Limits = field(default_factory=Limits)
    seminorm: bool = False
    norm: Norm | None = None
    compiled: InitVar[bool | None] = None
    stops: Tensor | None = None
    jumps: Tensor | None = None
    perturb: bool = False
    grid: Callable[..., Tensor] | None = None

    def __post_init__(self, compiled: bool | None) -> None:
        if compiled is not None:
            warnings.warn(
                "Adjoint(compiled=...) is not needed: reverse solves are compiled where the engine of the solve allows "
                "it. Leave it out, or choose engine='eager'.",
                DeprecationWarning,
                stacklevel=3,
            )

    def solve(self, problem: ODEProblem, backend: Backend) -> tuple[Tensor, Outcome]:
        """March without a graph; the backward pass solves the adjoint ODE."""
        if not wants_gradient(problem):
            outcome = backend.solve(problem)
            return outcome.values, outcome
        engine, why = backend.of(problem), self._uncompiled(problem)
        if why:
            engine = backend.by_torch(f"the reverse solves of gradient 'adjoint' are not compiled for {why}")
            _ = problem.derivative  # what f uses is known from here on
        if problem.entangled:
            raise InputError(
                "gradient 'adjoint' with an f that uses a tensor and another one made from it: make it inside of f, or "
                "use gradient='aca'."
            )
        if problem.moved is not None and problem.layout.batched and not _one_clock(problem):
            raise InputError(
                "gradient 'adjoint' with jumps that unknowns move, at times that differ between samples: solve the "
                "samples one by one, or use gradient='aca'."
            )
        spent: list[Statistics] = []

        def march() -> Outcome:
            outcome = engine.solve(problem)
            spent[:] = [outcome.statistics]
            return outcome

        def pull(values: Tensor, g: Tensor, needs: Sequence[bool]) -> list[Tensor | None]:
            settle, before = engine.count_from_here(), spent[0].backward_evaluations
            found = self._pull(problem, backend if engine is not EAGER else EAGER, spent[0], values, g, needs)
            settle(spent[0].backward_evaluations - before)
            return found

        return with_pullback(problem, march, pull)

    def _uncompiled(self, problem: ODEProblem) -> str:
        """Why the reverse solves run by torch; empty where they may be compiled."""
        if self.seminorm or self.norm is not None:
            return "a norm of their own"
        if callbacks_of(problem.f, "_adjoint"):
            return "an f with callbacks"
        return uncompiled(problem, problem.captured)

    def _pull(
        self,
        problem: ODEProblem,
        backend: Backend,
        statistics: Statistics,
        values: Tensor,
        g: Tensor,
        needs: Sequence[bool],
    ) -> list[Tensor | None]:
        """The cotangents of the problem's inputs by the reverse solve."""
        needed = needs[2 : 2 + len(problem.captured)]
        wanted = [tensor for tensor, need in zip(problem.captured, needed, strict=True) if need]
        count = problem.field.count
        with problem.field.unseen():
            reverse = Reverse(self, problem, backend, wanted, needs[1])
            a, grads, times = reverse.run(values, torch.where(torch.isfinite(values), g, 0.0))
        spent = problem.field.count - count + reverse.evaluations
        statistics.backward_evaluations += spent
        statistics.backward_vjps += spent
        problem.field.count = count
        found = iter(grads)
        by_params = [next(found) if need else None for need in needed]
        jumps = [] if problem.moved is None else [reverse.jump_grad]
        return [a, fold_times(times, problem.t), *by_params, *jumps]


def _one_clock(problem: ODEProblem) -> bool:
    """Whether all lanes have the same times and the same jumps."""
    times = [problem.grid, *([] if problem.landings is None else [problem.landings.times])]
    return all(bool((part == part[:, :1]).all()) for part in times)


class Reverse:
    """The backward solve over all intervals between asked times; the lanes of a batch share its steps."""

    def __init__(
        self, method: Adjoint, problem: ODEProblem, backend: Backend, params: list[Tensor], need_times: bool
    ) -> None:
        self.method, self.p, self.backend, self.params = method, problem, backend, params
        self.time_grad = torch.zeros(problem.grid.shape, dtype=torch.float64) if need_times else None
        self.jump_grad = jump_cotangents(problem)
        self.callbacks = callbacks_of(problem.field.f, "_adjoint")
        self.plain = None if backend is EAGER else augmented(problem, params)
        self.evaluations = 0  # by compiled code, which the field does not see

    def run(self, values: Tensor, g: Tensor) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """Cotangents of y0, of the parameters and of the times [T, L], for g [T, L * N] at the states `values`."""
        a = torch.zeros_like(g[0])
        shares = [torch.zeros_like(p) for p in self.params]
        rows, all_lanes = g.view(len(g), self.p.layout.lanes, -1), torch.ones(self.p.layout.lanes, dtype=torch.bool)
        if self.jump_grad is not None:
            add_saltation(self.p, self.jump_grad, rows, self.p.grid[-1], torch.nan_to_num(values[-1]), a, all_lanes)
        for j in range(len(values) - 1, 0, -1):
            if self.time_grad is not None:
                self.time_grad[j] += self._rate(j, values[j], g[j])
            a = a + g[j]
            y, times = torch.nan_to_num(values[j]), self._times(j)
            for begin, end in pairwise(times):
                y, a, shares = self._interval(begin, end, y, a, shares)
                if self.jump_grad is not None:
                    add_saltation(self.p, self.jump_grad, rows, end, y, a, all_lanes)
        if self.time_grad is not None:
            self.time_grad[0] -= self._rate(0, values[0], a)
        return a + g[0], shares, self.time_grad

    def _times(self, j: int) -> list[Tensor]:
        """The times [L] from the asked one j back to the one before it, over the jumps in between that move."""
        begin, end = self.p.grid[j], self.p.grid[j - 1]
        if not bool((begin != end).any()):
            return []
        found = [begin]
        if self.jump_grad is not None and self.p.landings is not None:
            rows = torch.unique(self.p.landings.times[:, 0]) * self.p.direction
            inside = rows[(rows < begin[0] * self.p.direction) & (rows > end[0] * self.p.direction)]
            found += [row.expand(len(begin)) for row in (inside.flip(0) * self.p.direction).unbind()]
        return [*found, end]

    def _rate(self, j: int, y: Tensor, cotangent: Tensor) -> Tensor:
        """<cotangent, f(t_j, y)> per lane."""
        with torch.no_grad():
            clear = self.p.edges(self.p.grid[max(j - 1, 0)], self.p.grid[j] if j else self.p.grid[-1])
            slope = self.p.field(self._time(self.p.grid[j], clear), y)
        return (cotangent.conj() * slope).real.view(self.p.layout.lanes, -1).sum(1).cpu().double()

    def _time(self, t: Tensor, clear: tuple[Tensor, ...] = ()) -> Tensor:
        moment = self.p.times(torch.zeros(1, dtype=torch.float64), t, torch.zeros_like(t), *clear)[0]
        return moment

    def _interval(
        self, begin: Tensor, end: Tensor, y: Tensor, a: Tensor, shares: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Solve from `begin` [L] back to `end` [L]; time runs over [0, 1] when the lanes have times of their own."""
        if self.plain is not None:
            found = self._compiled((y.detach(), a, *shares), torch.stack([begin[0], end[0]]))
            if found is not None:
                return found[0], found[1], list(found[2:])
        lanes, span = self.p.layout.lanes, end - begin
        per_lane = span.to(y.device, self.p.layout.real)[:, None]

        def augmented(s: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            t = begin + float(s) * span if self.p.layout.batched else s.cpu().double().reshape(1)
            with torch.enable_grad():
                u = state[0].detach().requires_grad_()
                k = self.p.field(self._time(t), u)
                cotangent = -state[1]
                if self.p.layout.batched:
                    cotangent = (cotangent.view(lanes, -1) * per_lane).reshape(-1)
                inputs = [u, *self.params]
                found = (
                    torch.autograd.grad(k, inputs, cotangent, allow_unused=True)
                    if k.requires_grad
                    else [None] * len(inputs)
                )
            slope = (k.detach().view(lanes, -1) * per_lane).reshape(-1) if self.p.layout.batched else k.detach()
            return (slope, *(torch.zeros_like(x) if v is None else v for x, v in zip(inputs, found, strict=True)))

        times = torch.tensor([0.0, 1.0]) if self.p.layout.batched else torch.stack([begin[0], end[0]])
        solution = self._solve(augmented, (y.detach(), a, *shares), times)
        parts = solution.y
        return parts[0][-1], parts[1][-1], [part[-1] for part in parts[2:]]

    def _compiled(self, state: tuple[Tensor, ...], t: Tensor) -> tuple[Tensor, ...] | None:
        """The state (y, a, *shares) at t[1] by the native engine; None where it does not take f, and from then on."""
        with torch.no_grad():
            problem = self.p.posed(self.plain, state, t, **self._how(self.plain, state, t))  # type: ignore[arg-type]
            engine = self.backend.of(problem)
            if engine is EAGER:
                self.plain = None
                return None
            outcome = engine.solve(problem)
            self.evaluations += outcome.statistics.evaluations
            return tuple(part[-1] for part in self._concluded(problem, outcome).y)

    def _how(self, f: Any, y: tuple[Tensor, ...], t: Tensor) -> dict[str, Any]:
        """Solver, tolerances, controller, limits and grid of the reverse solve of f from y over t [2]."""
        m, p = self.method, self.p
        if p.layout.batched and not (m.stops is None and m.jumps is None and m.grid is None):
            raise InputError("gradient 'adjoint' of a batch with a grid, stops or jumps of its own: leave them out.")
        given = {"rtol": m.rtol, "atol": m.atol}
        return {
            **{name: value for name, value in given.items() if value is not None},
            "solver": m.solver or p.tableau,
            "control": m.control or (p.control if m.solver is None else None),
            "limits": m.limits,
            "stops": m.stops if m.grid is None else m.grid(f, y, t).detach().cpu().double().reshape(-1),
            "jumps": m.jumps,
            "perturb": m.perturb,
        }

    def _solve(self, f: Any, y: tuple[Tensor, ...], t: Tensor) -> Solution:
        m, p = self.method, self.p
        with torch.no_grad():
            norm = _seminorm if m.seminorm else (None if m.norm is None else self._measure)
            landings = None if p.layout.batched or p.landings is None else replace(p.landings, moved=None, reads=None)
            problem = self.p.posed(f, y, t, norm=norm, landings=landings, recall=None, **self._how(f, y, t))
            problem.callbacks = self.callbacks
            return self._concluded(problem, EAGER.solve(problem))

    def _concluded(self, problem: ODEProblem, outcome: Outcome) -> Solution:
        try:
            return conclude(problem, outcome.values, outcome, self.method.name, True)
        except SolveError as error:
            raise SolveError(f"the reverse solve of the adjoint method failed: {error}", error.solution) from error

    def _measure(self, state: Any) -> Tensor:
        """The user's norm of (t, *y, *a, *params), each in its own shape."""
        y, a = (self.p.layout.unpack(part) for part in state[:2])
        parts = (*(y if isinstance(y, tuple) else (y,)), *(a if isinstance(a, tuple) else (a,)))
        return self.method.norm((state[0].new_zeros(()), *parts, *state[2:]))  # type: ignore[misc]


def _seminorm(state: Any) -> Tensor:
    """rms of the state and of its adjoint; the parameters do not count."""
    return torch.maximum(rms(state[0]), rms(state[1]))
