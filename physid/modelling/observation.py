"""Observation: the measured quantities of a model, with derivatives by state and unknowns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physid.modelling.model import Model


def observe(model: Model, states: Tensor) -> Tensor:
    """Observations [T, M] of states [T, *state], flattened."""
    return model.observe(states).reshape(states.shape[0], -1)


def linearise(model: Model, states: Tensor, by_x: Tensor, params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Observations [T, M] and their derivatives [T, M, Q] from those of the states, `by_x` [T, N, Q].

    The first columns of `by_x` belong to `params`, on which `observe` may depend directly too.
    """
    count = states.shape[0]
    picked = _picked(model, states)
    if picked is not None:
        return states.reshape(count, -1)[:, picked], by_x[:, picked]
    with torch.enable_grad():
        leaf = states.detach().requires_grad_()
        seen = observe(model, leaf)
        weight = torch.zeros_like(seen, requires_grad=True)
        inputs = [leaf, *params]
        if not seen.requires_grad:
            return seen, by_x.new_zeros(count, seen.shape[1], by_x.shape[-1])
        pulled = torch.autograd.grad(seen, inputs, weight, create_graph=True, allow_unused=True)
        eye = torch.eye(seen.shape[1], dtype=seen.dtype, device=seen.device)
        rows = [torch.autograd.grad(seen, leaf, row.expand_as(seen), retain_graph=True)[0] for row in eye]
    by_state = torch.stack(rows, 1).reshape(count, seen.shape[1], -1)
    result = by_state @ by_x
    column = 0
    for param, pull in zip(params, pulled[1:], strict=True):
        if pull is not None and pull.requires_grad:
            for j, element in enumerate(pull.reshape(-1)):
                (direct,) = torch.autograd.grad(element, weight, retain_graph=True, allow_unused=True)
                if direct is not None:
                    result[:, :, column + j] += direct
        column += param.numel()
    return seen.detach(), result


def _picked(model: Model, states: Tensor) -> Tensor | None:
    """The elements of a state that `observe` picks, when it does nothing else: when it returns a view of the state."""
    if not states.is_floating_point():
        return None
    numbers = torch.arange(states[0].numel(), dtype=torch.float64, device=states.device).view(1, *states.shape[1:])
    with torch.no_grad():
        seen = model.observe(numbers)
    if isinstance(seen, Tensor) and (seen is numbers or seen._base is numbers._base):
        return seen.reshape(-1).long()
    return None
