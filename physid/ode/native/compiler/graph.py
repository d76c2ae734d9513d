"""f as recorded: aten operations on strided windows of numbered stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Ref:
    """A tensor as a strided window of the store `slot`."""

    slot: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class KnownTensor:
    """A tensor of known values: an index, a mask, a literal."""

    values: NDArray[Any]

    def __repr__(self) -> str:
        """The values themselves, for the key of the graph."""
        return f"KnownTensor({self.values.dtype}, {self.values.shape}, {self.values.tobytes().hex()})"


Argument: TypeAlias = Any  # Ref, KnownTensor, number, string, None, or lists of them


@dataclass(frozen=True)
class Operation:
    """One operation; `out` names what it writes, one reference per result, None for a result that has no numbers.

    `still`: autograd was off, so that no derivative goes through it.
    """

    op: str
    args: tuple[Argument, ...]
    kwargs: dict[str, Argument]
    out: tuple[Ref | None, ...]
    writes: bool = False
    still: bool = False


@dataclass(frozen=True)
class Store:
    """Numbers in memory: where they come from ("t", "y", "p", "c", "literal", "made") and which element is which.

    `index` gives, for each place of the memory, the element's place in its input array, -1 where there is none.
    """

    kind: str
    size: int
    index: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Graph:
    """f as recorded: stores, steps, the reference of the result [N], and the constant tensors in order.

    `inputs`: of a driven f, where the table of its inputs begins among the constants, the coefficients of a piece and
    the number of inputs; the three tensors of the table are the last constants. `tallied`: tensors that f does not read
    and adds whole numbers to, which no code is written for. `factors`: Python's numbers, which follow the constants.
    """

    steps: tuple[Operation, ...]
    stores: tuple[Store, ...]
    result: Ref
    dtype: torch.dtype
    width: int
    raw: int
    baked: tuple[tuple[int, float], ...]
    constants: tuple[Tensor, ...]
    inputs: tuple[int, ...] = ()
    tallied: tuple[tuple[Tensor, int], ...] = ()
    factors: tuple[float, ...] = ()

    @property
    def pieces(self) -> Tensor | None:
        """The first tensor of the table of inputs, which f does not hold."""
        return self.constants[-3] if self.inputs else None

    def numbers(self) -> list[float]:
        """The constants [C] as they were traced, and the factors behind them."""
        return [*(value for constant in self.constants for value in constant.flatten().tolist()), *self.factors]

    def key(self) -> str:
        """All that the generated code depends on, as text."""
        return repr((self.steps, self.stores, self.result, self.dtype, self.width, self.raw, self.baked, self.inputs))
