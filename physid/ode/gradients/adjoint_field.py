"""The adjoint ODE of a module as a plain function of (t, state), which the native engine can compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from physid.ode.problem import ODEProblem

Augmented = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def uncompiled(problem: ODEProblem, params: Sequence[Tensor]) -> str:
    """Why the adjoint ODE is no such function, so that reverse solves run by torch; empty where it is one."""
    module, layout, field = problem.f, problem.layout, problem.field
    if not isinstance(module, nn.Module):
        return "an f that is no module"
    if layout.batched or layout.is_tuple:
        return "samples with steps of their own" if layout.batched else "a state that is a tuple"
    if field.buffers or field.random is not None:
        return "random numbers" if field.random is not None else "batch norm in training mode"
    held = {id(parameter) for parameter in module.parameters()}
    if len(problem.jumps) or not all(id(parameter) in held for parameter in params):
        return "jumps of f" if len(problem.jumps) else "a parameter that is not one of f's own"
    return ""


def augmented(problem: ODEProblem, params: Sequence[Tensor]) -> Augmented | None:
    """d/dt of (y [N], a [N], *dL/dp), with the products a^T df/d(y, p) taken by torch.func.

    None for what is not a module that holds all of `params`, or has moving buffers, randomness, jumps, samples with
    steps of their own, or states that are tuples.
    """
    module, layout = problem.f, problem.layout
    if not isinstance(module, nn.Module) or uncompiled(problem, params):
        return None
    held = {id(parameter): name for name, parameter in module.named_parameters()}
    names, given = [held[id(parameter)] for parameter in params], list(params)
    shape = layout.shapes[0]

    def slope(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        y, a = state[0].view(shape), state[1].view(shape)

        def f(u: Tensor, *values: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(module, dict(zip(names, values, strict=True)), (t, u))
            return found

        k, pull = torch.func.vjp(f, y, *given)  # type: ignore[misc]
        by_y, *by_params = pull(-a)
        return (k.reshape(-1), by_y.reshape(-1), *by_params)

    return slope
