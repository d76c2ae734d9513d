"""Pullback by Algorithm 2 of the paper: replays one accepted step at a time and carries the cotangent through it.

The vector-Jacobian product of the discrete map, written out. With hk_i = h f(t + c_i h, u_i),
u_i = y + sum_j a_ij hk_j, y1 = y + sum_i b_i hk_i and outputs y + sum_i B_i(theta) hk_i, cotangents run

    hk_i' = b_i y1' + sum_m B_i(theta_m) g_m + sum_{j > i} a_ji u_j'
    u_i'  = (h df/du)^T hk_i'
    y'    = y1' + sum_m g_m + sum_i u_i'

The last stage of a first-same-as-last method is the first of the next step; its share is added there, so that each step
costs as many evaluations as the forward pass.

Source: Zhuang et al. (2020), Adaptive Checkpoint Adjoint Method for Gradient Estimation in Neural ODE, Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.replay import Replay, Wave
from physid.ode.eager.stages import InPlace
from physid.ode.jumps import add_saltation, jump_cotangents
from physid.ode.problem import ODEProblem
from physid.ode.solution import Statistics


@dataclass(frozen=True)
class Seeds:
    """Cotangents that the outputs inside of a wave put on its stages [stages, L * N] and on its first state [L * N]."""

    stages: Tensor
    state: Tensor


class Pullback:
    """Cotangents of y0, the captured tensors and the times, for the cotangent of the states at the asked times."""

    def __init__(
        self, problem: ODEProblem, tape: Tape, captured: list[Tensor], need_times: bool, stats: Statistics
    ) -> None:
        self.p, self.captured, self.stats = problem, captured, stats
        self.replay = Replay(problem, tape)
        self.stages = InPlace(problem.coefficients, problem.layout)
        self.base = len(problem.tableau.b)
        self.defer = problem.tableau.fsal and not len(problem.jumps)
        self.grads: list[Tensor | None] = [None] * len(captured)
        self.time_grad = torch.zeros(problem.grid.shape, dtype=torch.float64) if need_times else None
        self.jump_grad = jump_cotangents(problem)
        self.next_slope: Tensor | None = None
        self.retain = bool(tape.graphs)  # a second backward pass finds them whole

    def run(self, g: Tensor) -> tuple[Tensor, list[Tensor | None], Tensor | None]:
        """g [T, L * N] -> cotangents of y0 [L * N], of every captured tensor, of the times [T, L]."""
        layout, last = self.p.layout, len(self.replay) - 1
        self.g = g.reshape(g.shape[0], layout.lanes, layout.width)
        ybar = torch.zeros_like(self.g[0]).reshape(-1)
        wave = self.replay.wave(last)
        seeds = self._seeds(wave)
        for w in range(last, -1, -1):
            before = self.replay.wave(w - 1) if w else None
            seeds_before = self._seeds(before) if before else None
            tail = None
            if before and seeds_before and self._defers(before):
                tail = self._times_h(seeds_before.stages[self.base - 1], before)
            ybar = self._step(w, wave, ybar, seeds, tail)
            if self.jump_grad is not None:
                add_saltation(self.p, self.jump_grad, self.g, wave.t, self.replay.state(w), ybar, wave.inside)
            if before:
                wave, seeds = before, seeds_before
        self.stats.backward_evaluations += self.replay.evaluations
        return ybar + self.g[0].reshape(-1), self.grads, self.time_grad

    def _defers(self, wave: Wave) -> bool:
        """Whether the last stage of this wave is left to the first stage of the next."""
        return self.defer and not wave.dense and not wave.closes

    def _times_h(self, value: Tensor, wave: Wave) -> Tensor:
        if isinstance(wave.scaled, float):
            return value * wave.scaled
        return (value.view(self.p.layout.lanes, -1) * wave.scaled).reshape(-1)

    def _seeds(self, wave: Wave) -> Seeds | None:
        """g read through the dense output; None without outputs in the wave."""
        if not len(wave.place):
            return None
        layout, width = self.p.layout, len(self.p.coefficients.a) if wave.dense else self.base
        weights = wave.weights[:, :width].T
        if layout.lanes == 1:
            g = self.g[int(wave.place[0]) : int(wave.place[-1]) + 1, 0]
            return Seeds(weights @ g, g.sum(0))
        lane, place = wave.lane.to(layout.device), wave.place.to(layout.device)
        g = self.g[place, lane]
        stages = g.new_zeros(width, layout.lanes, layout.width).index_add_(1, lane, weights[:, :, None] * g)
        state = g.new_zeros(layout.lanes, layout.width).index_add_(0, lane, g)
        return Seeds(stages.view(width, -1), state.view(-1))

    def _step(self, w: int, wave: Wave, ybar: Tensor, seeds: Seeds | None, tail: Tensor | None) -> Tensor:
        """Replay wave w and pull ybar, the cotangent of its end, back to its start."""
        width = len(self.p.coefficients.a) if wave.dense else self.base
        count = self.base - 1 if self._defers(wave) or (self.defer and seeds is None) else width
        y = self.replay.state(w)
        times, points, slopes = self._remembered(w, wave, y, count) or self._stages(wave, y, count)
        if self.jump_grad is not None and wave.closes:
            end, mine = y + self.stages.weigh(self.p.coefficients.b), self.replay.closing(w)
            add_saltation(self.p, self.jump_grad, self.g, self.p.grid[-1], end, 0 * ybar, mine)
        kbar = torch.outer(self.p.coefficients.b, ybar)
        if width > self.base:
            kbar = torch.cat([kbar, kbar.new_zeros(width - self.base, kbar.shape[1])])
        if seeds is not None:
            kbar += seeds.stages
            ybar = ybar + seeds.state
        moments = []
        for i in range(count - 1, -1, -1):
            cotangent = self._times_h(kbar[i], wave)
            if i == 0 and tail is not None:
                cotangent = cotangent + tail
            ubar, tbar = self._vjp(slopes[i], points[i], times[i], cotangent)
            moments.append(tbar)
            if ubar is not None:
                ybar = ybar + ubar
                if i:
                    kbar[:i].addr_(self.p.coefficients.a[i], ubar)
        if self.time_grad is not None:
            self._move_times(wave, kbar, slopes, moments[::-1])
        return ybar

    def _remembered(
        self, w: int, wave: Wave, y: Tensor, count: int
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]] | None:
        """The stages as the march left them; None where there are none.

        The first is the last one of the step before, and is evaluated again at the very start.
        """
        graphs = self.replay.tape.graphs
        if w >= len(graphs):
            return None
        first = graphs[w - 1][-1]
        if not w:
            _, (point,), (slope,) = self._stages(wave, y, 1)
            first = (point, slope)
        points, slopes = zip(*[first, *graphs[w]][:count], strict=True)
        return [torch.empty(0)] * count, list(points), list(slopes)

    def _stages(self, wave: Wave, y: Tensor, count: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Evaluate the stages with one small graph each."""
        p, need = self.p, self.time_grad is not None
        edges = p.edges(wave.t, wave.t + wave.h)
        times = [t.detach().requires_grad_(need) for t in p.times(p.coefficients.c[:count], wave.t, wave.h, *edges)]
        points, slopes = [], []
        for i in range(count):
            u = self.stages.combine(y, i).detach().requires_grad_()
            with torch.enable_grad():
                k = p.field(times[i], u)
            self.stages.put(i, k.detach(), wave.scaled)
            points.append(u)
            slopes.append(k)
        self.stats.backward_evaluations += count
        return times, points, slopes

    def _vjp(self, k: Tensor, u: Tensor, t: Tensor, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The vector-Jacobian product of one evaluation; adds up the captured tensors' share."""
        if not k.requires_grad:
            return None, None
        need = self.time_grad is not None
        inputs = [u, *self.captured, t] if need else [u, *self.captured]
        found = torch.autograd.grad(k, inputs, cotangent, retain_graph=self.retain, allow_unused=True)
        self.stats.backward_vjps += 1
        for j in range(len(self.captured)):
            new, old = found[j + 1], self.grads[j]
            if new is not None:
                self.grads[j] = new if old is None else old + new
        return found[0], found[-1] if need else None

    def _move_times(self, wave: Wave, kbar: Tensor, slopes: list[Tensor], moments: list[Tensor | None]) -> None:
        """Cotangents of the asked times: outputs through the dense output, step ends where they move."""
        if self.time_grad is None:
            return
        lanes = self.p.layout.lanes
        k = torch.stack([slope.detach() for slope in slopes])
        if self._defers(wave) and self.next_slope is not None:
            k = torch.cat([k, self.next_slope[None]])
        self.next_slope = k[0]
        width = len(k)
        inner = (kbar[:width].conj() * k).real.view(width, lanes, -1).sum(-1).cpu().double()
        hbar, tbar = inner.sum(0), torch.zeros(lanes, dtype=torch.float64)
        for c, moment in zip(self.p.coefficients.c.tolist(), moments, strict=False):
            if moment is not None:
                hbar, tbar = hbar + c * moment.cpu().double(), tbar + moment.cpu().double()
        if len(wave.place):
            slope = self.p.coefficients.slope(wave.theta, width).to(k.device, k.dtype)
            chosen = k.view(width, lanes, -1)[:, wave.lane.to(k.device)]
            g = self.g[wave.place.to(k.device), wave.lane.to(k.device)]
            rate = (g.conj() * torch.einsum("ms,smn->mn", slope, chosen)).real.sum(-1).cpu().double()
            self.time_grad.index_put_((wave.place, wave.lane), rate, accumulate=True)
            hbar = hbar.index_add(0, wave.lane, -wave.theta * rate)
            tbar = tbar.index_add(0, wave.lane, -rate)
        lane = torch.arange(lanes)
        for index, value in ((wave.begin, tbar - hbar), (wave.end, hbar)):
            moves = index >= 0
            self.time_grad.index_put_((index[moves], lane[moves]), value[moves], accumulate=True)
