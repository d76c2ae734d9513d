"""What carries out a solve for a gradient method: the eager tier here, the compiled one in `native`.

The march is handed to a gradient method as such a value, so that neither knows how the other works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.eager import pullback_batched
from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.forward_sensitivity import Flow
from physid.ode.eager.march import March
from physid.ode.eager.outcome import Outcome
from physid.ode.eager.pullback import Pullback
from physid.ode.eager.pullback_stepsize import AwarePullback
from physid.ode.eager.tangents import Tangents
from physid.ode.problem import Problem
from physid.ode.solution import Statistics, Status

Cotangents = tuple[Tensor, list[Tensor | None], Tensor | None, Tensor | None]


class Tier(Protocol):
    """Marches, pulls cotangents back, and differentiates forwards; what it keeps of a march is its own affair."""

    @property
    def name(self) -> str:
        """The engine's name in a Solution."""
        ...

    def march(
        self, problem: Problem, keep: bool, aware: bool = False, checkpoints: int | None = None
    ) -> tuple[Outcome, Any]:
        """Solve; with `keep`, what `pull` and `tape` need comes along, the choice of the steps too with `aware`.

        No more than `checkpoints` states of a lane are held, during the march and during the pullback.
        """
        ...

    def pull(
        self,
        problem: Problem,
        kept: Any,
        captured: Sequence[Tensor],
        needs: Sequence[bool],
        need_times: bool,
        stats: Statistics,
        g: Tensor,
    ) -> Cotangents:
        """g [T, L * N] -> cotangents of y0 [L * N], of those of `captured` that need one, of the times [T, L].

        The last ones are those of the jumps that move [J, L or 1].
        """
        ...

    def tape(self, problem: Problem, kept: Any) -> Tape:
        """The accepted steps, for a differentiable replay."""
        ...

    def differentiate(self, problem: Problem, params: list[Tensor]) -> tuple[Outcome, Tensor, Tensor]:
        """Solve, with the derivatives of the states by y0 [T, L, N, N] and by all parameters [T, L, N, Q]."""
        ...


@dataclass(frozen=True)
class Eager:
    """Every operation by torch: any module on any device."""

    name: str = "eager"

    def march(
        self, problem: Problem, keep: bool, aware: bool = False, checkpoints: int | None = None
    ) -> tuple[Outcome, Any]:
        """Solve; what is kept is the tape."""
        layout = problem.layout
        tape = Tape(layout.lanes, layout.width, layout.dtype, layout.device, checkpoints, aware) if keep else None
        return March(problem, tape=tape).run(), tape

    def pull(
        self,
        problem: Problem,
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
        self, problem: Problem, kept: Any, wanted: list[Tensor], need_times: bool, stats: Statistics, g: Tensor
    ) -> Cotangents:
        if kept.choices is not None:
            return *AwarePullback(problem, kept, wanted, need_times, stats).run(g), None
        if pullback_batched.applies(problem) and not kept.thinned:
            counts = (stats.backward_evaluations, stats.backward_vjps)
            try:
                wider = pullback_batched.WidePullback(problem, kept, wanted, need_times, stats)
                return *wider.run(g), wider.jump_grad
            except pullback_batched.NotWide:
                stats.backward_evaluations, stats.backward_vjps = counts
        pullback = Pullback(problem, kept, wanted, need_times, stats)
        return *pullback.run(g), pullback.jump_grad

    def tape(self, problem: Problem, kept: Any) -> Tape:
        """What was kept."""
        tape: Tape = kept
        return tape

    def differentiate(self, problem: Problem, params: list[Tensor]) -> tuple[Outcome, Tensor, Tensor]:
        """March, then differentiate the stages of all steps at once."""
        if problem.field.random is not None:
            raise InputError(
                "f draws random numbers (dropout?): forward sensitivities need a deterministic f; call .eval()."
            )
        if problem.probes is None:
            outcome, tape = self.march(problem, keep=True)
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


EAGER = Eager()
