"""Splits a table with roles into experiments: checked times, channels and inputs in the model's units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import physid.door as door
import physid.reading.table as tables
from physid.arrays import Array
from physid.data.inputs import CLOSEST
from physid.errors import InputError
from physid.reading.binary import read_mat, read_npz, read_parquet
from physid.reading.doubts import error_columns
from physid.reading.roles import ReadOptions, Roles, assign, channel_names, clock, widened
from physid.reading.table import RawTable
from physid.reading.text import read_text
from physid.reading.units import convert

READERS = {
    ".csv": read_text,
    ".txt": read_text,
    ".tsv": read_text,
    ".dat": read_text,
    ".parquet": read_parquet,
    ".npz": read_npz,
    ".mat": read_mat,
}

MAGIC = {b"PAR1": ".parquet", b"PK\x03\x04": ".npz", b"MATLAB ": ".mat"}


@dataclass(frozen=True, eq=False)
class FileRun:
    """One experiment of a file: times [T], channels [T, M] and inputs [T, m], not-a-number where not measured.

    `rows` [T] are those of the table.
    """

    name: str
    times: Array
    channels: Array
    inputs: Array
    rows: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Source:
    """A file as it was understood: its table, the roles of the columns, their units after conversion, the runs.

    `errors` are columns that look like the errors of a channel, and whose: "" for all (see `physid.reading.doubts`).
    """

    table: RawTable
    roles: Roles
    units: dict[str, str]
    runs: list[FileRun]
    errors: dict[str, str]


def source(path: Path, asked: ReadOptions) -> Source:
    """Read and understand one file. Errors: InputError, which names file, column and row, and says what to do."""
    original = _with_units(load(path), asked)
    table = widened(original, asked)
    roles = assign(table, asked)
    units: dict[str, str] = {}
    times, unit = clock(table, roles.time)
    times = _converted(table, asked, units, roles.time, "time", times, unit)
    columns = {}
    for role, names in (("channel", roles.channels), ("input", roles.inputs)):
        for name in names:
            if name in roles.missing:
                columns[name], units[name] = np.full(len(table), np.nan), asked.wanted(name, role)
                continue
            values = table.numbers(name)
            columns[name] = _converted(table, asked, units, name, role, values, table.columns[name].unit)
    runs = []
    for name, rows in _experiments(table, roles):
        _check_order(table, roles.time, times, rows)
        table_of = {
            key: _stacked([columns[c][rows] for c in names], len(rows))
            for key, names in (("channels", roles.channels), ("inputs", roles.inputs))
        }
        if not np.isfinite(table_of["channels"]).any():
            whose = f" of experiment '{name}'" if roles.experiment else ""
            raise table.error(f"every cell of {', '.join(roles.channels)}{whose} is empty. Measure something.")
        runs.append(FileRun(name, times[rows], **table_of, rows=rows))
    return Source(table, roles, units, runs, _errors(original, roles, asked))


def _errors(table: RawTable, roles: Roles, asked: ReadOptions) -> dict[str, str]:
    """The columns that look like errors of others; none where the channels were given."""
    if asked.channels is not None:
        return {}
    named = set() if asked.model is None else set(channel_names(asked.model))
    return error_columns(table.columns, {roles.time, roles.experiment, *roles.inputs, *named}, roles.channels)


def load(path: Path) -> RawTable:
    """The table in a file, by its suffix; in what has none and is no file, a pipe, by its first bytes."""
    suffix = path.suffix.lower()
    if suffix not in READERS and not path.is_fifo():
        if not path.exists() or path.is_dir():
            door.read(path)  # which says so
        hint = " Save the sheet as CSV." if suffix in (".xls", ".xlsx", ".ods") else ""
        raise InputError(f"{path}: the suffix '{path.suffix}' is not known. Allowed: {', '.join(READERS)}.{hint}")
    data = door.read(path, tables.LARGEST, tables.ADVICE)
    if not data:
        raise InputError(f"{path} is empty. Save the data again.")
    first = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), ".csv")
    return READERS[suffix if suffix in READERS else first](path, data)


def _with_units(table: RawTable, asked: ReadOptions) -> RawTable:
    """The table with the units that were given; InputError for a column that is not there, or says otherwise."""
    columns = dict(table.columns)
    for name, unit in asked.units.items():
        if name not in columns:
            continue  # it may be in another file
        if columns[name].unit and columns[name].unit != unit:
            raise table.error(f"the header says [{columns[name].unit}], but [{unit}] was given. Correct one.", name)
        columns[name] = replace(columns[name], unit=unit)
    return replace(table, columns=columns)


def _converted(
    table: RawTable, asked: ReadOptions, units: dict[str, str], name: str, role: str, values: Array, unit: str
) -> Array:
    wanted = asked.wanted(name, role)
    units[name] = wanted or unit
    return convert(values, unit, wanted, f"{table.path}, column '{name}'")


def _experiments(table: RawTable, roles: Roles) -> list[tuple[str, NDArray[np.intp]]]:
    """Name and rows of each experiment, in the order of their first rows."""
    if roles.experiment is None:
        return [(table.path.stem, np.arange(len(table)))]
    names = np.array(table.texts(roles.experiment))
    return [(str(name), np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())]


def _check_order(table: RawTable, column: str, times: Array, rows: NDArray[np.intp]) -> None:
    late = np.flatnonzero(np.diff(times[rows]) < CLOSEST)
    if not len(late):
        return
    row, before = int(rows[late[0] + 1]), int(rows[late[0]])
    if times[row] == times[before]:
        what = f"the time {times[row]:g} is there twice, also on {table.place(before)}. Keep one row, or name a column "
        raise table.error(what + "that names the experiments: experiment=, --group.", column, row)
    if times[row] > times[before]:
        what = f"the time {times[row]:g} is less than {CLOSEST:g} after {times[before]:g} on {table.place(before)}. "
        raise table.error(what + "Choose a smaller unit of time.", column, row)
    what = f"the time {times[row]:g} comes after {times[before]:g} on {table.place(before)}. Sort the rows by time, or "
    raise table.error(what + "name a column that names the experiments: experiment=, --group.", column, row)


def _stacked(columns: list[Array], rows: int) -> Array:
    return np.stack(columns, 1) if columns else np.empty((rows, 0))
