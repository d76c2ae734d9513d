"""The gradient method `forward`, built on the derivative of the discrete flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from physid.errors import InputError
from physid.ode.eager.backend import EAGER, Tier
from physid.ode.eager.outcome import Outcome
from physid.ode.gradients.aca import Holder, transformed, wants_gradient
from physid.ode.problem import Problem


@dataclass(frozen=True)
class Forward:
    """Sensitivities carried along the march: for Gauss-Newton and few unknowns; the cost grows with the state's size.

    Its gradient equals ACA's to round-off. Source: Hairer, Norsett and Wanner (1993), I.14.
    """

    name: str = "forward"
    tier: Tier = EAGER

    def solve(self, problem: Problem) -> tuple[Tensor, Outcome]:
        """Solve and keep the derivatives for the backward pass."""
        if not wants_gradient(problem):
            if (
                problem.probes is not None and not problem.entangled
            ):  # the grid must not depend on whether a gradient is asked for
                outcome = self.tier.differentiate(problem, list(problem.captured))[0]
            else:
                outcome, _ = self.tier.march(problem, keep=False)
            return outcome.values, outcome
        if problem.t.requires_grad or problem.y0.is_complex():
            raise InputError("gradient 'forward' reaches real y0 and parameters, not t: use gradient='aca'.")
        if problem.entangled:
            return transformed(problem, Holder(EAGER))
        holder = Holder(self.tier)
        values = _Carried.apply(problem, holder, problem.y0, *problem.captured)  # type: ignore[no-untyped-call]
        return values, holder.the_outcome


class _Carried(torch.autograd.Function):
    """States [T, L * N] with their sensitivities at hand."""

    @staticmethod
    def forward(problem: Problem, holder: Holder, y0: Tensor, *captured: Tensor) -> Tensor:
        holder.outcome, *derivatives = holder.tier.differentiate(problem, list(captured))
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
