"""Tables of text: encoding, separator and decimal mark are found out, and every doubt is an error that says where."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np

from physid.errors import InputError
from physid.reading.table import EMPTY, Cells, RawTable, columns_of

SEPARATORS = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma", " ": "blanks"}
LOOKED_AT = 50  # lines by which the separator is chosen
MAGIC = {
    b"PK\x03\x04": "a ZIP archive (a spreadsheet?)",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a NumPy file",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
}


def read_text(path: Path, data: bytes) -> RawTable:
    """The table in a text file: comments (#) and blank lines left out, the first row the header.

    Errors: InputError, each naming the file and the line.
    """
    for magic, what in MAGIC.items():
        if data.startswith(magic):
            raise InputError(f"{path} is {what}, not text. Save the table as CSV, or give the file its own suffix.")
    text, notes = _decode(path, data)
    numbered = [(i + 1, line) for i, line in enumerate(text.splitlines()) if line.strip() and line.lstrip()[0] != "#"]
    if not numbered:
        raise InputError(f"{path} holds no table, only blanks or comments. Save the data again.")
    separator = _separator(path, [line for _, line in numbered[:LOOKED_AT]])
    rows, lines = _rows(path, numbered, separator)
    header = [cell.strip().strip('"').strip() for cell in rows[0]]
    _check_header(path, header, lines[0])
    body, lines = rows[1:], lines[1:]
    if not body:
        raise InputError(f"{path} has a header and no rows. Save the data again.")
    width = _width(path, header, body, lines)
    cells = np.array([row[:width] for row in body], dtype=object)
    decimal = _decimal(separator, cells)
    if separator != ",":
        notes = (*notes, f"separator: {SEPARATORS[separator]}")
    if decimal == ",":
        notes = (*notes, "decimal comma")
    columns = columns_of(path, header[:width], list(cells.T))
    return RawTable(path, "csv", columns, lines=lines, notes=notes, decimal=decimal)


def _decode(path: Path, data: bytes) -> tuple[str, tuple[str, ...]]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16"), ("encoding: UTF-16",)
        except UnicodeDecodeError:
            raise InputError(f"{path} begins like UTF-16 but is not. Save it as UTF-8.") from None
    if b"\x00" in data:
        line = data[: data.index(b"\x00")].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: a byte zero, so this is no text. Save the table as CSV in UTF-8.")
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        odd = [b for b in data if b < 9 or 13 < b < 32]
        if odd or any(0x7F <= b <= 0x9F for b in data):  # no letters of latin-1
            raise InputError(
                f"{path}, line {line}: byte 0x{data[error.start]:02x} is neither UTF-8 nor Latin-1. Save it as UTF-8."
            ) from None
        return data.decode("latin-1"), (f"encoding: Latin-1 (line {line} is not UTF-8)",)


def _split(line: str, separator: str) -> list[str]:
    return line.split() if separator == " " else next(csv.reader([line], delimiter=separator))


def _separator(path: Path, lines: list[str]) -> str:
    """The separator by which the most lines have as many cells as the header, and more than one."""
    best, most = "", 0
    for separator in SEPARATORS:
        try:
            counts = [len(_split(line, separator)) for line in lines]
        except csv.Error:
            continue
        agree = sum(count == counts[0] for count in counts)
        if counts[0] > 1 and 2 * agree > len(counts) and agree > most:
            best, most = separator, agree
    if best:
        return best
    widths = {name: len(_split(lines[0], sign)) for sign, name in SEPARATORS.items()}
    if max(widths.values()) == 1:
        raise InputError(
            f"{path}, line 1 of the table has one column only: {lines[0][:40]!r}. A time and a channel at least are "
            "needed, separated by commas, semicolons, tabs, bars or blanks."
        )
    raise InputError(
        f"{path}: the header and the rows differ in their number of cells whatever separates them. Use one separator "
        "throughout: a comma, or a semicolon with decimal commas."
    )


def _rows(path: Path, numbered: list[tuple[int, str]], separator: str) -> tuple[list[list[str]], list[int]]:
    rows, lines = [], []
    for number, line in numbered:
        if separator != " " and line.count('"') % 2:
            raise InputError(f"{path}, line {number}: a quotation mark is not closed. Close it, or remove it.")
        rows.append(_split(line, separator))
        lines.append(number)
    return rows, lines


def _check_header(path: Path, header: list[str], line: int) -> None:
    numbers = [cell for cell in header if re.fullmatch(r"[+-]?\d+([.,]\d*)?([eE][+-]?\d+)?", cell)]
    if numbers and len(numbers) == len([cell for cell in header if cell]):
        raise InputError(
            f"{path}, line {line}: the first row holds numbers, so the columns have no names. Add a header line, "
            "as in 't [s],x [mm]'."
        )


def _width(path: Path, header: list[str], body: list[list[str]], lines: list[int]) -> int:
    """The number of columns; InputError for the first row that has another number of cells."""
    width = len(header)
    while width > 1 and not header[width - 1] and all(len(r) < width or not r[width - 1].strip() for r in body):
        width -= 1  # a separator at the end of every line
    for place, (row, line) in enumerate(zip(body, lines, strict=True)):
        extra = [cell for cell in row[width:] if cell.strip()]
        if len(row) >= width and not extra:
            continue
        if len(row) < width and place == len(body) - 1 and len(body) > 1:
            raise InputError(
                f"{path}, line {line}: the last row has {len(row)} of {width} cells: the file seems to be cut off. "
                "Save it again, or remove that line."
            )
        more = " An unquoted separator inside a cell?" if len(row) > width else ""
        raise InputError(
            f"{path}, line {line}: {len(row)} cells, but the header has {width}.{more} Give every row {width} cells; "
            "empty ones mean 'not measured'."
        )
    return width


def _decimal(separator: str, cells: Cells) -> str:
    """The decimal mark: a comma where commas separate nothing and more cells have one than a point."""
    if separator == ",":
        return "."
    sample = [str(cell).strip() for cell in cells[:1000].ravel()]
    marks = Counter(
        mark
        for cell in sample
        if cell.lower() not in EMPTY
        for mark in (",", ".")
        if re.fullmatch(rf"[+-]?\d*\{mark}\d+([eE][+-]?\d+)?", cell)
    )
    return "," if marks[","] > marks["."] else "."
