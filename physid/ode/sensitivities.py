"""Forward sensitivities: the exact derivative of the discrete map, for Gauss-Newton and few unknowns.

The derivative is that of the discrete map, accepted steps held fixed; physid.ode.gradients.forward has its cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from physid.errors import InputError
from physid.ode.conclude import conclude
from physid.ode.dispatch import choose, memory
from physid.ode.rhs import RightHandSide
from physid.ode.solution import Solution
from physid.ode.solve import Integrator


@dataclass(frozen=True)
class Sensitivity:
    """A solution and its derivatives at the asked times.

    `y0` [T, (B), *state, n]: with respect to the n components of the (flattened) initial state of the same sample.
    `params`: for each parameter p, [T, (B), *state, *p.shape].
    """

    solution: Solution
    y0: Tensor
    params: tuple[Tensor, ...]


def sensitivities(
    f: RightHandSide,
    y0: Tensor,
    t: Tensor | Sequence[float],
    *,
    params: Sequence[Tensor],
    integrator: Integrator,
    batched: bool = False,
    throw: bool = True,
) -> Sensitivity:
    """Solve and differentiate with respect to y0 and `params`, accepted steps held fixed.

    Shapes as in `solve`; params are shared by the samples of a batch. The result carries no graph. The eager engine
    needs an f that works under torch.vmap. Errors: InputError for tuple or complex states and for an f that draws
    random numbers; SolveError.
    Source: Hairer, Norsett and Wanner (1993), I.14 (the variational equation), applied to the discrete map.
    """
    if not isinstance(y0, Tensor) or y0.is_complex():
        raise InputError("sensitivities take one real state tensor: join the parts of a tuple, split complex states.")
    frozen = [p if p.requires_grad else p.detach().requires_grad_() for p in params]
    if any(a is not b for a, b in zip(frozen, params, strict=True)):
        raise InputError(
            "a tensor in params does not require gradients: call .requires_grad_() on it before f uses it."
        )
    start = y0.detach().requires_grad_()  # jumps may depend on it
    problem = integrator.pose(f, start, t, params, batched, memory(integrator.engine), graph=True)
    choice = choose(problem, integrator.engine, forward=True)
    outcome, by_state, by_params = choice.engine.differentiate(problem, list(params))
    how = (choice.engine.name, choice.note, lambda other: choice.engine.differentiate(other, list(params))[0])
    solution = conclude(problem, outcome.values, outcome, "forward", throw, *how)
    lead, n = (problem.grid.shape[0], *y0.shape), problem.layout.width
    pieces = by_params.split([p.numel() for p in params], dim=-1) if params else ()
    return Sensitivity(
        solution,
        by_state.reshape(*lead, n),
        tuple(piece.reshape(*lead, *p.shape) for piece, p in zip(pieces, params, strict=True)),
    )
