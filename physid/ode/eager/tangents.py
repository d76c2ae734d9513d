"""Tangents in the eager march: carried through its attempts, with their part in the error ratio."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.directions import Directions, column_sizes
from physid.ode.eager.products import batched_vjps
from physid.ode.eager.stages import Stages
from physid.ode.probes import Probes
from physid.ode.problem import ODEProblem
from physid.ode.rhs import Field


class Tangents:
    """K tangents [K, L * N] of the states; their stages are the derivatives of the state's stages.

    `sizes` [K, L, 1], where there are any, multiply a tangent in the norm; 0 leaves it out.
    """

    def __init__(
        self, problem: ODEProblem, start: Tensor, along: Sequence[tuple[Tensor, Tensor]], sizes: Tensor | None = None
    ) -> None:
        if problem.field.buffers:
            raise InputError(
                "probes with batch norm in training mode: its samples depend on each other. Call .eval() on the "
                "module, or leave probes out."
            )
        self.p, self.along, self.sizes = problem, along, sizes
        self.now, self.after = start, start
        self.rows: list[Tensor] = []  # h times the derivative of the stages of the last attempt
        self.slope: Tensor | None = None  # of the tangents where they are, if it is known
        self.last: Tensor | None = None
        self.pushed = 0  # evaluations of the tangents of f

    @staticmethod
    def random(problem: ODEProblem, probes: Probes) -> Tangents:
        """Those of a solve with probes."""
        found = Directions.of(problem, probes)
        return Tangents(problem, found.start, list(zip(problem.unknowns, found.params, strict=True)))

    @staticmethod
    def columns(problem: ODEProblem, probes: Probes, params: Sequence[Tensor]) -> Tangents:
        """Those by every component of the initial state and every element of the parameters."""
        layout = problem.layout
        lanes, n, total = layout.lanes, layout.width, sum(x.numel() for x in params)
        start = torch.eye(n + total, n, dtype=layout.dtype, device=layout.device)
        start = start[:, None].expand(-1, lanes, -1).reshape(n + total, -1)
        eye = torch.eye(n + total, n + total, dtype=layout.dtype, device=layout.device)[:, n:]
        parts = eye.split([x.numel() for x in params], dim=1) if params else ()
        along = [(x, part.reshape(-1, *x.shape)) for x, part in zip(params, parts, strict=True)]
        return Tangents(problem, start, along, column_sizes(problem, probes, params).T[..., None])

    @property
    def sized(self) -> Tensor:
        """The tangents where they are, times their sizes [K, L * N]."""
        if self.sizes is None:
            return self.now
        return (self.now.view(len(self.now), self.p.layout.lanes, -1) * self.sizes).flatten(1)

    def ratio(
        self, ratio: Tensor, times: tuple[Tensor, ...], y: Tensor, stages: Stages, h: float | Tensor, needed: Tensor
    ) -> Tensor:
        """The largest error over the tolerance [L] of the state, `ratio`, and of the tangents of the lanes `needed`.

        A tangent that is not finite has no part in it: its derivative does not exist.
        """
        p, c = self.p, self.p.coefficients
        if not bool(needed.any()) or c.error is None:
            return ratio
        evaluations = p.field.count
        with p.field.unseen():
            self._carry(times, y, stages, h)
        p.field.count = evaluations
        least, most = self.now.abs(), self.after.abs()
        size: Tensor | float = 1.0
        if self.sizes is not None:
            size = self.sizes.expand(-1, -1, p.layout.width).reshape(len(self.now), -1)
        scale = torch.maximum(least, most) * size * p.rtol + p.atol
        found = self._sizes(c.error, size / scale)
        if c.error3 is not None:
            other = self._sizes(c.error3, size / scale)
            found = found**2 / (found**2 + 0.01 * other**2).sqrt()
        worst = torch.where(torch.isfinite(found), found, 0.0).amax(0).to("cpu", torch.float64)
        return torch.where(needed, torch.maximum(ratio, worst), ratio)

    def _sizes(self, weights: Tensor, factor: Tensor) -> Tensor:
        """The norm [K, L] of the errors that `weights` make of the stages, times a factor."""
        error = torch.einsum("s,skx->kx", weights, torch.stack(self.rows[: len(weights)])) * factor
        return torch.stack([self.p.size(one) for one in error])

    def _carry(self, times: tuple[Tensor, ...], y: Tensor, stages: Stages, h: float | Tensor) -> None:
        """The stages of an attempt whose states are at hand, and where they lead."""
        p, c = self.p, self.p.coefficients
        self.rows = []
        for i in range(len(p.tableau.b)):
            if i == 0 and self.slope is not None:
                k = self.slope
            else:
                before = torch.stack(self.rows) if i else self.now[None, :0]
                s = self.now + torch.einsum("s,skx->kx", c.a[i], before) if i else self.now
                k = push(p.field, times[i], stages.combine(y, i), s, self.along)
                self.pushed += 1
            if i == 0:
                self.slope = k
            self.rows.append(k * h if isinstance(h, float) else (k.view(len(k), len(h), -1) * h).flatten(1))
        self.last = k
        self.after = self.now + torch.einsum("s,skx->kx", c.b, torch.stack(self.rows))

    def accept(self, good: Tensor, again: bool) -> None:
        """Move on in the lanes `good`; `again`: the last stage of a step is the first of the next."""
        layout = self.p.layout
        mask = good.to(layout.device)[None, :, None]

        def pick(new: Tensor, old: Tensor) -> Tensor:
            rows = (len(new), layout.lanes, layout.width)
            return torch.where(mask, new.view(rows), old.view(rows)).flatten(1)

        self.now = pick(self.after, self.now)
        kept, self.slope = self.slope, None
        if again and self.last is not None and kept is not None:
            self.slope = pick(self.last, kept)


def push(field: Field, t: Tensor, y: Tensor, dy: Tensor, along: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """df [K, L * N] for tangents dy [K, L * N] of the state and [K, *shape] of each parameter in `along`.

    As the derivative of w -> w^T df by w, which needs nothing of f but what a second derivative does.
    """
    with torch.enable_grad():
        u = y.detach().requires_grad_()
        k = field(t, u)
        if not k.requires_grad:
            return torch.zeros_like(dy)
        weight = torch.zeros_like(k, requires_grad=True)
        found = torch.autograd.grad(k, [u, *(x for x, _ in along)], weight, create_graph=True, allow_unused=True)
    pairs = [(g, v) for g, v in zip(found, (dy, *(v for _, v in along)), strict=True) if g is not None]
    pairs = [(g, v) for g, v in pairs if g.requires_grad]
    return batched_vjps([g for g, _ in pairs], weight, [v for _, v in pairs]) if pairs else torch.zeros_like(dy)
