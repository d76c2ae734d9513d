"""The gradient method `forward`, built on the derivative of the discrete flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.backend import Backend
from physid.ode.eager.engine import EAGER
from physid.ode.eager.outcome import Outcome
from physid.ode.gradients.aca import transformed
from physid.ode.gradients.protocol import wants_gradient, with_pullback
from physid.ode.problem import ODEProblem


@dataclass(frozen=True)
class Forward:
    """Sensitivities carried along the march: for Gauss-Newton and few unknowns; the cost grows with the state's size.

    Its gradient equals ACA's to round-off. Source: Hairer, Norsett and Wanner (1993), I.14.
    """

    name: str = "forward"
    probed: ClassVar[bool] = True

    def solve(self, problem: ODEProblem, backend: Backend) -> tuple[Tensor, Outcome]:
        """Solve and keep the derivatives for the backward pass."""
        captured = list(problem.captured)
        if not wants_gradient(problem):
            if problem.probes is None or problem.entangled:
                outcome = backend.solve(problem)
            else:  # the grid must not depend on whether a gradient is asked for
                outcome = backend.of(problem, forward=True).differentiate(problem, captured)[0]
            return outcome.values, outcome
        if problem.t.requires_grad or problem.y0.is_complex():
            raise InputError("gradient 'forward' reaches real y0 and parameters, not t: use gradient='aca'.")
        engine = backend.of(problem, forward=True)
        if engine is EAGER and problem.entangled:
            return transformed(problem, engine)
        derivatives: list[Tensor] = []

        def march() -> Outcome:
            outcome, *found = engine.differentiate(problem, captured)
            derivatives[:] = found
            return outcome

        def pull(values: Tensor, g: Tensor, needs: Sequence[bool]) -> list[Tensor | None]:
            by_state, by_params = derivatives
            rows = torch.where(torch.isfinite(by_state).all(-1), g.view(by_state.shape[:3]), 0.0)
            ybar = torch.einsum("tln,tlnm->lm", rows, torch.nan_to_num(by_state)).reshape(-1)
            pbar = torch.einsum("tln,tlnq->q", rows, torch.nan_to_num(by_params))
            pieces = pbar.split([p.numel() for p in captured]) if captured else ()
            jumps = [] if problem.moved is None else [None]  # whose movement the columns hold
            return [ybar, None, *(piece.view_as(p) for piece, p in zip(pieces, captured, strict=True)), *jumps]

        return with_pullback(problem, march, pull)
