"""Linear systems: elimination with partial pivoting, written out for matrices of a few rows."""

from __future__ import annotations

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import Ids
from physid.ode.native.compiler.rules import rule
from physid.ode.native.compiler.trace import Unsupported

LARGEST = 8  # rows of a matrix, whose elimination is n^3 operations


@rule("_linalg_solve_ex")
def _solve(b: Builder, a: Ids, rhs: Ids, left: bool = True, check_errors: bool = False) -> tuple[Ids, None, None, None]:
    """x with a x = rhs, or x a = rhs; not-a-number for a singular matrix, of which torch raises an error."""
    vector = rhs.ndim == 1 or (rhs.ndim == a.ndim - 1 and rhs.shape == a.shape[:-1])
    columns = rhs[..., None] if vector else rhs
    if not left:
        a, columns = np.swapaxes(a, -1, -2), np.swapaxes(columns, -1, -2)
    found = _eliminated(b, a, columns)
    found = found if left else np.swapaxes(found, -1, -2)
    return found[..., 0] if vector else found, None, None, None


@rule("linalg_inv_ex")
def _inverse(b: Builder, a: Ids, check_errors: bool = False) -> tuple[Ids, None]:
    return _eliminated(b, a, np.broadcast_to(b.literals(np.eye(a.shape[-1])), a.shape)), None


def _eliminated(b: Builder, a: Ids, rhs: Ids) -> Ids:
    """x [.., n, k] with a x = rhs for a [.., n, n]."""
    n = a.shape[-1]
    if n > LARGEST:
        raise Unsupported(f"a linear system of more than {LARGEST} rows")
    lead = np.broadcast_shapes(a.shape[:-2], rhs.shape[:-2])
    parts = [np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, rhs)]
    whole = np.concatenate(parts, -1)
    rows = [whole[..., i, :] for i in range(n)]
    for k in range(n):
        for i in range(k + 1, n):  # the row with the largest number in this column comes first
            swaps = b.map("lt", b.map("abs", rows[k][..., k]), b.map("abs", rows[i][..., k]))[..., None]
            rows[k], rows[i] = b.map("select", swaps, rows[i], rows[k]), b.map("select", swaps, rows[k], rows[i])
        pivot = b.map("recip", rows[k][..., k : k + 1])
        for i in range(k + 1, n):
            factor = b.map("mul", rows[i][..., k : k + 1], pivot)
            rest = b.map("sub", rows[i][..., k + 1 :], b.map("mul", factor, rows[k][..., k + 1 :]))
            rows[i] = np.concatenate([rows[i][..., : k + 1], rest], -1)
    found: list[Ids] = [rows[0]] * n
    for k in range(n - 1, -1, -1):
        value = rows[k][..., n:]
        for j in range(k + 1, n):
            value = b.map("sub", value, b.map("mul", rows[k][..., j : j + 1], found[j]))
        found[k] = b.map("mul", value, b.map("recip", rows[k][..., k : k + 1]))
    return np.stack(found, -2)
