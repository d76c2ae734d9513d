"""The eager engine: march, pullback and sensitivities by torch, for any module on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.backend import Cotangents
from physid.ode.eager import pullback_batched
from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.forward_sensitivity import Flow
from physid.ode.eager.march import March
from physid.ode.eager.outcome import Outcome
from physid.ode.eager.pullback import Pullback
from physid.ode.eager.pullback_stepsize import AwarePullback
from physid.ode.eager.remembered import ROOM, Remembered
from physid.ode.eager.tangents import Tangents
from physid.ode.problem import ODEProblem
from physid.ode.solution import Statistics, Status


@dataclass(frozen=True)
class Eager:
    """Every operation by torch: any module on any device."""

    name: str = "eager"

    def of(self, problem: ODEProblem, forward: bool = False) -> Eager:
        """Itself."""
        return self

    def count_from_here(self) -> Callable[[int], None]:
        """f counts by itself."""
        return lambda evaluations: None

    def by_torch(self, why: str) -> Eager:
        """Itself."""
        return self

    def solve(self, problem: ODEProblem) -> Outcome:
        """March without a graph."""
        return March(problem).run()

    def traced(self, problem: ODEProblem) -> Outcome:
        """March inside of autograd's graph, the search for the step size included."""
        return March(problem, traced=True).run()

    def march(
        self, problem: ODEProblem, aware: bool = False, checkpoints: int | None = None, remember: bool | None = None
    ) -> tuple[Outcome, Any]:
        """Solve; what is kept is the tape."""
        layout, field = problem.layout, problem.field
        tape = Tape(layout.lanes, layout.width, layout.dtype, layout.device, checkpoints, aware)
        if remember is False or checkpoints is not None or aware or not _can_remember(problem):
            return March(problem, tape=tape).run(), tape
        tape.remembered = remembered = Remembered(problem.captured, layout.width, None if remember else ROOM)
        field.evaluate = remembered.evaluate
        try:
            return March(problem, tape=tape).run(), tape
        finally:
            field.evaluate = tape.remembered = None
            tape.numbers = remembered.numbers

    def pull(
        self,
        problem: ODEProblem,
        kept: Any,
        captured: Sequence[Tensor],
        needs: Sequence[bool],
        need_times: bool,
        stats: Statistics,
        g: Tensor,
    ) -> Cotangents:
        """Small states many steps at once where f and the gradient allow it, else one accepted step at a time."""
        wanted = [tensor for tensor, need in zip(captured, needs, strict=True) if need]
        evaluations = problem.field.count
        with problem.field.unseen():
            ybar, found, tbar, jbar = self._pull(problem, kept, wanted, need_times, stats, g)
        problem.field.count = evaluations
        grads = iter(found)
        return ybar, [next(grads) if need else None for need in needs], tbar, jbar

    def _pull(
        self, problem: ODEProblem, kept: Any, wanted: list[Tensor], need_times: bool, stats: Statistics, g: Tensor
    ) -> Cotangents:
        if kept.choices is not None:
            return *AwarePullback(problem, kept, wanted, need_times, stats).run(g), None
        if not kept.graphs and not kept.thinned and pullback_batched.applies(problem, kept, stats):
            counts = (stats.backward_evaluations, stats.backward_vjps)
            try:
                wider = pullback_batched.WidePullback(problem, kept, wanted, need_times, stats)
                return *wider.run(g), wider.jump_grad
            except pullback_batched.NotWide:
                stats.backward_evaluations, stats.backward_vjps = counts
        pullback = Pullback(problem, kept, wanted, need_times, stats)
        return *pullback.run(g), pullback.jump_grad

    def tape(self, problem: ODEProblem, kept: Any) -> Tape:
        """The checkpoints of the march."""
        tape: Tape = kept
        return tape

    def differentiate(self, problem: ODEProblem, params: list[Tensor]) -> tuple[Outcome, Tensor, Tensor]:
        """March, then differentiate the stages of all steps at once."""
        if problem.field.random is not None:
            raise InputError(
                "f draws random numbers (dropout?): forward sensitivities need a deterministic f; call .eval()."
            )
        if problem.probes is None:
            outcome, tape = self.march(problem)
        else:
            layout = problem.layout
            tape = Tape(layout.lanes, layout.width, layout.dtype, layout.device)
            columns = Tangents.columns(problem, problem.probes, params)
            outcome = March(problem, tape=tape, tangents=columns).run()
            outcome.tangents = columns.sized
        if all(status is Status.TIME_LIMIT for status in outcome.statuses):  # nor is there time for derivatives
            lead = (len(outcome.values), problem.layout.lanes, problem.layout.width)
            blank = outcome.values.new_full((*lead, 1), torch.nan)
            return outcome, blank.expand(*lead, lead[-1]), blank.expand(*lead, sum(p.numel() for p in params))
        flow = Flow(problem, tape, params)
        evaluations = problem.field.count
        with problem.field.unseen():
            by_all = flow.run()
        problem.field.count = evaluations
        outcome.statistics.backward_evaluations += flow.evaluations
        reached = torch.isfinite(outcome.values.detach()).view(*by_all.shape[:3], 1)
        by_all = torch.where(reached, by_all, torch.nan)
        return outcome, by_all[..., : problem.layout.width], by_all[..., problem.layout.width :]


def _can_remember(problem: ODEProblem) -> bool:
    """Whether the stages of a step are those that the backward pass asks for, one after the other."""
    field, tableau = problem.field, problem.tableau
    plain = field.random is None and not field.buffers and not problem.t.requires_grad
    alone = problem.layout.lanes == 1 and problem.probes is None and not len(problem.jumps)
    return plain and alone and tableau.fsal and not tableau.extra_c


EAGER = Eager()
