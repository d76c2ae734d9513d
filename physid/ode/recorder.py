"""Captured tensors: tensors with gradients that one evaluation of f uses besides its arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from physid.errors import InputError
from physid.ode.torch_internals import is_mapped, transforms_active, tree_leaves

# Over a whole tensor their derivative shares a tie evenly; under vmap it goes to one of the equals.
SHARED = (torch.max, torch.min, Tensor.max, Tensor.min, torch.median, Tensor.median, torch.aminmax, Tensor.aminmax)


class Recorder(TorchFunctionMode):
    """Collects the tensors that require gradients and enter f, of state `y`, from outside; refuses those of a vmap.

    `shares`: f takes the largest or smallest of a whole tensor.
    """

    def __init__(self, y: Tensor) -> None:
        super().__init__()
        self.state = id(y)
        self.mapped = transforms_active()
        self.shares = False
        self.found: dict[int, Tensor] = {}
        self.made: dict[int, Tensor] = {}  # by f itself: a view taken without a graph may still ask for gradients

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if (resolve_name(func) or "").endswith("requires_grad.__get__"):
            return func(*args, **kwargs)
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) not in self.made:
                if leaf.requires_grad:
                    self.found[id(leaf)] = leaf
                if self.mapped and id(leaf) != self.state and is_mapped(leaf):
                    raise InputError(
                        "torch.func.vmap over a tensor that f holds on to: solve with batched=True and such a tensor "
                        "with a row for every sample, or make it a part of the state y0 whose derivative is 0."
                    )
        out = func(*args, **kwargs)
        self.shares = self.shares or (func in SHARED and len(args) + len(kwargs) == 1)
        if isinstance(out, Tensor) and id(out) not in self.found:
            self.made[id(out)] = out
        elif isinstance(out, tuple | list):
            self.made.update((id(leaf), leaf) for leaf in tree_leaves(out) if id(leaf) not in self.found)
        return out
