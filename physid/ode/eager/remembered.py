"""Graphs of the stages of accepted steps, kept during the march so that the pullback evaluates nothing again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

ROOM = 64 * 2**20  # bytes of graphs that are kept unless more is asked for
HEAVIEST = 2**15  # components times saved numbers of an evaluation up to which Jacobians of all stages pay

Evaluation = Callable[[Tensor, Tensor], Tensor]
Stage = tuple[Tensor, Tensor]  # state and derivative, with its graph


class Saved:
    """Size of the graph of one evaluation: saved numbers, and bytes that no captured tensor has."""

    def __init__(self, captured: Sequence[Tensor]) -> None:
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in captured}
        self.numbers = self.bytes = 0

    def of(self, f: Evaluation, t: Tensor, u: Tensor) -> Tensor:
        """f(t, u) with its graph, while what is saved is counted."""
        with torch.enable_grad(), saved_tensors_hooks(self._count, lambda kept: kept):
            return f(t, u)

    def _count(self, tensor: Tensor) -> Tensor:
        kept = tensor.detach()
        self.numbers += kept.numel()
        if kept.layout is not torch.strided:  # a sparse matrix, which f holds
            return kept
        store = kept.untyped_storage()
        if store.data_ptr() not in self._seen:
            self._seen.add(store.data_ptr())
            self.bytes += store.nbytes()
        return kept


class Remembered:
    """Stages as they are evaluated, one graph each, while those of accepted steps fit into `room` bytes.

    Where Jacobians of many steps at once cost less than one product after the other, nothing is kept.
    """

    def __init__(self, captured: Sequence[Tensor], width: int, room: int | None = ROOM) -> None:
        self.room, self.taken = room, 0
        self.stages: list[Stage] = []
        self.open = True
        self.numbers: int | None = None  # that one evaluation saves
        self._captured, self._width, self._size = captured, width, 0

    def evaluate(self, f: Evaluation, t: Tensor, y: Tensor) -> Tensor:
        """f(t, y) without a graph; its graph is kept."""
        if not self.open:
            return f(t, y)
        u = y.detach().requires_grad_()
        if self.numbers is None:
            saved = Saved(self._captured)
            k = saved.of(f, t, u)
            self.numbers, self._size = saved.numbers, saved.bytes + 2 * u.nbytes
            self.open = self.room is None or not pays(self._width, saved.numbers)
        else:
            with torch.enable_grad():
                k = f(t, u)
        self.stages.append((u, k))
        return k.detach()

    def accepted(self, count: int) -> list[Stage] | None:
        """The last `count` stages, which are those of a step just accepted; None where there is no room for them."""
        found, self.stages = self.stages[-count:], []
        self.taken += count * self._size
        self.open = self.open and (self.room is None or self.taken <= self.room)
        return found if self.open else None


def pays(width: int, numbers: int) -> bool:
    """Whether Jacobians of the stages of many steps at once cost less than a product for each stage by itself.

    `numbers` are saved by one evaluation: each of the state's `width` components takes one more pass over them.
    """
    return width * numbers <= HEAVIEST
