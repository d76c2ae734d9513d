"""The forward loop: attempts, accepts and rejects steps, and reads the asked states off each accepted one.

One loop serves a step shared by all lanes and steps of their own; with `traced=True` everything, the search for the
step size included, stays in autograd's graph.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from physid.ode.control import Fixed
from physid.ode.eager.checkpoints import CAPPED, CUT, KEPT, LIMITED, Tape
from physid.ode.eager.dense_output import Outputs
from physid.ode.eager.diagnostics import flown_off, looks_stiff, sentence
from physid.ode.eager.initial_step import initial_step
from physid.ode.eager.outcome import AcceptedStep, Outcome
from physid.ode.eager.stages import InPlace, Stages, Traced, evaluate
from physid.ode.eager.tangents import Tangents
from physid.ode.hearing import OutOfTime, audible, end_of
from physid.ode.problem import ODEProblem
from physid.ode.solution import Statistics, Status

HEARD_STEPS = 256  # whose outputs become one piece of a graph: within it a backward pass hears nothing


class March:
    """One solve in progress; all per-lane quantities are [L] on the host."""

    def __init__(
        self,
        problem: ODEProblem,
        *,
        traced: bool = False,
        tape: Tape | None = None,
        watch: Callable[[AcceptedStep], Tensor | None] | None = None,
        tangents: Tangents | None = None,
    ) -> None:
        p = self.problem = problem
        self.tangents = tangents
        if tangents is None and p.probes is not None:
            self.tangents = Tangents.random(p, p.probes)
        self.traced, self.tape, self.watch = traced, tape, watch
        lanes = p.layout.lanes
        self.stages: Stages = (Traced if traced else InPlace)(p.coefficients, p.layout)
        self.base = range(1, len(p.tableau.b))
        self.c = p.coefficients.c[: len(p.tableau.b)]
        self.stage_times = p.times
        self.y = p.y0 if traced else p.y0.detach()
        self.fresh: Tensor | None = None if traced else p.derivative
        moving = p.t.reshape(len(p.t), -1).expand(-1, lanes) if traced else p.grid
        self.t, self.end = moving[0], moving[-1]
        self.fixed = isinstance(p.control, Fixed)
        self.pointer = torch.zeros(lanes, dtype=torch.long)
        self.outputs = Outputs(p, self.y, moving, tape)
        if traced:
            self.outputs.chunk = min(self.outputs.chunk, HEARD_STEPS)
        self.active = torch.ones(lanes, dtype=torch.bool)
        self.statuses = [Status.SUCCESS] * lanes
        self.messages: dict[int, str] = {}
        self.accepted = torch.zeros(lanes, dtype=torch.long)
        self.rejected = torch.zeros(lanes, dtype=torch.long)
        one = torch.ones(lanes, dtype=torch.float64)
        self.ratios = (one, one, one)
        self.after_rejection = torch.zeros(lanes, dtype=torch.bool)
        self.calm = True  # no lane was rejected in the last attempt
        self.times, self.taken = [self.t.detach()], [torch.ones(lanes, dtype=torch.bool)]
        self.event_time: Tensor | None = None
        self.stiff = False
        self.refusals = 0  # attempts in which some lane was rejected
        self.single_stop = len(p.stops) == 1 and not p.moving_stops
        self.bounded = p.limits.min_step > 0 or p.limits.max_step < math.inf

    def run(self) -> Outcome:
        """March until every lane has reached its end, failed, or met its event."""
        with torch.enable_grad() if self.traced else torch.no_grad():
            self._march()
            values = self.outputs.collect()
        p = self.problem
        statistics = Statistics(
            evaluations=p.field.count,
            accepted=int(self.accepted.sum()),
            rejected=int(self.rejected.sum()),
            checkpoint_bytes=self.tape.bytes if self.tape else 0,
            seconds=time.perf_counter() - p.started,
            stiff=self.stiff,
            tangents=self.tangents.pushed if self.tangents else 0,
        )
        return Outcome(
            values,
            self.statuses,
            self.messages,
            statistics,
            self.times,
            self.taken,
            self.event_time,
            self.tape,
            self.tangents.now if self.tangents else None,
            final=self.y,
        )

    def _march(self) -> None:
        p = self.problem
        p.field.until = end_of(p.started, p.limits.seconds)
        self.kept = p.field.snapshot()
        try:
            self._begin()
            while bool(self.active.any()) and not self._out_of_budget():
                self._attempt()
        except OutOfTime:
            p.field.restore(self.kept)
            self.stiff = self.stiff or looks_stiff(p, self.stages)
            self._fail(self.active.clone(), Status.TIME_LIMIT, None, self.t)
        finally:
            p.field.until = None

    def _begin(self) -> None:
        p = self.problem
        lanes = p.layout.lanes
        if not bool(torch.isfinite(p.derivative.abs().sum())):
            finite = torch.isfinite(p.derivative.view(lanes, -1)).all(1).cpu()
            self._fail(~finite, Status.NOT_A_NUMBER, p.derivative, self.t)
        if self.fixed:
            self.h = torch.full((lanes,), p.direction * math.inf, dtype=torch.float64)
        elif p.limits.first_step is not None:
            self.h = torch.full((lanes,), p.direction * p.limits.first_step, dtype=torch.float64)
        else:
            with torch.no_grad(), p.field.unseen():
                self.h = initial_step(p)
        span = (self.end - self.t).detach().abs()
        self.pointer = torch.where(span == 0, len(p.stops) - 1, self.pointer)

    def _out_of_budget(self) -> bool:
        limits = self.problem.limits
        if len(self.times) + self.refusals < limits.max_steps:
            return False
        spent = self.active & (self.accepted + self.rejected >= limits.max_steps)
        if bool(spent.any()):
            self.stiff = self.stiff or looks_stiff(self.problem, self.stages)
            self._fail(spent, Status.MAX_STEPS, None, self.t)
        return not bool(self.active.any())

    def _clip(self) -> tuple[Tensor, Tensor, Tensor]:
        """End of the attempt, its signed length, and whether a stop cut it."""
        p = self.problem
        stop, length = self._stop(), self.h
        if self.bounded:
            length = length.abs().clamp(min=p.limits.min_step, max=p.limits.max_step) * p.direction
        cut = (p.direction * (self.t + 1.01 * length - stop) >= 0).detach()
        end = stop if self.fixed else torch.where(cut, stop, self.t + length)
        if p.layout.lanes > 1:
            end = torch.where(self.active, end, self.t)
        return end, end - self.t, cut

    def _stop(self) -> Tensor:
        """The next time on which a step must land [L]."""
        p = self.problem
        if self.single_stop:
            return self.end
        stop = p.stops.gather(0, self.pointer[None])[0]
        if self.traced:
            stop = torch.where(stop == self.end, self.end, stop)
            if p.moving_stops:
                stop = self.outputs.tied(stop)
            stop = self._moved(stop)
        return stop

    def _moved(self, stop: Tensor) -> Tensor:
        """These stops, with the graph of jumps among them that unknowns move."""
        landings, moved = self.problem.landings, self.problem.moved
        if landings is None or moved is None:
            return stop
        return landings.moved_with(self.problem, moved, stop, stop.detach() != self.end.detach(), stop, last=False)

    def _attempt(self) -> None:
        p = self.problem
        end, h, cut = self._clip()
        scaled = self._on_device(h)
        edges = p.edges(self.t, end)
        times = self.stage_times(self.c, self.t, h, *edges)
        self._call("callback_step", h)
        if self.fresh is None:
            again = len(self.times) + self.refusals == 1  # the problem was posed with a first evaluation
            with p.field.unseen() if again else nullcontext():
                self.fresh = p.field(times[0], self.y)
        self.kept = p.field.snapshot()
        self.stages.put(0, self.fresh, scaled)
        y1, k = evaluate(self.stages, p.field, times, self.y, scaled, self.base)
        if not p.tableau.fsal:
            y1 = self.y + self.stages.weigh(p.coefficients.b)
        ratio = self._ratio(y1)
        finite, good = self._judge(ratio, h)
        if self.tangents is not None:
            ratio = self.tangents.ratio(ratio, times, self.y, self.stages, scaled, good)
            finite, good = self._judge(ratio, h)
        bad = self.active ^ good
        all_good = bool(good.all())
        if all_good or bool(good.any()):
            if not self.fixed:
                self._call("callback_accept_step", h)
            self._accept(good, all_good, end, h, scaled, edges, y1, k)
        else:
            p.field.restore(self.kept)
        if not all_good and bool(bad.any()):
            if not self.fixed:
                self._call("callback_reject_step", h)
            self._reject(bad, finite, h, y1, k)
        self._propose(ratio, finite, good, all_good, h, cut)

    def _judge(self, ratio: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Masks [L] of the lanes with a finite ratio, and of the active ones that accept their attempt."""
        finite, least = torch.isfinite(ratio.detach()), self.problem.limits.min_step
        within = ratio.detach() <= 1
        if least > 0:
            within = within | (h.detach().abs() <= least)
        return finite, self.active & finite & within

    def _call(self, name: str, h: Tensor) -> None:
        """Tell f of a step, where it has a method of that name (as torchdiffeq does): (t, y, |h|)."""
        callback = self.problem.callbacks.get(name)
        if callback is not None:
            y = self.problem.layout.unpack(self.y)
            callback(self.t[0] if len(self.t) == 1 else self.t, y, h.abs()[0] if len(h) == 1 else h.abs())

    def _on_device(self, h: Tensor) -> float | Tensor:
        layout = self.problem.layout
        if not layout.batched and not self.traced:
            return float(h)
        return h.to(layout.device, layout.real)[:, None]

    def _ratio(self, y1: Tensor) -> Tensor:
        """The error over the tolerance [L], not-a-number where y1 is; the one host synchronisation of an attempt."""
        p = self.problem
        if self.fixed:
            return p.size(torch.where(torch.isfinite(y1.detach()), 0.0, torch.nan)).to("cpu", torch.float64)
        return p.ratio(self.stages, self.y, y1)

    def _accept(
        self,
        good: Tensor,
        all_good: bool,
        end: Tensor,
        h: Tensor,
        scaled: float | Tensor,
        edges: tuple[Tensor, ...],
        y1: Tensor,
        k: Tensor,
    ) -> None:
        p = self.problem
        if self.watch is not None:
            self.event_time = self._watched(h, y1, scaled)
            if self.event_time is not None:
                self.active[:] = False
                self.statuses = [Status.EVENT]
                return
        with p.field.unseen():
            self.outputs.take(good, self.t, end, h, scaled, self.y, self.stages, edges)
        if self.tape is not None:
            rows = self.y.view(p.layout.lanes, -1)
            self.tape.keep(rows if all_good else rows[good.to(rows.device)])
            self.tape.remember(len(p.tableau.b) - 1)
        if not self.single_stop:
            stop = p.stops.gather(0, self.pointer[None])[0]
            self.pointer = p.after_stop(self.pointer, good & (end.detach() == stop), stop)
        if self.traced:
            audible(y1)
        if self.tangents is not None:
            self.tangents.accept(good, p.tableau.fsal and not edges)
        if all_good:
            self.y, self.t = y1, end
            self.fresh = k if p.tableau.fsal and not edges else None
        else:
            self._advance_some(good, end, y1, k)
        if self.traced and p.landings is not None and p.moved is not None:
            self.t, self.y = p.landings.cross(p, self.t, self.y, p.moved, good)
        self.accepted += good
        self.times.append(self.t.detach())
        self.taken.append(good)
        self.active = self.active & ~(good & (end.detach() == self.end.detach()))
        if len(self.times) % 1000 == 0:
            self.stiff = self.stiff or looks_stiff(self.problem, self.stages)

    def _advance_some(self, good: Tensor, end: Tensor, y1: Tensor, k: Tensor) -> None:
        """Move the lanes that were accepted and leave the others where they are."""
        layout = self.problem.layout
        mask = good.to(layout.device)[:, None]

        def pick(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(mask, new.view(layout.lanes, -1), old.view(layout.lanes, -1)).reshape(-1)

        before = self.fresh
        self.y, self.t = pick(y1, self.y), torch.where(good, end, self.t)
        reuse = self.problem.tableau.fsal and before is not None and not len(self.problem.jumps)
        self.fresh = pick(k, before) if reuse and before is not None else None

    def _reject(self, bad: Tensor, finite: Tensor, h: Tensor, y1: Tensor, k: Tensor) -> None:
        self.rejected += bad
        self.refusals += 1
        resolution = 16 * torch.finfo(torch.float64).eps * torch.maximum(self.t.abs(), (self.t + h).abs()).detach()
        stuck = bad & ((h.detach().abs() <= resolution.clamp(min=1e-300)) | self.fixed)
        if not bool(stuck.any()):
            return
        huge = flown_off(self.problem, self.y, y1)
        self._fail(stuck & huge, Status.BLOW_UP, None, self.t)
        self._fail(stuck & ~huge & ~finite, Status.NOT_A_NUMBER, torch.where(torch.isfinite(k), y1, k), self.t)
        self._fail(stuck & ~huge & finite, Status.STEP_TOO_SMALL, None, self.t)

    def _propose(self, ratio: Tensor, finite: Tensor, good: Tensor, all_good: bool, h: Tensor, cut: Tensor) -> None:
        """The next step from the error of this one; a step that a stop had cut remembers what it wanted to be."""
        p = self.problem
        if isinstance(p.control, Fixed):
            return
        if not all_good:
            ratio = torch.where(finite, ratio, 1e4)
        ratios = (ratio, *self.ratios[:2])
        factor = p.control.factor(p.tableau.exponent, ratios)
        if not all_good:
            factor = torch.where(finite, factor, 0.1)
        if not (all_good and self.calm):
            factor = torch.where(good & ~self.after_rejection, factor, factor.clamp(max=1.0))
        proposal = factor * h
        keep = good & cut & (proposal.detach().abs() < self.h.detach().abs())
        if self.tape is not None and self.tape.choices is not None:
            flags = {CUT: cut, KEPT: keep, CAPPED: self.after_rejection, LIMITED: p.limits.bind(self.h)}
            self.tape.choices.note(good, self.active & ~good, ratio, finite, h, flags)
        proposal = torch.where(keep, self.h, proposal)
        self.h = proposal if p.layout.lanes == 1 else torch.where(self.active, proposal, self.h)
        if p.control.remembers:
            first, second, third = (torch.where(good, a, b) for a, b in zip(ratios, self.ratios, strict=True))
            self.ratios = (first, second, third)
        self.after_rejection, self.calm = ~good, all_good

    def _watched(self, h: Tensor, y1: Tensor, scaled: float | Tensor) -> Tensor | None:
        if self.watch is None:
            return None
        dense = self.outputs.interpolant(self.t, h, scaled, self.y, self.stages)
        return self.watch(AcceptedStep(self.t, h, self.y, y1, dense))

    def _fail(self, lanes: Tensor, status: Status, culprit: Tensor | None, t: Tensor) -> None:
        """End these lanes with a status and the sentence that a user reads."""
        for lane in torch.nonzero(lanes & self.active).flatten().tolist():
            self.statuses[lane] = status
            self.messages[lane] = sentence(self.problem, lane, status, culprit, float(t[lane]), self.stiff)
            self.active[lane] = False
