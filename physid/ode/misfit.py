"""The weighted sum of squares between a solution and what it should be, with its gradient in one compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.conclude import conclude
from physid.ode.dispatch import choose, memory
from physid.ode.gradients import registry
from physid.ode.gradients.protocol import Gradient, wants_gradient
from physid.ode.problem import ODEProblem
from physid.ode.rhs import RightHandSide
from physid.ode.solve import Integrator
from physid.ode.torch_internals import inside_transform, transforms_active


def misfit(
    f: RightHandSide,
    y0: Tensor,
    t: Tensor | Sequence[float],
    target: Tensor,
    weight: Tensor | None = None,
    *,
    integrator: Integrator | None = None,
    params: Sequence[Tensor] | None = None,
    batched: bool = False,
) -> Tensor:
    """sum weight (y - target)^2 [] over times and components, y the solution of dy/dt = f(t, y) at the times t [T].

    target and weight have the shape of the solution, [T, *state], or broadcast to it; a weight 0 leaves an entry out.
    Gradients reach y0 and whatever f depends on. The native engine solves, sums and pulls back in one call, without the
    graph that `solve` and a loss by torch would leave, and gives no second derivatives; elsewhere it is just those two.
    Errors: InputError for shapes that do not fit, for tuple states and for a target that is not a number somewhere, its
    weight 0 or not; SolveError when the solve fails.
    """
    if not isinstance(y0, Tensor):
        raise InputError("misfit takes one state tensor: join the parts of a tuple.")
    integrator = Integrator() if integrator is None else integrator
    method = registry.lookup(integrator.gradient, integrator.checkpoints)
    if integrator.probes:
        registry.check_probes(method)
    problem = integrator.pose(f, y0, t, params, batched, memory(integrator.engine))
    shape = (problem.grid.shape[0], *y0.shape)
    target = _fitted("target", target, shape, y0)
    weight = None if weight is None else _fitted("weight", weight, shape, y0)
    if _fuses(problem, method, target, weight):
        engine: Any = choose(problem, integrator.engine).engine
        if hasattr(engine, "misfit"):
            ask = partial(engine.misfit, problem, target, weight)
            total: Tensor = _Fused.apply(problem, ask, y0, *problem.captured)  # type: ignore[no-untyped-call]
            if torch.isnan(total):
                _refuse_gaps(target)
            return total
    if not transforms_active():
        _refuse_gaps(target)
    y = integrator.solve(f, y0, t, params=params, batched=batched).y
    squares = (y - target) ** 2  # type: ignore[operator]
    return (squares if weight is None else weight * squares).sum()


def _refuse_gaps(target: Tensor) -> None:
    gaps = torch.isnan(target)
    if gaps.any():
        raise InputError(
            f"target is not a number at {int(gaps.sum())} of {gaps.numel()} places: put any number there, and weight 0."
        )


def _fitted(name: str, value: Tensor, shape: tuple[int, ...], y0: Tensor) -> Tensor:
    """`value` in the shape and type of the solution."""
    if value.shape == shape and value.dtype is y0.dtype:
        return value
    try:
        return value.to(y0).expand(shape)
    except RuntimeError:
        raise InputError(
            f"{name} has shape {tuple(value.shape)}: that of the solution, {shape}, or one that broadcasts to it."
        ) from None


def _fuses(problem: ODEProblem, method: Gradient, target: Tensor, weight: Tensor | None) -> bool:
    """Whether nothing but a plain gradient by y0 and parameters is asked for."""
    fixed = not target.requires_grad and (weight is None or not weight.requires_grad) and not problem.t.requires_grad
    nested = inside_transform()
    fixed = fixed and problem.moved is None
    return fixed and getattr(method, "fused", False) and not nested and wants_gradient(problem)


class _Fused(torch.autograd.Function):
    """The sum [] with its gradient already at hand."""

    @staticmethod
    def forward(ctx: Any, problem: ODEProblem, ask: Callable[[], Any], y0: Tensor, *captured: Tensor) -> Tensor:
        outcome, total, ybar, grads = ask()
        if outcome is not None:
            conclude(problem, outcome.values, outcome, "aca", True, "native")
        ctx.found = (ybar.view(y0.shape), *grads)
        return y0.new_full((), total)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise InputError("second derivatives of a fused misfit: give it an Integrator with engine='eager'.")
        factor = float(g)
        found = ctx.found if factor == 1 else [x * factor for x in ctx.found]
        return (None, None, *found)  # autograd drops those that nobody asked for
