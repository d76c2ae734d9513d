"""The intermediate form of a right-hand side: numbers in static single assignment, and loops over buffers of them.

Every number has an id. A scalar operation is a node, and its id is its place in the list of nodes; element i of buffer
b is (b + 1) << 32 | i. A tensor is then an array of ids: views, slices, concatenations cost nothing, and a rule for an
operation reads the same for one number and for many. Wide operations (matrix products, long pointwise work) become
loops that fill a buffer; whatever is small becomes straight-line code, with common sub-expressions found and
arithmetic with 0 and 1 removed as it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]

SHIFT = 32
RUN = 8  # so many neighbours are copied by a loop
TABLE = 64  # so many scattered numbers are copied by a table of their places
STATE, PARAMS, COLUMNS = 1, 2, 4  # what a number may depend on: (t, y, w), captured tensors, tangents


class TooLarge(Exception):
    """More straight-line operations than a compiler digests."""


@dataclass(frozen=True)
class View:
    """The ids source + sum_d stride_d i_d; a scalar has strides zero."""

    source: int
    strides: tuple[int, ...]

    def ids(self, shape: Sequence[int]) -> Ids:
        """The ids as an array of this shape."""
        found = np.full(tuple(shape), self.source, np.int64)
        for axis, (stride, size) in enumerate(zip(self.strides, shape, strict=True)):
            if stride:
                steps = (stride * np.arange(size, dtype=np.int64)).reshape([-1] + [1] * (len(self.strides) - axis - 1))
                found += steps
        return found


def affine(ids: Ids) -> View | None:
    """The ids as a view, None where they do not lie so."""
    source = int(ids.flat[0])
    strides = []
    for axis, size in enumerate(ids.shape):
        at = [0] * ids.ndim
        at[axis] = min(1, size - 1)
        strides.append(int(ids[tuple(at)]) - source)
    view = View(source, tuple(strides))
    low, high = int(ids.min()) >> SHIFT, int(ids.max()) >> SHIFT
    if low != high or (low == 0 and any(strides)):
        return None
    return view if np.array_equal(view.ids(ids.shape), ids) else None


def scattered(ids: Ids) -> bool:
    """Whether these are many numbers of one buffer, few of which are neighbours."""
    buffers = ids >> SHIFT
    if len(ids) < TABLE or not buffers[0] or not bool((buffers == buffers[0]).all()):
        return False
    return len(ids) < RUN * int((np.diff(ids) != 1).sum())


def turns(places: Ids) -> Iterator[Ids]:
    """The indices of the first of equal entries, then of the second, and so on, each in order."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(starts, len(ordered)))
    turn = np.arange(len(ordered)) - np.repeat(starts, counts)
    for which in range(int(counts.max(initial=0))):
        yield np.sort(order[turn == which])


@dataclass(frozen=True)
class Number:
    """One scalar operation; `value` of a literal."""

    op: str
    args: tuple[int, ...]
    value: float = 0.0


@dataclass(frozen=True)
class Pack:
    """Scattered numbers, stored side by side in `buffer`."""

    buffer: int
    ids: Ids


@dataclass(frozen=True)
class Map:
    """buffer[i] = op(operands[i]) over `shape`."""

    buffer: int
    op: str
    operands: tuple[View, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Dot:
    """buffer[i, j] = sum_k a[i, k] b[k, j] over shape (I, J, K)."""

    buffer: int
    a: View
    b: View
    shape: tuple[int, int, int]


Node: TypeAlias = Number | Pack | Map | Dot


@dataclass(frozen=True)
class Buffer:
    """Numbers that lie side by side: an input with its C name, or what the node `producer` fills."""

    size: int
    deps: int
    producer: int = -1
    name: str = ""
