"""The compiled tier: march, pullback and sensitivities of a problem whose f has become C."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from physid.ode.failure import sentence
from physid.ode.march import Outcome
from physid.ode.native.kernel import Kernel
from physid.ode.native.runtime import Library, Run, march, pull
from physid.ode.native.settings import settings_of
from physid.ode.problem import Problem
from physid.ode.solution import Statistics, Status
from physid.ode.tape import Tape
from physid.ode.tier import Cotangents

# by the numbers of base.h
STATUSES = (
    Status.SUCCESS,
    Status.NOT_A_NUMBER,
    Status.BLOW_UP,
    Status.STEP_TOO_SMALL,
    Status.MAX_STEPS,
    Status.TIME_LIMIT,
)


@dataclass
class Compiled(Outcome):
    """The outcome of a compiled march; its grids are read when asked for."""

    run: Run | None = field(default=None)

    def grids(self, lanes: int) -> Callable[[], list[Tensor]]:
        """What reads the accepted times of every lane."""
        return self.run.grids() if self.run else list


@dataclass(frozen=True)
class Native:
    """Solves by one kernel."""

    kernel: Kernel
    library: Library
    constants: Tensor | None = None
    name: str = "native"

    def march(self, problem: Problem, keep: bool, aware: bool = False) -> tuple[Outcome, Run]:
        """Solve; what is kept is the run with its tape."""
        p, c = self._pack(problem.captured)
        slopes = keep and problem.t.requires_grad
        run = march(self.library, settings_of(problem), _flat(problem), p, c, keep=keep, slopes=slopes, choices=aware)
        return _outcome(problem, run), run

    def pull(
        self,
        problem: Problem,
        kept: Run,
        captured: Sequence[Tensor],
        needs: Sequence[bool],
        need_times: bool,
        stats: Statistics,
        g: Tensor,
    ) -> Cotangents:
        """Cotangents of y0 [L * N], of those of `captured` that need one, and of the times [T, L]."""
        ybar, pbar, tbar = pull(kept, g, self.kernel.p, need_times)
        stats.backward_evaluations += kept.task.replayed
        stats.backward_vjps += kept.task.vjps
        if not any(needs):
            return ybar, [None] * len(needs), tbar
        found = self.kernel.pull(pbar if self.kernel.sampled else pbar.sum(0), captured, kept.held["c"])
        return ybar, [grad if need else None for grad, need in zip(found, needs, strict=True)], tbar

    def tape(self, problem: Problem, kept: Run) -> Tape:
        """The accepted steps, for a differentiable replay by torch."""
        return kept.tape()

    def differentiate(self, problem: Problem, params: list[Tensor]) -> tuple[Outcome, Tensor, Tensor]:
        """Solve with sensitivities: by y0 [T, L, N, N] and by all parameters [T, L, N, Q]."""
        p, c = self._pack(params)
        run = march(self.library, settings_of(problem), _flat(problem), p, c, self.kernel.seeds(params, c))
        outcome = _outcome(problem, run)
        outcome.statistics.backward_evaluations += outcome.statistics.evaluations
        by_all, width = run.held["sensitivity"], problem.layout.width
        return outcome, by_all[..., :width], by_all[..., width:]

    def _pack(self, captured: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Prepared parameters [P] and constants [C]."""
        c = self.kernel.constants() if self.constants is None else self.constants
        return self.kernel.prepare(self.kernel.flat(captured), c), c


def _flat(problem: Problem) -> Tensor:
    return problem.y0.detach().contiguous()


def _outcome(problem: Problem, run: Run) -> Outcome:
    """Statuses, sentences and statistics as the eager march gives them."""
    accepted, rejected, evaluations = run.counts.sum(1).tolist()
    stiff = bool(run.flags[1].any())
    checkpoints, stages = run.tape_bytes()
    statistics = Statistics(
        evaluations=evaluations,
        accepted=accepted,
        rejected=rejected,
        checkpoint_bytes=checkpoints if run.task.keep_states else 0,
        stage_bytes=stages,
        seconds=time.perf_counter() - problem.started,
        stiff=stiff,
    )
    statuses, messages = [Status.SUCCESS] * problem.layout.lanes, {}
    for lane in run.statuses.nonzero()[0].tolist():
        status = statuses[lane] = STATUSES[run.statuses[lane]]
        reached = float(run.reached[lane])
        messages[lane] = sentence(problem, lane, status, run.held["culprit"], reached, bool(run.flags[1, lane]))
    return Compiled(run.y, statuses, messages, statistics, [], [], final=run.held["final"], run=run)


def tier_of(kernel: Kernel) -> Native:
    """The tier of a kernel; its entry points are declared once."""
    library = _LIBRARIES.get(kernel.library._name)
    if library is None:
        library = _LIBRARIES[kernel.library._name] = Library.of(kernel.library)
    return Native(kernel, library)


_LIBRARIES: dict[str, Library] = {}
