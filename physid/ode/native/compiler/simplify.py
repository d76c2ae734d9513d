"""Simplification of arithmetic: zeros, ones, negations, small powers.

A rule takes the builder, the ids of the arguments and their values where they are literals, and returns the id of what
the operation comes to, or None where it has to be done. In f itself 0 x is zero where x is known to be finite, so that
not-a-number stays; a derivative that is zero by its structure has no terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias


class NodeWriter(Protocol):
    """What writes operations on numbers, which are known by their ids."""

    zero: int
    one: int

    def op_of(self, number: int) -> tuple[str, tuple[int, ...]]:
        """The operation that a number comes from, and its arguments."""
        ...

    def number(self, op: str, *args: int) -> int:
        """The number that an operation gives."""
        ...

    def drops(self, number: int) -> bool:
        """Whether zero times a number is nothing."""
        ...


Simplify: TypeAlias = Callable[[NodeWriter, tuple[int, ...], list[float | None]], int | None]


def _add(b: NodeWriter, ids: tuple[int, ...], values: list[float | None]) -> int | None:
    for here, there in ((0, 1), (1, 0)):
        if values[here] == 0.0:
            return ids[there]
        op, args = b.op_of(ids[here])
        if op == "neg":
            return b.number("sub", ids[there], args[0])
    return None


def _sub(b: NodeWriter, ids: tuple[int, ...], values: list[float | None]) -> int | None:
    if values[1] == 0.0:
        return ids[0]
    if values[0] == 0.0:
        return b.number("neg", ids[1])
    op, args = b.op_of(ids[1])
    return b.number("add", ids[0], args[0]) if op == "neg" else None


def _mul(b: NodeWriter, ids: tuple[int, ...], values: list[float | None]) -> int | None:
    for here, there in ((0, 1), (1, 0)):
        if values[here] == 0.0 and b.drops(ids[there]):
            return b.zero
        if values[here] == 1.0:
            return ids[there]
        if values[here] == -1.0:
            return b.number("neg", ids[there])
    for here, there in ((0, 1), (1, 0)):
        op, args = b.op_of(ids[here])
        if op == "neg":
            return b.number("neg", b.number("mul", args[0], ids[there]))
    return None


def _neg(b: NodeWriter, ids: tuple[int, ...], values: list[float | None]) -> int | None:
    op, args = b.op_of(ids[0])
    if op == "neg":
        return args[0]
    return b.number("sub", args[1], args[0]) if op == "sub" else None


def _select(b: NodeWriter, ids: tuple[int, ...], values: list[float | None]) -> int | None:
    if values[0] is not None:
        return ids[1] if values[0] != 0.0 else ids[2]
    return ids[1] if ids[1] == ids[2] else None


def _pow(b: NodeWriter, ids: tuple[int, ...], values: list[float | None]) -> int | None:
    """Small whole and half exponents: products and roots are faster than pow, and as exact."""
    x, exponent = ids[0], values[1]
    if exponent is None or abs(exponent) > 8 or (2 * exponent) % 1:
        return None
    if exponent > 0 and exponent % 1 and exponent != 0.5:
        return None  # kept for its derivative at zero
    if exponent < 0:
        x, exponent = b.number("recip", x), -exponent
    if exponent == 0.5 and values[1] == -0.5:
        return b.number("rsqrt", ids[0])
    found = b.number("sqrt", x) if exponent % 1 else b.one
    power, rest = x, int(exponent)
    while rest:
        if rest & 1:
            found = b.number("mul", found, power)
        power, rest = b.number("mul", power, power) if rest > 1 else power, rest >> 1
    return found


def _recip(b: NodeWriter, ids: tuple[int, ...], values: list[float | None]) -> int | None:
    op, args = b.op_of(ids[0])
    if op == "recip":
        return args[0]
    inner, of = b.op_of(args[0]) if op == "sqrt" else ("", ())
    return b.number("mul", ids[0], of[0]) if inner == "recip" else None  # 1 / sqrt(1 / x) = x sqrt(1 / x)


SIMPLER: dict[str, Simplify] = {
    "recip": _recip,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "neg": _neg,
    "select": _select,
    "pow": _pow,
}
