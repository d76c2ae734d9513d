"""Dense output: the asked states, read off each accepted step all at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from physid.ode.problem import Problem
from physid.ode.stages import Stages, evaluate


def theta_of(times: Tensor, start: Tensor, h: Tensor) -> Tensor:
    """(times - start) / h, and 0 in a step of length 0."""
    return (times - start) / torch.where(h == 0, 1.0, h)


def needs_dense_stages(problem: Problem, theta: Tensor) -> bool:
    """Whether the tableau's extra stages are wanted: only where an output lies inside of a step."""
    return bool(problem.tableau.extra_c) and bool(((theta > 0) & (theta < 1)).any())


def dense_stages(
    problem: Problem,
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


class Outputs:
    """Collects the states at the asked times, lane by lane, as the march passes them."""

    def __init__(self, problem: Problem, y: Tensor, moving: Tensor) -> None:
        self.p, self.moving = problem, moving
        lanes = problem.layout.lanes
        self.sorted = (problem.grid * problem.direction).T.contiguous()
        self.last = self.sorted.shape[1] - 1
        self.next = torch.ones(lanes, dtype=torch.long)
        self.lane_index = torch.arange(lanes)
        self.values = [y.view(lanes, -1)]
        self.places = [(self.lane_index, torch.zeros(lanes, dtype=torch.long))]

    def read(
        self,
        good: Tensor,
        t: Tensor,
        end: Tensor,
        h: Tensor,
        scaled: float | Tensor,
        y: Tensor,
        stages: Stages,
        edges: tuple[Tensor, ...],
    ) -> Tensor:
        """Keep the states inside the steps that were accepted; returns the tape's row for each of them [m, 6]."""
        reach = (end.detach() * self.p.direction)[:, None]
        ahead = torch.searchsorted(self.sorted, reach, right=True)[:, 0]
        ahead = torch.where(good, torch.maximum(ahead, self.next), self.next)
        count, first = ahead - self.next, self.next
        self.next = ahead
        total = int(count.sum())
        if total:
            self._interpolate(count, first, total, t, h, scaled, y, stages, edges)
        return self._meta(good, t, end, h, first, count, ahead)

    def _interpolate(
        self,
        count: Tensor,
        first: Tensor,
        total: int,
        t: Tensor,
        h: Tensor,
        scaled: float | Tensor,
        y: Tensor,
        stages: Stages,
        edges: tuple[Tensor, ...],
    ) -> None:
        lane = torch.repeat_interleave(self.lane_index, count, output_size=total)
        offset = torch.arange(total) - torch.repeat_interleave(count.cumsum(0) - count, count, output_size=total)
        place = first[lane] + offset
        theta = theta_of(self.moving[place, lane], t[lane], h[lane])
        width = len(self.p.tableau.b)
        if needs_dense_stages(self.p, theta.detach()):
            width = dense_stages(self.p, stages, t, h, scaled, y, edges)
        self.values.append(self._blend(theta, lane, y, stages.matrix(width), width))
        self.places.append((lane, place))

    def _blend(self, theta: Tensor, lane: Tensor, y: Tensor, hk: Tensor, width: int) -> Tensor:
        """y + sum_i b_i(theta) hk_i [m, N]."""
        layout = self.p.layout
        weights = self.p.coefficients.basis(theta, width).to(layout.device, layout.dtype)
        if layout.lanes == 1:
            return torch.addmm(y.view(1, -1), weights, hk)
        lane = lane.to(layout.device)
        chosen = hk.view(width, layout.lanes, -1)[:, lane]
        return y.view(layout.lanes, -1)[lane] + torch.einsum("ms,smn->mn", weights, chosen)

    def _meta(self, good: Tensor, t: Tensor, end: Tensor, h: Tensor, first: Tensor, count: Tensor, ahead: Tensor) -> Tensor:
        place = ahead - 1
        at_end = self.sorted.gather(1, place[:, None])[:, 0] == end.detach() * self.p.direction
        tied = at_end if self.p.moving_stops else at_end & (ahead > self.last)
        ends = torch.where(tied, place, -1)
        columns = (t.detach(), h.detach(), self.lane_index, first, count, ends)
        return torch.stack([column.double() for column in columns], dim=1)[good]

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
        hk = stages.matrix(width).clone()
        none = torch.zeros(1, dtype=torch.long)
        return lambda theta: self._blend(theta, none.expand(len(theta)), y, hk, width)

    def collect(self) -> Tensor:
        """States [T, L * N], not-a-number where no step came by."""
        layout = self.p.layout
        values, total = torch.cat(self.values), self.sorted.shape[1]
        if layout.lanes == 1:
            missing = total - values.shape[0]
            return values if not missing else torch.cat([values, values.new_full((missing, layout.width), torch.nan)])
        lane = torch.cat([lane for lane, _ in self.places]).to(layout.device)
        place = torch.cat([place for _, place in self.places]).to(layout.device)
        blank = values.new_full((total, layout.lanes, layout.width), torch.nan)
        return blank.index_put((place, lane), values).reshape(total, -1)
