"""Softmax, its logarithm, and logarithms of sums of exponentials, from the largest number of a row."""

from __future__ import annotations

from typing import Any

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import Ids
from physid.ode.native.compiler.reduce import fold, kept, rows_of
from physid.ode.native.compiler.rules import rule


def _largest(b: Builder, x: Ids, dim: Any) -> Ids:
    """The largest number of every row with its axis kept, through which no derivative goes: it cancels."""
    rows, shape = rows_of(x, dim)
    return kept(x, b.map("still", fold(b, "max", rows)).reshape(shape), dim, True)


def _total(b: Builder, x: Ids, dim: Any) -> Ids:
    """The sum of every row with its axis kept."""
    axes = [axis % x.ndim for axis in (dim if isinstance(dim, list | tuple) else [dim])]
    return kept(x, b.sum(x, axes), dim, True)


@rule("_softmax")
def _softmax(b: Builder, x: Ids, dim: int, half_to_float: bool = False) -> Ids:
    if not x.ndim:
        return b.map("select", b.map("eq", x, x), 1.0, x)
    grown = b.map("exp", b.map("sub", x, _largest(b, x, dim)))
    return b.map("mul", grown, b.map("recip", _total(b, grown, dim)))


@rule("_log_softmax")
def _log_softmax(b: Builder, x: Ids, dim: int, half_to_float: bool = False) -> Ids:
    if not x.ndim:
        return b.map("select", b.map("eq", x, x), 0.0, x)
    off = b.map("sub", x, _largest(b, x, dim))
    return b.map("sub", off, b.map("log", _total(b, b.map("exp", off), dim)))


@rule("logsumexp")
def _logsumexp(b: Builder, x: Ids, dim: Any, keepdim: bool = False) -> Ids:
    if not x.ndim:
        return x
    largest = _largest(b, x, dim)
    size = b.map("abs", largest)
    largest = b.map("select", b.map("eq", size, float("inf")), 0.0, largest)
    found = b.map("add", b.map("log", _total(b, b.map("exp", b.map("sub", x, largest)), dim)), largest)
    axes = tuple(axis % x.ndim for axis in (dim if isinstance(dim, list | tuple) else [dim]))
    return found if keepdim else found.squeeze(axes)
