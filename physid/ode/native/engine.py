"""The compiled engine: march, pullback and sensitivities of a problem whose f has become C."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from physid.ode.backend import Cotangents, Engine
from physid.ode.caching import Cache
from physid.ode.directions import Directions, column_sizes
from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.diagnostics import sentence
from physid.ode.eager.engine import EAGER
from physid.ode.eager.outcome import Outcome
from physid.ode.native.code import Code
from physid.ode.native.kernel import Kernel
from physid.ode.native.runtime import Begun, NativeRun, carry, march, misfit, pull
from physid.ode.native.structures import STATUSES, LaneReport
from physid.ode.native.task import settings_of
from physid.ode.problem import ODEProblem
from physid.ode.reads import Foreseen
from physid.ode.solution import Statistics, Status

REPORT = np.dtype(LaneReport)


@dataclass
class Compiled(Outcome):
    """The outcome of a compiled march; its grids are read when asked for."""

    run: NativeRun | None = None

    def grids(self, lanes: int) -> Callable[[], list[Tensor]]:
        """What reads the accepted times of every lane."""
        return self.run.grids if self.run else list


@dataclass(frozen=True)
class Native:
    """Solves by one kernel; what it cannot do is left to the eager engine.

    `constants` [C], and the captured tensors with their numbers [RAW] in `bound`, are those that f was recalled with.
    """

    kernel: Kernel
    code: Code
    constants: Tensor | None = None
    bound: tuple[Sequence[Tensor], Tensor] | None = None
    name: str = "native"

    def foresees(self, captured: Sequence[Tensor]) -> Foreseen | None:
        """At which times f reads its inputs; None where its record does not show that."""
        moments = self.kernel.moments
        return None if moments is None or self.constants is None else moments.bound(captured, self.constants)

    def count_from_here(self) -> Callable[[int], None]:
        """What f counts by is moved by as many evaluations as are told at the end."""
        return self.kernel.around.tallies.count_from_here()

    def pushing(self) -> Native:
        """Itself, after it has been told where the tangents of f lie."""
        self.code.use_tangents(ctypes.cast(self.kernel.tangents.physid_tangents, ctypes.c_void_p))
        return self

    def of(self, problem: ODEProblem, forward: bool = False) -> Native:
        """Itself."""
        return self

    def by_torch(self, why: str) -> Engine:
        """The eager engine."""
        return EAGER

    def solve(self, problem: ODEProblem) -> Outcome:
        """March and keep nothing."""
        return _outcome(problem, *self._march(problem, keep=False))

    def march(
        self, problem: ODEProblem, aware: bool = False, checkpoints: int | None = None, remember: bool | None = None
    ) -> tuple[Outcome, Any]:
        """Solve; what is kept is the run with its tape."""
        slopes = problem.t.requires_grad
        run, y = self._march(problem, keep=True, slopes=slopes, choices=aware, checkpoints=checkpoints)
        if aware and any(report.rejected for report in run.reports):
            outcome, tape = EAGER.march(problem, aware=True)
            outcome.fallback = "the step-aware gradient of a solve with rejected attempts follows them by torch"
            return outcome, tape
        return _outcome(problem, run, y), run

    def _march(self, problem: ODEProblem, **kept: Any) -> tuple[NativeRun, Tensor]:
        """The run and the states [T, L * N]."""
        raw, p, c = self._pack(problem.captured)
        probes = None if problem.probes is None else self._begun(problem, c)
        run, y = march(self.code.now(), settings_of(problem), _flat(problem), p, c, raw, probes=probes, **kept)
        self._counted(problem, run)
        return run, y

    def _counted(self, problem: ODEProblem, run: NativeRun, beside: int = 0) -> None:
        """Count the evaluations of a march, and those `beside` it, as f does, but for those that f has counted."""
        if self.kernel.around.tallies.all:
            made = sum(report.evaluations for report in run.reports) + beside
            self.kernel.around.tallies.count(made - problem.counted())

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
        """Cotangents of y0 [L * N], of those of `captured` that need one, of times [T, L] and jumps [J, L or 1]."""
        if isinstance(kept, Tape):
            return EAGER.pull(problem, kept, captured, needs, need_times, stats, g)
        moved = problem.moved
        ybar, pbar, tbar, jbar = pull(kept, g, self.kernel.p, need_times, moved is not None)
        if jbar is not None and moved is not None and moved.shape[1] == 1:
            jbar = jbar.sum(1, keepdim=True)
        self.kernel.around.tallies.count(kept.task.replayed)
        stats.backward_evaluations += kept.task.replayed
        stats.backward_vjps += kept.task.vjps
        if not any(needs):
            return ybar, [None] * len(needs), tbar, jbar
        found = self.kernel.pull(_summed(pbar, self.kernel.sampled), captured, kept.c, kept.raw)
        return ybar, [grad if need else None for grad, need in zip(found, needs, strict=True)], tbar, jbar

    def misfit(
        self, problem: ODEProblem, target: Tensor, weight: Tensor | None
    ) -> tuple[Outcome | None, float, Tensor, list[Tensor]]:
        """Solve and sum weight (y - target)^2: with cotangents of y0 [L * N] and of the captured tensors.

        The outcome is that of a solve that failed, None for one that reached its end.
        """
        raw, p, c = self._pack(problem.captured)
        probes = None if problem.probes is None else self._begun(problem, c)
        run, y, ybar, pbar = misfit(
            self.code.now(), settings_of(problem), _flat(problem), p, c, raw, target.detach(), weight, probes
        )
        self._counted(problem, run, run.task.replayed)
        if pbar is None:
            return _outcome(problem, run, y), math.nan, ybar, []
        found = self.kernel.pull(_summed(pbar, self.kernel.sampled), problem.captured, c, raw)
        return None, run.task.total, ybar, found

    def tape(self, problem: ODEProblem, kept: Any) -> Tape:
        """The accepted steps, for a differentiable replay by torch."""
        found: Tape = kept if isinstance(kept, Tape) else kept.tape()
        return found

    def differentiate(self, problem: ODEProblem, params: list[Tensor]) -> tuple[Outcome, Tensor, Tensor]:
        """Solve with sensitivities: by y0 [T, L, N, N] and by all parameters [T, L, N, Q]."""
        _, p, c = self._pack(params)
        seeds = self.kernel.seeds(params, c)
        layout, moves = problem.layout, problem.landings if problem.moved is not None else None
        jumps = None if moves is None else moves.tangents(problem.origin, layout.lanes, layout.width, params)
        sizes = None if problem.probes is None else column_sizes(problem, problem.probes, params)
        run, y, by_all = carry(self.code.now(), settings_of(problem), _flat(problem), p, c, seeds, jumps, sizes)
        outcome, width = _outcome(problem, run, y), problem.layout.width
        self._counted(problem, run, outcome.statistics.evaluations)
        if sizes is not None:
            outcome.tangents = (by_all[-1] * sizes[:, None]).permute(2, 0, 1).flatten(1)
        outcome.statistics.backward_evaluations += outcome.statistics.evaluations
        return outcome, by_all[..., :width], by_all[..., width:]

    def _begun(self, problem: ODEProblem, c: Tensor) -> Begun:
        """The probes of a problem at its start."""
        if problem.probes is None:
            raise RuntimeError("there are no probes")
        found, layout = Directions.of(problem, problem.probes), problem.layout
        start = found.start.view(-1, layout.lanes, layout.width).permute(1, 2, 0)
        return Begun(start, self.kernel.directions(list(problem.unknowns), c, found.params, layout.lanes))

    def _pack(self, captured: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Captured numbers [RAW], prepared parameters [P] and constants [C]."""
        c = self.kernel.constants() if self.constants is None else self.constants
        bound = self.bound
        raw = bound[1] if bound is not None and bound[0] is captured else self.kernel.flat(captured)
        return raw, self.kernel.prepare(raw, c), c


