"""Reductions, matrix products, and the layers that are made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import Ids
from physid.ode.native.compiler.rules import TABLE, Rule, rule
from physid.ode.native.compiler.trace import Unsupported

# --- reductions


def _axes(x: Ids, dim: Any) -> list[int]:
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(x.ndim))
    return [d % x.ndim if x.ndim else 0 for d in (dim if isinstance(dim, list | tuple) else [dim])] if x.ndim else []


def kept(x: Ids, reduced: Ids, dim: Any, keepdim: bool) -> Ids:
    """The reduced array with its axes of length one put back if asked for."""
    axes = _axes(x, dim)
    return reduced.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdim else reduced


def _dropped(kept: Ids, dim: Any, keepdim: bool) -> Ids:
    return kept if keepdim or not kept.ndim else kept.squeeze(tuple(_axes(kept, dim)))


@rule("sum")
def _sum(b: Builder, x: Ids, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ids:
    return kept(x, b.sum(x, _axes(x, dim)), dim, keepdim)


@rule("mean")
def _mean(b: Builder, x: Ids, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ids:
    count = math.prod(x.shape[axis] for axis in _axes(x, dim))
    return b.map("mul", _sum(b, x, dim, keepdim), 1.0 / count)


@rule("var")
def _var(b: Builder, x: Ids, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Ids:
    count = math.prod(x.shape[axis] for axis in _axes(x, dim))
    off = b.map("sub", x, _mean(b, x, dim, True) if x.ndim else x)
    degrees = max(0.0, count - correction)  # without any, torch divides by zero
    return b.map("mul", _sum(b, b.map("mul", off, off), dim, keepdim), 1.0 / degrees if degrees else math.inf)


@rule("std")
def _std(b: Builder, x: Ids, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Ids:
    return b.map("root", _var(b, x, dim, correction, keepdim))


def rows_of(x: Ids, dim: Any) -> tuple[Ids, list[int]]:
    """What is reduced as rows [rest, length], and the shape of the rest."""
    axes = _axes(x, dim)
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    shape = [x.shape[axis] for axis in rest]
    return x.transpose([*rest, *axes]).reshape(math.prod(shape), -1), shape


def fold(b: Builder, op: str, rows: Ids) -> Ids:
    """One number after the other."""
    found = rows[:, 0]
    for column in range(1, rows.shape[1]):
        found = b.map(op, found, rows[:, column])
    return found


def _folded(op: str) -> Rule:
    """A reduction that goes from element to element."""

    def reduce(b: Builder, x: Ids, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ids:
        rows, shape = rows_of(x, dim)
        return kept(x, fold(b, op, rows).reshape(shape), dim, keepdim)

    return reduce


def _extreme(b: Builder, op: str, rows: Ids, first: bool = False, nan: bool = True) -> tuple[Ids, list[Ids]]:
    """The largest or smallest of every row, and the share of each column in it: equal ones at a tie, or the `first`.

    `nan`: not-a-number counts as equal to itself.
    """
    found = b.map("still", fold(b, op, rows))
    columns = [rows[:, column] for column in range(rows.shape[1])]
    if len(columns) == 1:
        return found, [np.full(len(rows), b.one, np.int64)]
    same = [b.map("eq", column, found) for column in columns]
    if nan:
        neither = b.map("ne", found, found)
        same = [
            b.map("or", one, b.map("and", neither, b.map("ne", x, x))) for one, x in zip(same, columns, strict=True)
        ]
    if first:
        taken = same[0]
        for i in range(1, len(same)):
            same[i], taken = b.map("and", same[i], b.map("not", taken)), b.map("or", same[i], taken)
        return found, same
    count = same[0]
    for one in same[1:]:
        count = b.map("add", count, one)
    return found, [b.map("mul", one, b.map("recip", count)) for one in same]


def carried(b: Builder, found: Ids, rows: Ids, shares: Sequence[Any]) -> Ids:
    """The values found, with the derivative of each column times its share."""
    for column, share in enumerate(shares):
        found = b.map("carry", found, rows[:, column], share)
    return found


def _extremes(op: str) -> tuple[Rule, Rule]:
    """amax and max, or amin and min, which share a tie evenly; along one axis max and min take the first."""

    def even(b: Builder, x: Ids, dim: Any = None, keepdim: bool = False) -> Ids:
        rows, shape = rows_of(x, dim)
        found, shares = _extreme(b, op, rows, nan=False)
        return kept(x, carried(b, found, rows, shares).reshape(shape), dim, keepdim)

    def chosen(b: Builder, x: Ids, dim: int | None = None, keepdim: bool = False) -> Any:
        rows, shape = rows_of(x, dim)
        found, shares = _extreme(b, op, rows, first=dim is not None)
        values = kept(x, carried(b, found, rows, shares).reshape(shape), dim, keepdim)
        return values if dim is None else (values, None)

    return even, chosen


TABLE["amax"], TABLE["max"] = _extremes("max")
TABLE["amin"], TABLE["min"] = _extremes("min")
TABLE["all"], TABLE["any"] = _folded("and"), _folded("or")


@rule("linalg_vector_norm")
def _vector_norm(b: Builder, x: Ids, ord: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ids:
    if ord == 2:
        return b.map("root", _sum(b, b.map("mul", x, x), dim, keepdim))
    if ord == 1:
        return _sum(b, b.map("abs", x), dim, keepdim)
    if ord == 0:
        return _sum(b, b.map("ne", x, 0.0), dim, keepdim)
    rows, shape = rows_of(x, dim)
    size, sign = b.map("abs", rows), b.map("sign", rows)
    shares: list[Any]
    if math.isinf(ord):
        found, even = _extreme(b, "max" if ord > 0 else "min", size)
        shares = [b.map("mul", sign[:, i], one) for i, one in enumerate(even)]
    else:
        found = b.map("pow", b.sum(b.map("pow", size, float(ord)), [1]), 1.0 / ord)
        whole = b.map("select", b.map("eq", found, 0.0), 0.0, b.map("pow", found, 1.0 - ord))
        parts = b.map("mul", sign, b.map("pow", size, ord - 1.0))
        parts = b.map("select", b.map("eq", rows, 0.0), 0.0, parts) if ord < 1 else parts
        shares = [b.map("mul", parts[:, i], whole) for i in range(rows.shape[1])]
    return kept(x, carried(b, b.map("still", found), rows, shares).reshape(shape), dim, keepdim)


# --- losses


def _reduced(b: Builder, loss: Ids, reduction: int) -> Ids:
    """Every number of a loss (0), their mean (1) or their sum (2)."""
    if reduction == 0:
        return loss
    return _mean(b, loss) if reduction == 1 else _sum(b, loss)


def _rounded_corner(b: Builder, x: Ids, target: Ids, width: float, height: float) -> Ids:
    """A parabola for |x - target| < width that goes on as lines of the slope `height`; far out its slope is finite."""
    off = b.map("sub", x, target)
    size, curve = b.map("abs", off), height / width if width else math.inf
    near = b.map("mul", b.map("mul", 0.5 * curve, size), size) if width else size
    line = b.map("mul", height, b.map("sub", size, 0.5 * width))
    value = b.map("select", b.map("lt", size, width), near, line)
    within = b.map("mul", curve, off) if width else off
    slope = b.map("select", b.map("le", width, off), height, within)
    slope = b.map("select", b.map("le", off, -width), -height, slope)
    return b.map("carry", b.map("still", value), off, slope)


@rule("huber_loss")
def _huber_loss(b: Builder, x: Ids, target: Ids, reduction: int = 1, delta: float = 1.0) -> Ids:
    return _reduced(b, _rounded_corner(b, x, target, float(delta), float(delta)), reduction)


@rule("smooth_l1_loss")
def _smooth_l1_loss(b: Builder, x: Ids, target: Ids, reduction: int = 1, beta: float = 1.0) -> Ids:
    return _reduced(b, _rounded_corner(b, x, target, float(beta), 1.0), reduction)


# --- matrix products


@rule("mm")
def _mm(b: Builder, x: Ids, y: Ids) -> Ids:
    return b.dot(x, y)


@rule("bmm")
def _bmm(b: Builder, x: Ids, y: Ids) -> Ids:
    return np.stack([b.dot(left, right) for left, right in zip(x, y, strict=True)])


@rule("mv")
def _mv(b: Builder, x: Ids, v: Ids) -> Ids:
    return b.dot(x, v[:, None])[:, 0]


@rule("dot", "vdot")
def _dot(b: Builder, x: Ids, y: Ids) -> Ids:
    return b.dot(x[None], y[:, None]).reshape(())


def _plus(b: Builder, start: Ids, product: Ids, beta: float, alpha: float) -> Ids:
    product = b.map("mul", product, float(alpha))
    if beta == 0:  # then it may be anything
        return product
    return b.map("add", b.map("mul", start, float(beta)), product)


@rule("addmm")
def _addmm(b: Builder, start: Ids, x: Ids, y: Ids, beta: float = 1, alpha: float = 1) -> Ids:
    return _plus(b, start, b.dot(x, y), beta, alpha)


@rule("addmv")
def _addmv(b: Builder, start: Ids, x: Ids, v: Ids, beta: float = 1, alpha: float = 1) -> Ids:
    return _plus(b, start, _mv(b, x, v), beta, alpha)


@rule("addr")
def _addr(b: Builder, start: Ids, x: Ids, y: Ids, beta: float = 1, alpha: float = 1) -> Ids:
    return _plus(b, start, b.map("mul", x[:, None], y[None]), beta, alpha)


@rule("baddbmm")
def _baddbmm(b: Builder, start: Ids, x: Ids, y: Ids, beta: float = 1, alpha: float = 1) -> Ids:
    return _plus(b, start, _bmm(b, x, y), beta, alpha)


@rule("linalg_cross")
def _cross(b: Builder, x: Ids, y: Ids, dim: int = -1) -> Ids:
    x, y = (np.moveaxis(a, dim, 0) for a in np.broadcast_arrays(x, y))
    parts = [b.map("sub", b.map("mul", x[i - 2], y[i - 1]), b.map("mul", x[i - 1], y[i - 2])) for i in range(3)]
    return np.moveaxis(np.stack(parts), 0, dim)


@rule("native_layer_norm")
def _layer_norm(b: Builder, x: Ids, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    dims = list(range(x.ndim - len(shape), x.ndim))
    mean = _mean(b, x, dims, True)
    scale = b.map("sqrt", b.map("recip", b.map("add", _var(b, x, dims, 0, True), float(eps))))
    out = b.map("mul", b.map("sub", x, mean), scale)
    out = out if weight is None else b.map("mul", out, weight)
    return out if bias is None else b.map("add", out, bias), mean, scale


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _batch_norm(b: Builder, x: Ids, weight: Any, bias: Any, mean: Any, var: Any, *options: Any) -> Any:
    if len(options) == 3 and options[0]:
        raise Unsupported("batch norm in training mode")

    def column(ids: Ids) -> Ids:
        return ids.reshape([1, -1] + [1] * (x.ndim - 2))

    scale = b.map("sqrt", b.map("recip", b.map("add", var, float(options[-1]))))
    out = b.map("mul", b.map("sub", x, column(mean)), column(scale))
    out = out if weight is None else b.map("mul", out, column(weight))
    return out if bias is None else b.map("add", out, column(bias)), None, None


@rule("native_group_norm")
def _group_norm(
    b: Builder, x: Ids, weight: Any, bias: Any, samples: int, channels: int, size: int, groups: int, eps: float
) -> Any:
    rows = x.reshape(samples * groups, -1)
    flat, mean, scale = _layer_norm(b, rows, [rows.shape[1]], None, None, eps)
    out, column = flat.reshape(x.shape), [1, channels] + [1] * (x.ndim - 2)
    out = out if weight is None else b.map("mul", out, weight.reshape(column))
    out = out if bias is None else b.map("add", out, bias.reshape(column))
    return out, mean.reshape(samples, groups), scale.reshape(samples, groups)


@rule("_cdist_forward", "_euclidean_dist")
def _cdist(b: Builder, x: Ids, y: Ids, p: float = 2, mode: Any = None) -> Ids:
    off = b.map("sub", x[..., :, None, :], y[..., None, :, :])
    if math.isinf(p):
        raise Unsupported("unsupported operation cdist with p = inf, which leaves not-a-number out")
    if p == 1:  # whose slope at not-a-number is none, unlike that of the absolute value
        slope = b.map("select", b.map("eq", off, off), b.map("sign", off), math.nan)
        off = b.map("carry", b.map("still", b.map("abs", off)), off, slope)
        return _sum(b, off, [-1])
    return _vector_norm(b, off, p, [-1])
