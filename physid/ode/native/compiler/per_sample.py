"""A right-hand side of one sample, where a closure holds tensors with a row for every sample of the batch."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class OneSample:
    """f for the first sample; `first` maps the id of a tensor with rows [B, ...] to that of the first, [1, ...]."""

    f: Any
    first: dict[int, Tensor]

    def of(self, captured: Sequence[Tensor]) -> list[Tensor]:
        """The captured tensors as the first sample sees them."""
        return [self.first.get(id(tensor), tensor) for tensor in captured]

    def whole(self, tensor: Tensor, known: Sequence[Tensor]) -> Tensor:
        """The tensor whose first row this one is, itself if it is none."""
        return next((x for x in known if self.first.get(id(x)) is tensor), tensor)


def one_sample(f: Any, lanes: int) -> tuple[OneSample, list[Tensor]] | None:
    """f with tensors [lanes, ...] of its closure and module cut to their first row, and those; None without any."""
    if not isinstance(f, types.FunctionType) or lanes < 2:
        return None
    first: dict[int, Tensor] = {}
    whole: list[Tensor] = []
    cut = _cut(f, lanes, first, whole)
    return (OneSample(cut, first), whole) if whole else None


def _cut(f: types.FunctionType, lanes: int, first: dict[int, Tensor], whole: list[Tensor]) -> types.FunctionType:
    def own(value: Any) -> Any:
        """The first row of a tensor with one per sample, a function over such; anything else as it is."""
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == lanes:
            if id(value) not in first:
                first[id(value)] = value.detach()[:1].clone().requires_grad_(value.requires_grad)
                whole.append(value)
            return first[id(value)]
        if isinstance(value, types.FunctionType) and value.__closure__:
            return _cut(value, lanes, first, whole)
        return value

    cells = tuple(types.CellType(own(cell.cell_contents)) for cell in f.__closure__ or ())
    seen = {name: f.__globals__[name] for name in f.__code__.co_names if name in f.__globals__}
    rows = {name: own(value) for name, value in seen.items() if isinstance(value, Tensor)}
    other = types.FunctionType(f.__code__, {**f.__globals__, **rows}, f.__name__, f.__defaults__, cells)
    other.__kwdefaults__ = f.__kwdefaults__
    other.__dict__.update(f.__dict__)
    return other


def rows(tensors: Sequence[Tensor], sampled: Sequence[bool], lanes: int, dtype: torch.dtype) -> Tensor:
    """The numbers of tensors that have a row per sample, and of those that all share: [lanes, numbers]."""
    parts = [
        tensor.detach().reshape(lanes if own else 1, -1).to(dtype).expand(lanes, -1)
        for tensor, own in zip(tensors, sampled, strict=True)
    ]
    return torch.cat(parts, 1) if parts else torch.zeros(lanes, 0, dtype=dtype)
