"""Running sums, and products whose derivatives torch takes by division."""

from __future__ import annotations

from typing import Any

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import Ids
from physid.ode.native.compiler.reduce import carried, fold, kept, rows_of
from physid.ode.native.compiler.rules import rule


@rule("cumsum")
def _cumsum(b: Builder, x: Ids, dim: int, dtype: Any = None) -> Ids:
    return np.moveaxis(_running(b, "add", np.moveaxis(x, dim, 0)), 0, dim) if x.ndim else x


def _running(b: Builder, op: str, rows: Ids) -> Ids:
    """What op makes of the first of the rows, of the first two, and so on."""
    parts = [rows[0]]
    for row in rows[1:]:
        parts.append(b.map(op, parts[-1], row))
    return np.stack(parts)


@rule("prod")
def _prod(b: Builder, x: Ids, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ids:
    """The derivative is the product divided by a factor, and the product of the others where any factor is zero."""
    rows, shape = rows_of(x, dim)
    found, columns = b.map("still", fold(b, "mul", rows)), rows.T
    zeros = b.sum(b.map("eq", x, 0.0), range(x.ndim))
    ones = np.full((1, len(rows)), b.one, np.int64)
    before = np.concatenate([ones, _running(b, "mul", columns)[:-1]])
    after = np.concatenate([ones, _running(b, "mul", columns[::-1])[:-1]])[::-1]
    shares = b.map("select", zeros, b.map("mul", before, after), b.map("div", found, columns))
    if dim is None:
        shares = b.map("select", b.map("lt", 1.0, zeros), 0.0, shares)
    return kept(x, carried(b, found, rows, list(shares)).reshape(shape), dim, keepdim)


@rule("cumprod")
def _cumprod(b: Builder, x: Ids, dim: int, dtype: Any = None) -> Ids:
    """The derivative is a product divided by a factor; of the first zero, the product of what is beside it.

    Relative changes are summed up to the first zero, and the change of that one is multiplied up to the second.
    """
    if not x.ndim:
        return x
    parts = list[Ids]()
    value, clean, single, relative, first = (b.literals(n) for n in (1.0, 1.0, 0.0, 0.0, 0.0))
    for factor in np.moveaxis(x, dim, 0):
        zero, other = b.map("eq", factor, 0.0), b.map("ne", factor, 0.0)
        ends, goes_on = b.map("and", clean, zero), b.map("and", single, other)
        first = b.map("carry", 0.0, first, b.map("select", goes_on, factor, 0.0))
        first = b.map("carry", first, factor, b.map("select", ends, value, 0.0))
        clean, single = b.map("and", clean, other), b.map("or", ends, goes_on)
        value = b.map("still", b.map("mul", value, factor))
        share = b.map("still", b.map("recip", b.map("select", clean, factor, 1.0)))
        change = b.map("mul", b.map("carry", 0.0, factor, 1.0), share)
        relative = b.map("carry", relative, change, clean)
        moved = b.map("carry", value, relative, b.map("select", clean, value, 0.0))
        parts.append(b.map("carry", moved, first, single))
    return np.moveaxis(np.stack(parts), 0, dim)
