"""A table as it was read: named columns of equal length, and where in the file each cell stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import physid.door as door
from physid.arrays import Array
from physid.errors import InputError

Cells = NDArray[np.float64] | NDArray[np.object_]

LARGEST = door.LARGEST  # bytes, of a file and of what it unpacks to
ADVICE = "Thin the rows, or split it into several files. "
EXACT = 2.0**53  # beyond it not every integer is a number of 64 bits
INEXACT = (
    "is beyond 2^53, where numbers of 64 bits skip integers. Subtract the first one, or choose a larger unit, before "
    "you save it."
)
HUGE = 1e100  # measurements beyond it have no sum of squares
EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "."})  # cells that say "not measured", in small letters


@dataclass(frozen=True, eq=False)
class Column:
    """One column: its name without the unit, its unit, and its cells, numbers (not-a-number: empty) or text."""

    name: str
    unit: str
    cells: Cells


@dataclass(frozen=True, eq=False)
class RawTable:
    """The columns of a file by name. `places[i]` says where row i stands, as in "line 7"; `notes` what was assumed."""

    path: Path
    kind: str
    columns: Mapping[str, Column]
    first_line: int | None = None
    lines: Sequence[int] | None = None
    notes: tuple[str, ...] = ()
    decimal: str = "."
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values())).cells)

    def place(self, row: int) -> str:
        """Place of a row in the file."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"

    def error(self, what: str, column: str = "", row: int | None = None) -> InputError:
        """The error that names file, column and row."""
        where = [str(self.path)]
        if column:
            where.append(f"column '{column}'")
        if row is not None:
            where.append(self.place(row))
        return InputError(f"{', '.join(where)}: {what}")

    def numbers(self, name: str) -> Array:
        """The cells [T] of a column as numbers, not-a-number where they are empty; InputError for the first text."""
        cells = self.columns[name].cells
        if cells.dtype != object:
            return self._bounded(name, np.asarray(cells, dtype=np.float64))
        found = np.empty(len(cells))
        for row, cell in enumerate(cells):
            try:
                found[row] = float(cell)  # the common case first: a column has many cells
            except ValueError:
                found[row] = self._odd_number(name, row, str(cell))
        if "_" in "".join(map(str, cells[:1000])) and any("_" in str(cell) for cell in cells):
            row = next(i for i, cell in enumerate(cells) if "_" in str(cell))
            raise self.error(f"'{cells[row]}' is no number. Write a number, or leave the cell empty.", name, row)
        for row in np.flatnonzero(np.abs(found) >= EXACT).tolist():
            text = str(cells[row]).strip()
            if re.fullmatch(r"[+-]?\d{1,400}", text) and int(text) != int(found[row]):
                raise self.error(f"{text} {INEXACT}", name, row)
        return self._bounded(name, found)

    def _bounded(self, name: str, found: Array) -> Array:
        """The numbers of a column, whatever file they come from; InputError for one that is infinite or too large."""
        endless = np.isinf(found)
        if endless.any():
            row = int(np.argmax(endless))
            raise self.error("infinite. Leave the cell empty if nothing was measured.", name, row)
        huge = np.abs(found) > HUGE
        if huge.any():
            row = int(np.argmax(huge))
            raise self.error(
                f"{found[row]:g} is beyond {HUGE:g}, too large to square. Choose a larger unit.", name, row
            )
        return found

    def _odd_number(self, name: str, row: int, cell: str) -> float:
        text = cell.strip()
        if text.lower() in EMPTY:
            return float("nan")
        if self.decimal == ",":
            try:
                return float(text.replace(",", "."))
            except ValueError:
                pass
        shown = text if len(text) <= 30 else text[:27] + "..."
        remedy = "Write a number, or leave the cell empty if nothing was measured."
        if re.fullmatch(r"[+-]?\d{1,3}([ ,.']\d{3})+([.,]\d+)?", text):
            remedy = "Write it without marks between the thousands."
        elif re.fullmatch(r"[+-]?\d+,\d+", text):
            remedy = "Write it with a decimal point; a decimal comma needs ; or tabs between the columns."
        raise self.error(f"'{shown}' is no number. {remedy}", name, row)

    def texts(self, name: str) -> list[str]:
        """The cells of a column as text, whole numbers without a point; InputError for an empty one."""
        found = []
        for row, cell in enumerate(self.columns[name].cells):
            text = f"{cell:g}" if isinstance(cell, float) else str(cell).strip()
            if text.lower() in EMPTY:
                raise self.error("the cell is empty. Fill it in.", name, row)
            found.append(text)
        return found


def too_large(path: Path, size: int) -> InputError:
    """The error for more than fits."""
    return door.too_large(path, size, door.most(LARGEST), ADVICE)


def split_header(path: Path, header: str) -> tuple[str, str]:
    """Name and unit of a header such as `x [mm]`; InputError for brackets that do not close or hold nothing."""
    text = header.strip()
    found = re.fullmatch(r"(.*?)\s*\[([^\[\]]*)\]", text)
    if found and found[1] and not found[2].strip().isdigit():  # y[0] is a name
        if not found[2].strip():
            raise InputError(f"{path}, column '{text}': the brackets hold no unit. Write it in, or drop them.")
        return found[1], found[2].strip()
    if text.count("[") != text.count("]"):
        raise InputError(f"{path}, column '{text}': a bracket is missing. Write the unit as in 'x [mm]'.")
    return text, ""


def columns_of(path: Path, headers: Sequence[str], cells: Sequence[Cells]) -> dict[str, Column]:
    """The columns by name; InputError for a name that is missing or there twice."""
    found: dict[str, Column] = {}
    for place, (header, values) in enumerate(zip(headers, cells, strict=True)):
        name, unit = split_header(path, header)
        if not name:
            raise InputError(f"{path}: column {place + 1} has no name. Name it in the header, or remove it.")
        if name in found:
            raise InputError(f"{path}: two columns are called '{name}'. Rename one of them.")
        found[name] = Column(name, unit, values)
    return found
