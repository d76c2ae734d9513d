"""Operations that only arrange numbers: copies, joins, indices, and in-place writes as they look from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import Ids, turns
from physid.ode.native.compiler.rules import array, real, rule
from physid.ode.native.compiler.trace import Unsupported

# --- copies and literals


@rule("clone", "_to_copy", "lift")
def _same(b: Builder, x: Ids, *args: Any, **options: Any) -> Ids:
    return x


@rule("copy")
def _copy(b: Builder, x: Ids, source: Any, *args: Any) -> Ids:
    return np.broadcast_to(array(b, source), x.shape)


@rule("fill")
def _fill(b: Builder, x: Ids, value: Any) -> Ids:
    return np.broadcast_to(np.asarray(real(b, value)), x.shape)


@rule("zero", "zeros_like", "empty_like")
def _zeros_like(b: Builder, x: Ids, **options: Any) -> Ids:
    return np.full(x.shape, b.zero, np.int64)


@rule("ones_like")
def _ones_like(b: Builder, x: Ids, **options: Any) -> Ids:
    return np.full(x.shape, b.one, np.int64)


@rule("full_like")
def _full_like(b: Builder, x: Ids, value: float, **options: Any) -> Ids:
    return np.full(x.shape, b.literal(value), np.int64)


@rule("new_zeros", "new_empty", "new_empty_strided")
def _new_zeros(b: Builder, x: Ids, size: Sequence[int], *args: Any, **options: Any) -> Ids:
    return np.full(tuple(size), b.zero, np.int64)


@rule("new_ones")
def _new_ones(b: Builder, x: Ids, size: Sequence[int], **options: Any) -> Ids:
    return np.full(tuple(size), b.one, np.int64)


@rule("new_full")
def _new_full(b: Builder, x: Ids, size: Sequence[int], value: float, **options: Any) -> Ids:
    return np.full(tuple(size), b.literal(value), np.int64)


@rule("inputs")
def _inputs(b: Builder, times: Any, count: int) -> Ids:
    return b.map("input", array(b, times)[..., None], b.literals(range(count)))


# --- arrangement


@rule("cat")
def _cat(b: Builder, parts: Sequence[Any], dim: int = 0) -> Ids:
    arrays = [array(b, part) for part in parts]
    return np.concatenate([a for a in arrays if a.size or a.ndim > 1], axis=dim)


@rule("stack")
def _stack(b: Builder, parts: Sequence[Any], dim: int = 0) -> Ids:
    return np.stack([array(b, part) for part in parts], axis=dim)


@rule("repeat")
def _repeat(b: Builder, x: Ids, repeats: Sequence[int]) -> Ids:
    return np.tile(x, tuple(repeats))


@rule("flip")
def _flip(b: Builder, x: Ids, dims: Sequence[int]) -> Ids:
    return np.flip(x, tuple(dims))


@rule("roll")
def _roll(b: Builder, x: Ids, shifts: Sequence[int], dims: Sequence[int] = ()) -> Ids:
    return np.roll(x, tuple(shifts), tuple(dims)) if len(dims) else np.roll(x.ravel(), shifts[0]).reshape(x.shape)


@rule("constant_pad_nd")
def _pad(b: Builder, x: Ids, pad: Sequence[int], value: float = 0) -> Ids:
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if min(pad, default=0) < 0:
        raise Unsupported("unsupported operation constant_pad_nd with negative widths")
    return np.pad(x, pairs, constant_values=b.literal(value))


@rule("tril")
def _tril(b: Builder, x: Ids, diagonal: int = 0) -> Ids:
    return np.where(np.tril(np.ones(x.shape[-2:], bool), diagonal), x, b.zero)


@rule("triu")
def _triu(b: Builder, x: Ids, diagonal: int = 0) -> Ids:
    return np.where(np.triu(np.ones(x.shape[-2:], bool), diagonal), x, b.zero)


@rule("diag_embed")
def _diag_embed(b: Builder, x: Ids, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Ids:
    size = x.shape[-1] + abs(offset)
    made = np.full((*x.shape[:-1], size, size), b.zero, np.int64)
    at = np.arange(x.shape[-1])
    made[..., at + max(-offset, 0), at + max(offset, 0)] = x
    return np.moveaxis(made, (-2, -1), (dim1, dim2))


def _index(index: Any) -> Any:
    """A known index as integers (or a mask); one that is computed cannot be an address."""
    if index is None:
        return slice(None)
    if not hasattr(index, "values"):
        raise Unsupported("an index or mask that is computed from the state")
    return index.values


@rule("index")
def _getitem(b: Builder, x: Ids, indices: Sequence[Any]) -> Ids:
    found: Ids = x[tuple(_index(index) for index in indices)]
    return found


@rule("index_select")
def _index_select(b: Builder, x: Ids, dim: int, index: Any) -> Ids:
    return np.take(x, np.atleast_1d(_index(index)), axis=dim)


@rule("gather")
def _gather(b: Builder, x: Ids, dim: int, index: Any, sparse_grad: bool = False) -> Ids:
    found: Ids = x[_along(_index(index), dim, x.ndim)]
    return found


def _along(index: Any, dim: int, ndim: int) -> tuple[Any, ...]:
    places = list(np.indices(index.shape, sparse=True))
    places[dim % ndim] = index
    return tuple(places)


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def _index_put(b: Builder, x: Ids, indices: Sequence[Any], values: Ids, accumulate: bool = False, *args: Any) -> Ids:
    if len(indices) == 1 and isinstance(indices[0], np.ndarray) and np.size(values) == 1 and not accumulate:
        return b.map("select", indices[0], array(b, values).reshape(()), x)  # a mask that is computed
    return _put(b, x, tuple(_index(index) for index in indices), array(b, values), accumulate)


@rule("scatter")
def _scatter(b: Builder, x: Ids, dim: int, index: Any, source: Any) -> Ids:
    return _put(b, x, _along(_index(index), dim, x.ndim), _of_shape(b, source, _index(index).shape), False)


@rule("scatter_add")
def _scatter_add(b: Builder, x: Ids, dim: int, index: Any, source: Ids) -> Ids:
    return _put(b, x, _along(_index(index), dim, x.ndim), _of_shape(b, source, _index(index).shape), True)


@rule("index_add")
def _index_add(b: Builder, x: Ids, dim: int, index: Any, source: Ids, alpha: float = 1) -> Ids:
    place = [slice(None)] * (dim % x.ndim) + [np.atleast_1d(_index(index))]
    return _put(b, x, tuple(place), b.map("mul", source, float(alpha)), True)


@rule("index_copy")
def _index_copy(b: Builder, x: Ids, dim: int, index: Any, source: Ids) -> Ids:
    return _put(b, x, (*[slice(None)] * (dim % x.ndim), np.atleast_1d(_index(index))), source, False)


@rule("select_scatter")
def _select_scatter(b: Builder, x: Ids, source: Ids, dim: int, index: int) -> Ids:
    return _put(b, x, (*[slice(None)] * (dim % x.ndim), index), source, False)


@rule("slice_scatter")
def _slice_scatter(
    b: Builder, x: Ids, source: Ids, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Ids:
    return _put(b, x, (*[slice(None)] * (dim % x.ndim), slice(start, end, step)), source, False)


def _of_shape(b: Builder, source: Any, shape: tuple[int, ...]) -> Ids:
    if isinstance(source, int | float):
        return np.full(shape, b.literal(source), np.int64)
    return np.asarray(source)[tuple(slice(0, size) for size in shape)]


def _put(b: Builder, x: Ids, place: tuple[Any, ...], values: Any, accumulate: bool) -> Ids:
    out = x.copy()
    if not accumulate:
        out[place] = values
        return out
    at = np.arange(x.size).reshape(x.shape)[place]
    flat, added = out.reshape(-1), np.broadcast_to(values, at.shape).ravel()
    for chosen in turns(at.ravel()):
        into = at.ravel()[chosen]
        flat[into] = b.map("add", flat[into], added[chosen])
    return flat.reshape(x.shape)
