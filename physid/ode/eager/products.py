"""Vector-Jacobian products of many steps at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FEW = 6  # products that are faster one by one


def batched_vjp(value: Tensor, of: Tensor, seeds: Tensor) -> Tensor:
    """Vector-Jacobian products [K, *of] for seeds [K, *value], all at once where torch can, else one by one."""
    return batched_vjps([value], of, [seeds])


def batched_vjps(values: Sequence[Tensor], of: Tensor, seeds: Sequence[Tensor]) -> Tensor:
    """The same, summed over several values."""
    keep: dict[str, Any] = {"retain_graph": True, "allow_unused": True}
    if len(seeds[0]) <= FEW:
        each = [torch.autograd.grad(values, [of], part, **keep)[0] for part in zip(*seeds, strict=True)]
        return torch.stack([torch.zeros_like(of) if one is None else one for one in each])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
            found = torch.autograd.grad(values, [of], seeds, is_grads_batched=True, **keep)[0]
    except RuntimeError:
        rows = [torch.autograd.grad(values, [of], part, **keep)[0] for part in zip(*seeds, strict=True)]
        found = None if rows[0] is None else torch.stack(rows)
    return of.new_zeros(len(seeds[0]), *of.shape) if found is None else found
