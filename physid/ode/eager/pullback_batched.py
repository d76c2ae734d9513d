"""The pullback of many steps at once, for small states: Jacobians of all stages in one go, then short recursions.

The same numbers as `pullback`, one accepted step at a time, but torch's cost per operation is paid once for a chunk of
steps instead of once for every stage. With J_i = df/dy at the stages, a step's transition matrix is
P = I + sum_i b_i V_i, V_i = h J_i (I + sum_j a_ij V_j), and cotangents of step ends run y_n' = P_n^T y_{n+1}' + seeds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.remembered import Saved, pays
from physid.ode.eager.replay import Replay
from physid.ode.eager.stage_jacobians import Stages
from physid.ode.hearing import check
from physid.ode.jumps import add_saltation, jump_cotangents
from physid.ode.problem import ODEProblem
from physid.ode.solution import Statistics

WIDEST = 64  # components of a state up to which Jacobians pay
CHUNK_BYTES = 32 * 2**20  # of Jacobians held at a time, so that memory stays flat in the number of steps
REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError)  # how f says that it cannot be vmapped


class NotWide(Exception):
    """f does not work under vmap, or gives other values there."""


def applies(problem: ODEProblem, tape: Tape, stats: Statistics) -> bool:
    """Whether f is a plain function of (t, y), and of few enough numbers; one evaluation where that is not known."""
    layout, field = problem.layout, problem.field
    plain = field.random is None and not field.buffers and not field.shares
    if layout.width > WIDEST or layout.dtype.is_complex or not plain:
        return False
    if tape.numbers is None:
        saved = Saved(problem.captured)
        saved.of(field, problem.start, problem.y0.detach().requires_grad_())
        stats.backward_evaluations += 1
        tape.numbers = saved.numbers
    return pays(layout.width, tape.numbers)


class WidePullback:
    """Cotangents of y0, the captured tensors and the times, for the cotangent of the states at the asked times."""

    def __init__(
        self, problem: ODEProblem, tape: Tape, captured: list[Tensor], need_times: bool, stats: Statistics
    ) -> None:
        self.p, self.captured, self.stats = problem, captured, stats
        self.replay = Replay(problem, tape)
        self.lanes, self.n = problem.layout.lanes, problem.layout.width
        self.grads: list[Tensor | None] = [None] * len(captured)
        self.time_grad = torch.zeros(problem.grid.shape, dtype=torch.float64) if need_times else None
        self.jump_grad = jump_cotangents(problem)

    def run(self, g: Tensor) -> tuple[Tensor, list[Tensor | None], Tensor | None]:
        """g [T, L * N] -> cotangents of y0 [L * N], of every captured tensor, of the times [T, L]."""
        self.g = g.reshape(g.shape[0], self.lanes, self.n)
        ybar = torch.zeros_like(self.g[0])
        c = self.p.coefficients
        per_wave = len(c.a) * self.lanes * self.n * self.n * 4 * g.element_size()
        size, stop = max(1, CHUNK_BYTES // per_wave), len(self.replay)
        while stop > 0:
            check()
            waves = range(max(0, stop - size), stop)
            ybar = self._chunk(waves, ybar)
            stop = waves.start
        return (ybar + self.g[0]).reshape(-1), self.grads, self.time_grad

    def _chunk(self, waves: range, ybar: Tensor) -> Tensor:
        """Pull ybar [L, N] back through these waves."""
        replay, c, base = self.replay, self.p.coefficients, len(self.p.tableau.b)
        width = len(c.a) if any(replay.dense[w] for w in waves) else base
        try:
            stages = Stages.of(self.p, replay, waves, width)
            jacobians = stages.by_state()
        except REFUSALS as error:
            raise NotWide from error
        self._trust(waves, stages)
        h = stages.h[..., None]
        inner = self._output_seeds(waves, width)
        direct = inner[1]
        ends = self._ends(waves, jacobians, h, inner, ybar)
        kbar = torch.einsum("s,wln->swln", self._padded_b(width), ends) + inner[0]
        total = ends + direct
        for i in range(width - 1, -1, -1):
            ubar = (kbar[i][..., None, :] @ jacobians[i])[..., 0, :] * h
            total = total + ubar
            if i:
                kbar[:i] += c.a[i].view(-1, 1, 1, 1) * ubar
        self._collect(stages, kbar)
        self.stats.backward_evaluations += stages.k.shape[0]
        self.stats.backward_vjps += stages.k.shape[0]
        if self.time_grad is not None:
            self._move_times(waves, stages, kbar)
        if self.jump_grad is not None:
            for i, w in enumerate(waves):
                begin, end, mine = total[i].reshape(-1), self.p.grid[-1], replay.closing(w)
                add_saltation(self.p, self.jump_grad, self.g, replay.t[w], replay.state(w), begin, replay.inside[w])
                if replay.closes[w]:
                    add_saltation(self.p, self.jump_grad, self.g, end, stages.end[i], 0 * begin, mine)
        return total[0]

    def _trust(self, waves: range, stages: Stages) -> None:
        """Compare the steps' ends with the checkpoints: an f that acts otherwise under vmap is not used."""
        last = waves.stop - 1 if waves.stop == len(self.replay) else waves.stop
        if last <= waves.start:
            return
        there = torch.stack([self.replay.state(w) for w in range(waves.start + 1, last + 1)])
        here = stages.end[: len(there)]
        inside = self.replay.inside[waves.start + 1 : last + 1].to(here.device).repeat_interleave(self.n, dim=1)
        slack = 1e3 * torch.finfo(here.dtype).eps * (1 + there.abs().amax())
        if not bool(((here - there).abs() <= slack).logical_or(~inside).all()):
            raise NotWide

    def _padded_b(self, width: int) -> Tensor:
        b = self.p.coefficients.b
        return torch.cat([b, b.new_zeros(width - len(b))])

    def _output_seeds(self, waves: range, width: int) -> tuple[Tensor, Tensor]:
        """Cotangents by outputs inside of steps, of the stages [S, W, L, N] and of the starting states [W, L, N]."""
        replay, count = self.replay, len(waves)
        piece = slice(replay.cuts[waves.start], replay.cuts[waves.stop])
        sizes = torch.tensor(replay.cuts).diff()[waves.start : waves.stop]
        wave = torch.repeat_interleave(torch.arange(count), sizes)
        lane, place = replay.lane[piece], replay.place[piece]
        row = (wave * self.lanes + lane).to(self.g.device)
        g = self.g[place.to(self.g.device), lane.to(self.g.device)]
        weights = replay.weights[piece, :width]
        flat = g.new_zeros(count * self.lanes, width, self.n).index_add_(0, row, weights[:, :, None] * g[:, None])
        direct = g.new_zeros(count * self.lanes, self.n).index_add_(0, row, g)
        shaped = flat.view(count, self.lanes, width, self.n).permute(2, 0, 1, 3)
        return shaped, direct.view(count, self.lanes, self.n)

    def _ends(self, waves: range, jacobians: Tensor, h: Tensor, seeds: tuple[Tensor, Tensor], ybar: Tensor) -> Tensor:
        """Cotangents of the states at the ends of the steps [W, L, N], last wave first."""
        c, width = self.p.coefficients, jacobians.shape[0]
        eye = torch.eye(self.n, dtype=jacobians.dtype, device=jacobians.device)
        chained = jacobians.new_zeros(jacobians.shape)
        for i in range(width):
            inner = eye + torch.einsum("s,swlnm->wlnm", c.a[i], chained[:i]) if i else eye
            chained[i] = (jacobians[i] @ inner) * h[..., None]
        step = eye + torch.einsum("s,swlnm->wlnm", c.b, chained[: len(c.b)])
        start = seeds[1] + torch.einsum("swln,swlnm->wlm", seeds[0], chained)
        ends = [ybar]
        for w in range(len(waves) - 1, 0, -1):
            ends.append(torch.baddbmm(start[w][:, None], ends[-1][:, None], step[w])[:, 0])
        return torch.stack(ends[::-1])

    def _collect(self, stages: Stages, kbar: Tensor) -> None:
        """The captured tensors' cotangents, all stages at once; leaves those of the stage times for `_move_times`."""
        need = self.time_grad is not None
        self.moments: Tensor | None = None
        inputs = [*self.captured, stages.moments] if need else self.captured
        if not stages.k.requires_grad or not inputs:
            return
        cotangent = (kbar * stages.h[..., None]).reshape(stages.k.shape)
        found = torch.autograd.grad(stages.k, inputs, cotangent, allow_unused=True)
        for j, new in enumerate(found[: len(self.captured)]):
            old = self.grads[j]
            if new is not None:
                self.grads[j] = new if old is None else old + new
        self.moments = found[-1] if need else None

    def _move_times(self, waves: range, stages: Stages, kbar: Tensor) -> None:
        """Cotangents of the asked times: outputs through the dense output, step ends where they move."""
        if self.time_grad is None:
            return
        replay, p, width, count = self.replay, self.p, stages.width, len(waves)
        k = stages.k.detach().view(width, count, self.lanes, self.n)
        hbar = (kbar * k).sum((0, 3)).cpu().double()
        tbar = torch.zeros(count, self.lanes, dtype=torch.float64)
        if self.moments is not None:
            moved = self.moments.cpu().double().view(width, count, -1).expand(-1, -1, self.lanes)
            hbar, tbar = hbar + torch.einsum("s,swl->wl", p.coefficients.c[:width], moved), tbar + moved.sum(0)
        piece = slice(replay.cuts[waves.start], replay.cuts[waves.stop])
        sizes = torch.tensor(replay.cuts).diff()[waves.start : waves.stop]
        wave = torch.repeat_interleave(torch.arange(count), sizes)
        lane, place, theta = replay.lane[piece], replay.place[piece], replay.theta[piece]
        if len(place):
            slope = p.coefficients.slope(theta, width).to(k.device, k.dtype)
            chosen = k[:, wave.to(k.device), lane.to(k.device)]
            g = self.g[place.to(k.device), lane.to(k.device)]
            rate = (g * torch.einsum("ms,smn->mn", slope, chosen)).sum(-1).cpu().double()
            self.time_grad.index_put_((place, lane), rate, accumulate=True)
            hbar.index_put_((wave, lane), -theta * rate, accumulate=True)
            tbar.index_put_((wave, lane), -rate, accumulate=True)
        columns = torch.arange(self.lanes).expand(count, -1)
        for index, value in ((replay.begins, tbar - hbar), (replay.ends, hbar)):
            rows = index[waves.start : waves.stop]
            moves = rows >= 0
            self.time_grad.index_put_((rows[moves], columns[moves]), value[moves], accumulate=True)
