"""What of the unknowns the data tell and do not tell, as combinations with names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from physid.fitting.vector import Array, Entry

NONE = 1e-9  # a pivot below this part of the largest entry
SMALL = 1e-3  # a weight below this part of the largest is none


def told(rows: Array, entries: Sequence[Entry]) -> list[str]:
    """The combinations of unknowns that the data do tell, where they do not tell each: one for each degree of freedom.

    `rows` [R, Q] span the directions of x that are seen. Among them the simplest basis is named: reduced row echelon
    form with complete pivoting, restricted to unknowns that are in no row alone. On half lines x is a logarithm, and a
    combination is a product of powers; elsewhere it is a weighted sum. Where the model is nonlinear the powers hold at
    the optimum.
    """
    basis = echelon(rows)
    found = []
    for row in basis:
        weights = np.where(np.abs(row) > SMALL * np.abs(row).max(), row, 0.0)
        if np.count_nonzero(weights) > 1:
            found.append(spoken(weights, entries))
    return found


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


def spoken(weights: Array, entries: Sequence[Entry]) -> str:
    """A combination in words: powers of unknowns on half lines, then a weighted sum of the others."""
    above: list[str] = []
    below: list[str] = []
    terms: list[str] = []
    for weight, entry in zip(weights, entries, strict=True):
        if weight == 0.0:
            continue
        if logarithmic(entry):
            power = round(abs(float(weight)), 3)
            text = entry.name if abs(power - 1) < 2e-3 else f"{entry.name}^{power:g}"
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


def logarithmic(entry: Entry) -> bool:
    """Whether x is the logarithm of the unknown, less its bound: a half line."""
    return bool(np.isfinite(entry.domain.low) and not np.isfinite(entry.domain.high))
