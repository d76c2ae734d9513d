"""The derivative of the discrete flow, and the gradient method `forward` that is built on it.

The accepted grid is known after the march, so that the stages of all steps are differentiated at once; only the
product of the steps' transition matrices runs in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from physid.errors import InputError
from physid.ode.gradients import Holder, wants_gradient
from physid.ode.linearise import Stages
from physid.ode.march import March, Outcome
from physid.ode.problem import Problem
from physid.ode.replay import Replay
from physid.ode.tape import Tape

CHUNK_BYTES = 256 * 2**20  # of stage sensitivities held at a time


@dataclass(frozen=True)
class Forward:
    """Sensitivities carried along the march: for Gauss-Newton and few unknowns; the cost grows with the state's size.

    Its gradient equals ACA's to round-off. Source: Hairer, Norsett and Wanner (1993), I.14.
    """

    name: str = "forward"

    def solve(self, problem: Problem) -> tuple[Tensor, Outcome]:
        """Solve and keep the derivatives for the backward pass."""
        if not wants_gradient(problem):
            outcome = March(problem).run()
            return outcome.values, outcome
        if problem.t.requires_grad or problem.y0.is_complex():
            raise InputError("gradient 'forward' reaches real y0 and parameters, not t: use gradient='aca'.")
        holder = Holder()
        values = _Carried.apply(problem, holder, problem.y0, *problem.captured)  # type: ignore[no-untyped-call]
        return values, holder.the_outcome


class _Carried(torch.autograd.Function):
    """States [T, L * N] with their sensitivities at hand."""

    @staticmethod
    def forward(problem: Problem, holder: Holder, y0: Tensor, *captured: Tensor) -> Tensor:
        holder.outcome, *derivatives = differentiate(problem, list(captured))
        holder.derivatives = tuple(derivatives)
        return holder.outcome.values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[3:], *inputs[1].derivatives)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        *captured, by_state, by_params = ctx.saved_tensors
        rows = g.view(by_state.shape[:3])
        rows = torch.where(torch.isfinite(by_state).all(-1), rows, 0.0)
        ybar = torch.einsum("tln,tlnm->lm", rows, torch.nan_to_num(by_state)).reshape(-1)
        pbar = torch.einsum("tln,tlnq->q", rows, torch.nan_to_num(by_params))
        pieces = pbar.split([p.numel() for p in captured]) if captured else ()
        return (None, None, ybar, *(piece.view_as(p) for piece, p in zip(pieces, captured, strict=True)))


def differentiate(problem: Problem, params: list[Tensor]) -> tuple[Outcome, Tensor, Tensor]:
    """March, then the derivatives of the states by y0 [T, L, N, N] and by all parameters [T, L, N, Q]."""
    layout = problem.layout
    if problem.field.random is not None:
        raise InputError(
            "f draws random numbers (dropout?): forward sensitivities need a deterministic f; call .eval()."
        )
    tape = Tape(layout.lanes, layout.width, layout.dtype, layout.device)
    outcome = March(problem, tape=tape).run()
    flow = Flow(problem, tape, params)
    evaluations = problem.field.count
    with problem.field.unseen():
        by_all = flow.run()
    problem.field.count = evaluations
    outcome.statistics.backward_evaluations += flow.evaluations
    reached = torch.isfinite(outcome.values.detach()).view(*by_all.shape[:3], 1)
    by_all = torch.where(reached, by_all, torch.nan)
    return outcome, by_all[..., : layout.width], by_all[..., layout.width :]


class Flow:
    """The derivative of the discrete flow, M = N + Q columns: by the initial state and by the parameters."""

    def __init__(self, problem: Problem, tape: Tape, params: list[Tensor]) -> None:
        self.p, self.params = problem, params
        self.replay = Replay(problem, tape)
        self.lanes, self.n = problem.layout.lanes, problem.layout.width
        self.columns = self.n + sum(p.numel() for p in params)
        self.evaluations = 0

    def run(self) -> Tensor:
        """Derivatives at the asked times [T, L, N, M]."""
        layout = self.p.layout
        start = torch.eye(self.n, self.columns, dtype=layout.dtype, device=layout.device).expand(self.lanes, -1, -1)
        out = start.new_full((self.p.grid.shape[0], self.lanes, self.n, self.columns), torch.nan)
        out[0] = start
        stages = len(self.p.coefficients.a)
        per_wave = stages * self.lanes * self.n * self.columns * start.element_size()
        size = max(1, CHUNK_BYTES // max(per_wave, 1))
        for low in range(0, len(self.replay), size):
            waves = range(low, min(low + size, len(self.replay)))
            start = self._chunk(waves, start, out)
        return out

    def _chunk(self, waves: range, start: Tensor, out: Tensor) -> Tensor:
        """Carry the derivative `start` [L, N, M] through some waves and fill in the outputs inside."""
        replay, c = self.replay, self.p.coefficients
        base = len(self.p.tableau.b)
        width = len(c.a) if any(replay.dense[w] for w in waves) else base
        stages = self._stage_sensitivities(waves, width)
        eye = torch.eye(self.n, self.columns, dtype=stages.dtype, device=stages.device)
        steps = eye + torch.einsum("s,swlnm->wlnm", c.b, stages[:base])
        starts = []
        for step in steps:
            starts.append(start)
            start = self._through(step, start)
        self._outputs(waves, stages, torch.stack(starts), out)
        return start

    def _outputs(self, waves: range, stages: Tensor, starts: Tensor, out: Tensor) -> None:
        """Fill in the outputs inside of these waves; one product per step and lane, however many outputs it holds."""
        replay, width, device = self.replay, len(stages), stages.device
        piece = slice(replay.cuts[waves.start], replay.cuts[waves.stop])
        if piece.start == piece.stop:
            return
        sizes = torch.tensor(replay.cuts).diff()[waves.start : waves.stop]
        wave = torch.repeat_interleave(torch.arange(len(waves)), sizes)
        lane, place = replay.lane[piece], replay.place[piece]
        row = wave * self.lanes + lane  # ascending: outputs are ordered by wave, then by lane
        counts = torch.bincount(row, minlength=len(waves) * self.lanes)
        column = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        weights = stages.new_zeros(len(counts), int(counts.max()), width)
        row, column, lane, place = (index.to(device) for index in (row, column, lane, place))
        weights[row, column] = replay.weights[piece, :width]
        flat = stages.permute(1, 2, 0, 3, 4).reshape(len(counts), width, -1)
        inner = torch.bmm(weights, flat)[row, column].view(-1, self.n, self.columns)
        inner += torch.eye(self.n, self.columns, dtype=inner.dtype, device=device)
        out[place, lane] = self._through(inner, starts.flatten(0, 1)[row])

    def _through(self, step: Tensor, start: Tensor) -> Tensor:
        """Chain a step's derivative [.., N, M] after `start` [.., N, M]."""
        chained = step[..., : self.n] @ start
        chained[..., self.n :] += step[..., self.n :]
        return chained

    def _stage_sensitivities(self, waves: range, width: int) -> Tensor:
        """d(h k_i) by the step's start and the parameters [S, W, L, N, M]."""
        stages = Stages.of(self.p, self.replay, waves, width)
        by_state, by_params, h = stages.by_state(), stages.by_params(self.params), stages.h
        self.evaluations += width * len(waves)
        c, w = self.p.coefficients, len(waves)
        eye = torch.eye(self.n, self.columns, dtype=by_state.dtype, device=by_state.device)
        result = by_state.new_zeros(width, w, self.lanes, self.n, self.columns)
        for i in range(width):
            inner = eye + torch.einsum("s,swlnm->wlnm", c.a[i][:i], result[:i]) if i else eye
            total = by_state[i] @ inner
            total[..., self.n :] += by_params[i]
            result[i] = total * h[..., None, None]
        return result
