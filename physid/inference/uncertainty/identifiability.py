"""Identifiable and unidentifiable combinations of the unknowns, as named products, quotients and directions.

Directions are stated in coordinates u: the logarithm of an unknown on a half line, less its bound, the unknown itself
elsewhere. A product of powers is then a weighted sum. Where the model is nonlinear the powers hold at the optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np

from physid.arrays import Array, Index
from physid.inference.parameters import VectorEntry

NONE = 1e-9  # a pivot below this part of the largest entry
SMALL = 1e-3  # a weight below this part of the largest is none
WHOLE = 5e-3  # how near weights must come to small whole numbers to be these
LARGEST = 6  # of the whole numbers that a power may be
STILL = 1e-100  # a slope below this moves nothing, and its inverse may overflow
MOST = 20_000  # supports that are tried


def coordinates(entries: Sequence[VectorEntry], slopes: Array) -> Array:
    """du / dx [Q], for d natural / dx `slopes` [Q]: one on half lines, where x is the logarithm.

    At a bound the slope underflows, and no x moves the natural value: such an unknown is represented by x itself.
    """
    still = np.abs(slopes) < STILL
    return np.array(
        [1.0 if logarithmic(one) or rests else slope for one, slope, rests in zip(entries, slopes, still, strict=True)]
    )


def named_basis(seen: Array, entries: Sequence[VectorEntry], slopes: Array) -> list[tuple[str, Array]]:
    """The combinations that the data determine of unknowns that they do not determine one by one: name and weights [Q].

    `seen` [R, Q] spans what is seen of x. Of all bases of that space the one with the fewest factors is taken.
    """
    rows = seen / coordinates(entries, slopes)
    found = []
    for row in sparse_basis(rows):
        if np.count_nonzero(row) > 1:
            row = simplified(row)
            found.append((spoken(row, entries), row))
    return found


def null_basis(unseen: Array, entries: Sequence[VectorEntry], slopes: Array) -> list[Array]:
    """The directions [Q] of u along which the predictions stay as they are; the largest weight of each is one."""
    if not len(unseen):
        return []
    return [row / _leading(row) for row in sparse_basis(unseen * coordinates(entries, slopes))]


def _leading(row: Array) -> float:
    """The first of the entries that are the largest but for round-off."""
    return float(row[np.flatnonzero(np.abs(row) >= (1.0 - WHOLE) * np.abs(row).max())[0]])


def sparse_basis(rows: Array) -> Array:
    """A basis with as few entries as can be of the space that `rows` [R, Q] span.

    The vectors of smallest support are those that vanish on R - 1 columns at least (the circuits of the space); they
    are tried one after another, few and whole weights first. Where there are too many supports, the reduced row echelon
    form is taken. The columns' sizes do not matter.
    """
    size = np.abs(rows).max(axis=0, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    _, s, vt = np.linalg.svd(rows / size, full_matrices=False)
    rank = int((s > NONE * s[0]).sum()) if len(s) and s[0] > 0 else 0
    basis = vt[:rank]
    if rank == 0 or comb(basis.shape[1], rank - 1) > MOST:
        return _cleaned(echelon(basis)) * size
    used = np.flatnonzero(np.abs(basis).max(0) > SMALL)
    found = _circuits(basis, used) * size
    order = sorted(range(len(found)), key=lambda i: (np.count_nonzero(found[i]), _complexity(found[i]), i))
    chosen: list[Array] = []
    for i in order:
        trial = np.array([*chosen, found[i]]) / size
        trial = trial / np.linalg.norm(trial, axis=1, keepdims=True)
        if np.linalg.svd(trial, compute_uv=False)[-1] > SMALL:
            chosen.append(found[i])
        if len(chosen) == rank:
            return np.array(chosen)
    return _cleaned(echelon(basis)) * size


def _circuits(basis: Array, used: Index) -> Array:
    """The vectors of a space that vanish on all but few of the `used` columns, each once."""
    rank = len(basis)
    if rank == 1:
        return _cleaned(basis)
    sets = np.array(list(combinations(used.tolist(), rank - 1)), dtype=np.intp)
    if not len(sets):
        return _cleaned(echelon(basis))
    parts = basis.T[sets]  # [K, rank - 1, rank]
    _, s, vt = np.linalg.svd(parts)
    alone = s[:, -1] > SMALL  # else more than one vector vanishes there, and smaller sets hold them
    found = _cleaned(vt[alone, -1] @ basis)
    kept: dict[bytes, Array] = {}
    for row in found:
        key = np.round(row / row[np.argmax(np.abs(row) > 0)], 6) + 0.0
        kept.setdefault(key.tobytes(), row)
    return np.array(list(kept.values())) if kept else _cleaned(echelon(basis))


def _cleaned(rows: Array) -> Array:
    """The rows without what is small beside their largest entry."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    return np.where(np.abs(rows) > SMALL * largest, rows, 0.0)