def _flat(problem: ODEProblem) -> Tensor:
    y0 = problem.y0
    return y0.detach() if y0.is_contiguous() else y0.detach().contiguous()


def _summed(pbar: Tensor, sampled: bool) -> Tensor:
    """Cotangents [L, P] of parameters that all lanes share [P]."""
    if sampled:
        return pbar
    return pbar[0] if len(pbar) == 1 else pbar.sum(0)


def _outcome(problem: ODEProblem, run: NativeRun, y: Tensor) -> Outcome:
    """Statuses, sentences and statistics as the eager march gives them."""
    task, reports = run.task, run.reports
    if task.lanes == 1:
        one = reports[0]
        accepted, rejected, evaluations, stiff = one.accepted, one.rejected, one.evaluations, bool(one.stiff)
        pushed = one.pushed
        failed = [0] if one.status else []
    else:
        table = np.frombuffer(reports, REPORT)
        names = ("accepted", "rejected", "evaluations", "pushed")
        accepted, rejected, evaluations, pushed = (int(table[name].sum()) for name in names)
        stiff, failed = bool(table["stiff"].any()), table["status"].nonzero()[0].tolist()
    statistics = Statistics(
        evaluations=evaluations,
        accepted=accepted,
        rejected=rejected,
        tangents=pushed,
        checkpoint_bytes=task.checkpoint_bytes if task.keep_states else 0,
        stage_bytes=task.kept_bytes,
        stiff=stiff,
    )
    statuses, messages = [Status.SUCCESS] * task.lanes, {}
    for lane in failed:
        report = reports[lane]
        status = statuses[lane] = STATUSES[report.status]
        messages[lane] = sentence(problem, lane, status, run.ends[0], report.reached, bool(report.stiff))
    tangents = None if run.tangents is None else run.tangents.permute(2, 0, 1).reshape(run.tangents.shape[-1], -1)
    return Compiled(y, statuses, messages, statistics, [], [], tangents=tangents, final=run.ends[1], run=run)


def engine_of(kernel: Kernel) -> Native:
    """The engine of a kernel; kernels of one library share its entry points."""
    return Native(kernel, _CODES.made(kernel.library._name, lambda: Code(kernel)))


_CODES: Cache[str, Code] = Cache(256)
