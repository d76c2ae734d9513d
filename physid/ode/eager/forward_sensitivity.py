"""Forward sensitivity: the derivative of the discrete flow over a tape of accepted steps, many steps at once.

The accepted grid is known after the march, so that the stages of all steps are differentiated at once; only the
product of the steps' transition matrices runs in order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.replay import Replay
from physid.ode.eager.stage_jacobians import Stages
from physid.ode.hearing import check
from physid.ode.jumps import asked_at, half_at_start
from physid.ode.problem import ODEProblem

CHUNK_BYTES = 256 * 2**20  # of stage sensitivities held at a time


class Flow:
    """The derivative of the discrete flow, M = N + Q columns: by the initial state and by the parameters."""

    def __init__(self, problem: ODEProblem, tape: Tape, params: list[Tensor]) -> None:
        self.p, self.params = problem, params
        self.replay = Replay(problem, tape)
        self.lanes, self.n = problem.layout.lanes, problem.layout.width
        self.columns = self.n + sum(p.numel() for p in params)
        self.evaluations = 0
        moves = problem.landings if problem.moved is not None else None
        self.tangents = None if moves is None else moves.tangents(problem.origin, self.lanes, self.n, params)

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
            check()
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
        starts: list[Tensor] = []
        halves: list[tuple[Tensor, Tensor]] = []
        for w, step in zip(waves, steps, strict=True):
            share = self._jumped(self.replay.t[w], self.replay.state(w), self.replay.inside[w])
            if share is not None:
                halves.append((self.replay.t[w], share))
                start = start + half_at_start(self.p, self.replay.t[w]).to(start)[:, None, None] * share
            starts.append(start)
            start = self._through(step, start)
            if self.replay.closes[w]:
                share = self._jumped(self.p.grid[-1], self.ends[w - waves.start], self.replay.closing(w))
                halves += [] if share is None else [(self.p.grid[-1], share)]
        self._outputs(waves, stages, torch.stack(starts), out)
        for t, share in halves:
            out += 0.5 * torch.where(asked_at(self.p, t).to(out.device)[..., None, None], share, 0.0)
        return start

    def _jumped(self, t: Tensor, y: Tensor, inside: Tensor) -> Tensor | None:
        """Derivative [L, N, M] by moving jumps at the times t [L] with the states y [L * N]."""
        landings, tangents = self.p.landings, self.tangents
        if landings is None or tangents is None:
            return None
        with torch.no_grad():
            found = landings.saltation(self.p, t, y, inside)
        if found is None:
            return None
        index, lanes, drops = found
        share = drops[:, :, None] * tangents[index, lanes][:, None].to(drops)
        zero = share.new_zeros(self.lanes, *share.shape[1:])
        return zero.index_add(0, lanes.to(share.device), share)

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
        self.ends = stages.end
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
