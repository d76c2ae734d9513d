"""Dense output: the asked states, read off each accepted step all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.stages import Stages, evaluate
from physid.ode.problem import ODEProblem

PENDING_BYTES = 4 * 2**20  # of steps whose outputs are read together


def theta_of(times: Tensor, start: Tensor, h: Tensor) -> Tensor:
    """(times - start) / h, and 0 in a step of length 0."""
    return (times - start) / torch.where(h == 0, 1.0, h)


def dense_stages(
    problem: ODEProblem,
    stages: Stages,
    t: Tensor,
    h: Tensor,
    scaled: float | Tensor,
    y: Tensor,
    edges: tuple[Tensor, ...] = (),
) -> int:
    """Evaluate the extra stages of the dense output; returns the number of stages there are then."""
    base, total = len(problem.tableau.b), len(problem.coefficients.a)
    times = problem.times(problem.coefficients.c, t, h, *edges)
    evaluate(stages, problem.field, times, y, scaled, range(base, total))
    return total


@dataclass
class Taken:
    """An accepted step, kept until its outputs are read: times and lanes [L], first state, stages."""

    good: Tensor
    t: Tensor
    end: Tensor
    h: Tensor
    y: Tensor
    hk: Tensor


class Outputs:
    """Reads the states at the asked times off the accepted steps, many steps at a time."""

    def __init__(self, problem: ODEProblem, y: Tensor, moving: Tensor, tape: Tape | None) -> None:
        self.p, self.moving, self.tape = problem, moving, tape
        lanes = problem.layout.lanes
        self.sorted = (problem.grid * problem.direction).T.contiguous()
        self.last = self.sorted.shape[1] - 1
        self.next = torch.ones(lanes, 1, dtype=torch.long)
        self.lane_index = torch.arange(lanes)
        self.values = [y.view(lanes, -1)]
        self.places = [(self.lane_index, torch.zeros(lanes, dtype=torch.long))]
        self.pending: list[Taken] = []
        per_step = (len(problem.coefficients.a) + 1) * y.numel() * y.element_size()
        self.chunk = max(1, PENDING_BYTES // per_step)

    def take(
        self,
        good: Tensor,
        t: Tensor,
        end: Tensor,
        h: Tensor,
        scaled: float | Tensor,
        y: Tensor,
        stages: Stages,
        edges: tuple[Tensor, ...],
    ) -> None:
        """Keep a step of the lanes that were accepted; its dense stages are evaluated if an output lies inside."""
        width = len(self.p.tableau.b)
        if self.p.tableau.extra_c and self._has_interior(good, t, end):
            width = dense_stages(self.p, stages, t, h, scaled, y, edges)
        self.pending.append(Taken(good, t, end, h, y, stages.kept(width)))
        if len(self.pending) >= self.chunk:
            self.flush()

    def _has_interior(self, good: Tensor, t: Tensor, end: Tensor) -> bool:
        low, high = ((x.detach() * self.p.direction)[:, None] for x in (t, end))
        inside = torch.searchsorted(self.sorted, high) > torch.searchsorted(self.sorted, low, right=True)
        return bool((inside[:, 0] & good).any())

    def flush(self) -> None:
        """Read the outputs of the steps kept so far and write their rows of the tape."""
        if not self.pending:
            return
        steps, self.pending = self.pending, []
        good = torch.stack([step.good for step in steps], 1)
        end = torch.stack([step.end for step in steps], 1)
        reach = torch.where(good, end.detach() * self.p.direction, -torch.inf).contiguous()
        ahead = torch.searchsorted(self.sorted, reach, right=True)
        ahead = torch.cat([self.next, ahead], 1).cummax(1).values
        first, ahead = ahead[:, :-1], ahead[:, 1:]
        self.next = ahead[:, -1:]
        t, h = torch.stack([step.t for step in steps], 1), torch.stack([step.h for step in steps], 1)
        self._interpolate(steps, first, ahead - first, t, h)
        if self.tape is not None:
            self.tape.meta.append(self._meta(good, t, end, h, first, ahead))

    def _interpolate(self, steps: list[Taken], first: Tensor, count: Tensor, t: Tensor, h: Tensor) -> None:
        """States at the outputs inside of these steps, in the order of time for every lane."""
        flat = count.flatten()
        total = int(flat.sum())
        if not total:
            return
        owner = torch.repeat_interleave(torch.arange(len(flat)), flat, output_size=total)
        lane = torch.div(owner, len(steps), rounding_mode="floor")
        place = first.flatten()[owner] + torch.arange(total) - (flat.cumsum(0) - flat)[owner]
        theta = theta_of(self.moving[place, lane], t.flatten()[owner], h.flatten()[owner])
        widths = {len(step.hk) for step in steps}
        base, full = len(self.p.tableau.b), max(widths)
        weights = self.p.coefficients.basis(theta, full).to(self.p.layout.device, self.p.layout.dtype)
        rows = (len(steps), self.p.layout.lanes, self.p.layout.width)
        y = torch.stack([step.y for step in steps]).view(rows)
        hk = torch.stack([step.hk[:base] for step in steps], 1).view(base, *rows)
        wave, lane_there = (owner % len(steps)).to(y.device), lane.to(y.device)
        values = y[wave, lane_there] + torch.einsum("ms,smn->mn", weights[:, :base], hk[:, wave, lane_there])
        if full > base:
            blank = hk.new_zeros(full - base, *rows[1:])
            extra = [step.hk[base:].view(-1, *rows[1:]) if len(step.hk) > base else blank for step in steps]
            chosen = torch.stack(extra, 1)[:, wave, lane_there]
            values = values + torch.einsum("ms,smn->mn", weights[:, base:], chosen)
        self.values.append(values)
        self.places.append((lane, place))

    def _meta(self, good: Tensor, t: Tensor, end: Tensor, h: Tensor, first: Tensor, ahead: Tensor) -> Tensor:
        """The tape's rows of these steps [m, 6], step by step."""
        place = ahead - 1
        at_end = self.sorted.gather(1, place) == end.detach() * self.p.direction
        tied = at_end if self.p.moving_stops else at_end & (ahead > self.last)
        ends = torch.where(tied, place, -1)
        lanes = self.lane_index[:, None].expand_as(first)
        columns = (t.detach(), h.detach(), lanes, first, ahead - first, ends)
        return torch.stack([column.T.double() for column in columns], dim=2)[good.T]

    def tied(self, stop: Tensor) -> Tensor:
        """The asked times that equal these stops, with their graph."""
        index = torch.searchsorted(self.sorted, (stop.detach() * self.p.direction)[:, None], right=True)[:, 0] - 1
        return self.moving[index.clamp(min=0), self.lane_index]

    def interpolant(
        self, t: Tensor, h: Tensor, scaled: float | Tensor, y: Tensor, stages: Stages
    ) -> Callable[[Tensor], Tensor]:
        """theta [m] -> states [m, N] within this step, of a solve with one lane."""
        width = len(self.p.tableau.b)
        if self.p.tableau.extra_c:
            with self.p.field.unseen():
                width = dense_stages(self.p, stages, t, h, scaled, y)
        hk, layout = stages.kept(width), self.p.layout

        def at(theta: Tensor) -> Tensor:
            weights = self.p.coefficients.basis(theta, width).to(layout.device, layout.dtype)
            return torch.addmm(y.view(1, -1), weights, hk)

        return at

    def collect(self) -> Tensor:
        """States [T, L * N], not-a-number where no step came by."""
        self.flush()
        layout = self.p.layout
        values, total = torch.cat(self.values), self.sorted.shape[1]
        if layout.lanes == 1:
            missing = total - values.shape[0]
            return values if not missing else torch.cat([values, values.new_full((missing, layout.width), torch.nan)])
        lane = torch.cat([lane for lane, _ in self.places]).to(layout.device)
        place = torch.cat([place for _, place in self.places]).to(layout.device)
        blank = values.new_full((total, layout.lanes * layout.width), torch.nan)
        blank.view(total, layout.lanes, layout.width).index_put_((place, lane), values)
        return blank
