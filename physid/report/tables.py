"""Tables and paragraphs as text of a hundred columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from physid.inference.uncertainty.estimates import Estimate

COLUMNS = 100
HEAD = ("unknown", "value", "+-", "95 % interval", "unit", "start", "truth")
OPEN = "undetermined"


def estimate_cells(estimates: Sequence[Estimate], digits: int, other: str = "") -> list[list[str]]:
    """The estimates as cells, the head first, with so many digits at most, and the `other` errors by their name.

    Where the data leave an unknown open, its interval says so.
    """
    rows = [(*HEAD[:3], *([other] if other else []), *HEAD[3:])]
    for one in estimates:
        shown = _digits(one.value, one.stderr, digits)
        interval = "" if one.low is None else f"[{number(one.low, shown)}, {number(one.high, shown)}]"
        error = "" if one.undetermined else number(one.stderr, 2)
        beside = [] if not other else ["" if one.undetermined else number(getattr(one, other), 2)]
        cells = (one.name, number(one.value, shown), error, *beside, OPEN if one.undetermined else interval)
        rows.append((*cells, one.unit, number(one.start, 4), number(one.truth, min(digits, 7))))
    always = {"unknown", "value", "+-", "95 % interval"}
    used = [i for i, name in enumerate(rows[0]) if name in always or any(row[i] for row in rows[1:])]
    return [[row[i] for i in used] for row in rows]


def _digits(value: float, error: float | None, most: int) -> int:
    """As many digits as the standard error makes meaningful, and one more."""
    if not error or not value or not (math.isfinite(error) and math.isfinite(value)):
        return most
    return max(3, min(most, 3 + math.floor(math.log10(abs(value))) - math.floor(math.log10(error))))


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def width(lines: Sequence[str]) -> int:
    """The length of the longest line."""
    return max(map(len, lines))


def tolerance(value: Any) -> str:
    """A tolerance: one for all states, or from the smallest to the largest of them, by their sizes."""
    numbers = np.ravel(np.asarray(value, dtype=np.float64))
    low, high = float(numbers.min()), float(numbers.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g} by state"


def number(value: Any, digits: int) -> str:
    """A number with so many digits; nothing for None, a list as it is."""
    return f"{value:.{digits}g}" if isinstance(value, float | int) else "" if value is None else str(value)


def wrap(text: str) -> str:
    """A paragraph in lines of a hundred columns, all but the first set in."""
    return "\n".join(textwrap.wrap(text, COLUMNS, subsequent_indent="  "))