def _complexity(row: Array) -> float:
    """The sum of the powers where these are whole, more for any other."""
    whole = simplified(row)
    power = float(np.abs(whole).sum())
    return power if np.array_equal(whole, np.round(whole)) else 100.0 + power


def simplified(row: Array) -> Array:
    """The weights with the smallest as one where all are then small whole numbers, else with the largest as one.

    The sign is that with more weights above zero, or with the first above zero.
    """
    there = row != 0
    sign = np.sign(np.sign(row).sum()) or np.sign(row[there][0])
    row = sign * row
    whole = row / np.abs(row[there]).min()
    near = np.round(whole)
    if np.abs(near).max() <= LARGEST and np.all(np.abs(whole - near) <= WHOLE * np.maximum(np.abs(near), 1.0)):
        return np.asarray(near + 0.0)
    return np.asarray(row / np.abs(row).max())


def echelon(rows: Array) -> Array:
    """The reduced row echelon form of `rows` [R, Q] with complete pivoting: the span is the same."""
    table = np.array(rows, dtype=np.float64)
    least = NONE * float(np.abs(table).max(initial=0.0))
    done: list[int] = []
    for row in range(len(table)):
        rest = np.abs(table[row:])
        rest[:, done] = 0.0
        r, column = np.unravel_index(int(np.argmax(rest)), rest.shape)
        if rest[r, column] <= least:  # what is left is round-off
            return table[:row]
        table[[row, row + int(r)]] = table[[row + int(r), row]]
        table[row] /= table[row, column]
        others = np.arange(len(table)) != row
        table[others] -= np.outer(table[others, column], table[row])
        done.append(int(column))
    return table


def spoken(weights: Array, entries: Sequence[VectorEntry]) -> str:
    """A combination in words: powers of unknowns on half lines, then a weighted sum of the others."""
    above: list[str] = []
    below: list[str] = []
    terms: list[str] = []
    for weight, entry in zip(weights, entries, strict=True):
        if weight == 0.0:
            continue
        if logarithmic(entry):
            power = round(abs(float(weight)), 3)
            name = entry.name if entry.domain.low == 0.0 else f"({entry.name} {-entry.domain.low:+g})"
            text = name if abs(power - 1) < 2e-3 else f"{name}^{power:g}"
            (above if weight > 0 else below).append(text)
        else:
            terms.append(f"{weight:+.3g} {entry.name}")
    product = " ".join(above) or ("1" if below else "")
    if below:
        product += f" / {below[0]}" if len(below) == 1 else f" / ({' '.join(below)})"
    if not terms:
        return product
    parts = [f"log({product})"] if product else []
    return " ".join([*parts, *terms]).removeprefix("+")


def spoken_direction(row: Array, entries: Sequence[VectorEntry]) -> str:
    """A direction of u in words: the one unknown that it moves, or a weighted sum, of logarithms on half lines."""
    there = [(weight, entry) for weight, entry in zip(row, entries, strict=True) if abs(weight) > SMALL]
    if len(there) == 1:
        return there[0][1].name
    parts = [f"{w:+.3g} {f'log({one.name})' if logarithmic(one) else one.name}" for w, one in there]
    return " ".join(parts).removeprefix("+")


def value_of(weights: Array, natural: Array, entries: Sequence[VectorEntry]) -> tuple[float, bool]:
    """The value of a combination at natural values [Q], and whether it is a product (its error then is relative).

    It is 0, infinite or not-a-number where an unknown has reached its bound to the last bit.
    """
    product = all(logarithmic(entry) for weight, entry in zip(weights, entries, strict=True) if weight)
    total = 0.0
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for weight, value, entry in zip(weights, natural, entries, strict=True):
            if weight:
                total += float(weight) * float(np.log(value - entry.domain.low) if logarithmic(entry) else value)
        return (float(np.exp(total)) if product else total), product


def logarithmic(entry: VectorEntry) -> bool:
    """Whether x is the logarithm of the unknown, less its bound: a half line."""
    return bool(np.isfinite(entry.domain.low) and not np.isfinite(entry.domain.high))
