"""The stages of many steps at once, linearised: one evaluation of f for all of them, under torch.vmap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physid.ode.eager.products import batched_vjp
from physid.ode.eager.replay import Replay
from physid.ode.problem import ODEProblem


@dataclass
class Stages:
    """Stage derivatives k [S * W, L * N] of W waves, with the graph to the states `points` and times `moments`."""

    width: int
    waves: int
    lanes: int
    n: int
    h: Tensor
    points: Tensor
    moments: Tensor
    k: Tensor
    end: Tensor

    @staticmethod
    def of(problem: ODEProblem, replay: Replay, waves: range, width: int) -> Stages:
        """Evaluate the first `width` stages of these waves; `h` [W, L], `end` [W, L * N] the states at the ends."""
        c, lanes, n = problem.coefficients, problem.layout.lanes, problem.layout.width
        y = torch.stack([replay.state(w) for w in waves])
        t, h = replay.t[waves.start : waves.stop], replay.h[waves.start : waves.stop]
        column = h.to(y.device, problem.layout.real)
        scale = column.repeat_interleave(n, dim=1)
        edges = (
            [problem.edges(a, a + b) for a, b in zip(t, h, strict=True)] if len(problem.jumps) else [()] * len(waves)
        )
        rows = [torch.stack(problem.times(c.c[:width], a, b, *e)) for a, b, e in zip(t, h, edges, strict=True)]
        times = torch.stack(rows, 1)
        f = torch.vmap(problem.field)
        with torch.no_grad():
            points, slopes = [y], [scale * f(times[0], y)]
            for i in range(1, width):
                points.append(y + torch.einsum("s,swx->wx", c.a[i], torch.stack(slopes)))
                slopes.append(scale * f(times[i], points[i]))
            base = len(c.b)
            end = y + torch.einsum("s,swx->wx", c.b, torch.stack(slopes[:base]))
        leaf = torch.stack(points).flatten(0, 1).requires_grad_()
        moments = times.flatten(0, 1).requires_grad_()
        with torch.enable_grad():
            k = f(moments, leaf)
        return Stages(width, len(waves), lanes, n, column, leaf, moments, k, end)

    def by_state(self) -> Tensor:
        """df/dy [S, W, L, N, N]; samples are independent of each other."""
        shape = (self.width, self.waves, self.lanes, self.n)
        if not self.k.requires_grad:
            return self.points.new_zeros(*shape, self.n)
        count = self.k.shape[0]
        seeds = torch.eye(self.n, dtype=self.k.dtype, device=self.k.device)[:, None, None]
        seeds = seeds.expand(self.n, count, self.lanes, self.n).reshape(self.n, count, -1)
        rows = batched_vjp(self.k, self.points, seeds)
        return rows.view(self.n, *shape).permute(1, 2, 3, 0, 4)

    def by_params(self, params: list[Tensor]) -> Tensor:
        """df/dp [S, W, L, N, Q], as the derivative of w -> w^T df/dp with respect to w."""
        shape = (self.width, self.waves, self.lanes, self.n)
        total = sum(p.numel() for p in params)
        if not params or not self.k.requires_grad:
            return self.points.new_zeros(*shape, total)
        with torch.enable_grad():
            weight = torch.zeros_like(self.k, requires_grad=True)
            found = torch.autograd.grad(self.k, params, weight, create_graph=True, allow_unused=True)
            flat = [torch.zeros_like(q) if g is None else g for g, q in zip(found, params, strict=True)]
            joined = torch.cat([g.reshape(-1) for g in flat])
        if not joined.requires_grad:
            return self.points.new_zeros(*shape, total)
        columns = batched_vjp(joined, weight, torch.eye(total, dtype=joined.dtype, device=joined.device))
        return columns.view(total, *shape).permute(1, 2, 3, 4, 0)
