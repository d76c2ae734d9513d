"""Roles of columns: time, measured channel, input or experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.data.inputs import KINDS
from physid.errors import InputError, unknown_name
from physid.modelling.answers import observed
from physid.modelling.model import Model
from physid.reading.table import Cells, Column, RawTable, split_header

TIMES = ("t", "time", "times", "year")
EXPERIMENTS = ("experiment",)
VARIABLES = ("channel", "variable", "quantity")
VALUES = ("value",)


@dataclass(frozen=True)
class ReadOptions:
    """Options of the reader: columns by name, units of columns, interpolation of inputs, the model they are for."""

    time: str | None = None
    channels: Sequence[str] | None = None
    inputs: Sequence[str] | None = None
    experiment: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    interpolation: str | Mapping[str, str] | None = None
    model: Model | None = None

    def kind(self, name: str) -> str:
        """Interpolation of the input `name`; InputError for an unknown one."""
        ways = self.interpolation or {}
        found = ways if isinstance(ways, str) else ways.get(name, "hold")
        if found not in KINDS:
            raise unknown_name("kind of interpolation", found, KINDS)
        return found

    def told(self, name: str) -> bool:
        """Whether the interpolation of the input `name` was given."""
        return isinstance(self.interpolation, str) or name in (self.interpolation or {})

    def wanted(self, name: str, role: str) -> str:
        """The unit in which the model has a column; empty where it does not say."""
        units = {} if self.model is None else self.model.units
        if role == "time":
            return next((units[key] for key in (name, "t", "time") if key in units), "")
        return units.get(name, "")


@dataclass(frozen=True)
class Roles:
    """The names of the columns by role; `missing` are channels of the model that the file does not have."""

    time: str
    channels: tuple[str, ...]
    inputs: tuple[str, ...]
    experiment: str | None
    missing: frozenset[str]
    unused: tuple[str, ...]


def assign(table: RawTable, asked: ReadOptions) -> Roles:
    """The roles of the columns: as given, else by the names of the model, else by usual names.

    Errors: InputError for a column that is not there, for two roles of one column, and when nothing was measured.
    """
    experiment = _one_of(table, asked.experiment, EXPERIMENTS, "experiment")
    time = _time(table, asked, experiment)
    taken = {time, experiment}
    inputs = tuple(asked.inputs) if asked.inputs is not None else _input_names(asked.model)
    for name in inputs:
        _need(table, name, "input")
    rest = [name for name in table.columns if name not in taken and name not in inputs]
    channels, missing = _channels(table, asked, rest)
    for name in (*inputs, *channels):
        if name in taken:
            raise table.error("has two roles. Name another column for one of them.", name)
        taken.add(name)
    unused = tuple(name for name in rest if name not in channels)
    return Roles(time, channels, inputs, experiment, missing, unused)


def _input_names(model: Model | None) -> tuple[str, ...]:
    return () if model is None else tuple(model.input_names)


def _channels(table: RawTable, asked: ReadOptions, rest: list[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The channels in the order of the model, and those that the file does not have."""
    if asked.channels is not None:
        for name in asked.channels:
            _need(table, name, "channel")
        return _checked(table, asked, tuple(asked.channels)), frozenset()
    named = () if asked.model is None else channel_names(asked.model)
    if named:
        there = [name for name in named if name in rest]
        if not there:
            raise table.error(
                f"none of the model's channels {', '.join(named)} is a column; the columns are "
                f"{', '.join(table.columns)}. Rename them, or name them in the model's order: channels=, --channels."
            )
        return named, frozenset(named) - frozenset(there)
    numeric = tuple(name for name in rest if _is_numeric(table.columns[name]))
    if not numeric:
        raise table.error(f"no column is left to be a channel among {', '.join(table.columns)}. Add what was measured.")
    return _checked(table, asked, numeric), frozenset()


def channel_names(model: Model) -> tuple[str, ...]:
    """The names of what a model observes: its channel_names, or its states where it observes as many; else none."""
    if model.channel_names:
        return tuple(model.channel_names)
    return tuple(model.state_names) if observed_size(model) == len(model.state_names) else ()


def observed_shape(model: Model) -> tuple[int, ...]:
    """The shape of what the model observes of one state."""
    with torch.no_grad():
        like = next(iter(model.parameters()), torch.zeros((), dtype=torch.float64))
        return tuple(observed(model, torch.ones((1, *model.state_shape), dtype=like.dtype))[0].shape)


def observed_size(model: Model) -> int:
    """The number of channels that the model observes."""
    return int(np.prod(observed_shape(model), dtype=int))


def _checked(table: RawTable, asked: ReadOptions, names: tuple[str, ...]) -> tuple[str, ...]:
    """The channels, if they are as many as the model observes."""
    if asked.model is not None and len(names) != observed_size(asked.model):
        cls = type(asked.model).__name__
        raise table.error(
            f"{len(names)} columns are left to be channels, {', '.join(names)}, but {cls} observes "
            f"{observed_size(asked.model)}. Set channel_names in {cls}, or name the columns: channels=, --channels."
        )
    return names


def _is_numeric(column: Column) -> bool:
    if column.cells.dtype != object:
        return True
    for cell in column.cells[:20]:
        try:
            float(str(cell).replace(",", "."))
            return True
        except ValueError:
            continue
    return False


def _time(table: RawTable, asked: ReadOptions, experiment: str | None) -> str:
    if asked.time is not None:
        return _need(table, asked.time, "time")
    found = _one_of(table, None, TIMES, "time")
    if found is None:
        names = ", ".join(name for name in table.columns if name != experiment)
        raise table.error(f"no column is called {', '.join(TIMES)}, but {names}. Say which is the time: time=, --time.")
    return found


def _one_of(table: RawTable, told: str | None, usual: Sequence[str], role: str) -> str | None:
    """The column that was named, or one with a usual name."""
    if told is not None:
        return _need(table, told, role)
    found = [name for name in table.columns if (name if len(name) == 1 else name.lower()) in usual]  # T is no time
    if len(found) > 1:
        raise table.error(f"the columns {', '.join(found)} could each be the {role}. Say which one is.")
    return found[0] if found else None


def _need(table: RawTable, name: str, role: str) -> str:
    if name in table.columns:
        return name
    error = unknown_name(f"column '{name}' for the {role}; column", name, table.columns)
    raise InputError(
        f"{table.path}: " + str(error).replace(f"column '{name}' for the {role}; column '{name}'", f"{role} '{name}'")
    )


def widened(table: RawTable, asked: ReadOptions) -> RawTable:
    """The table as it is, or a long one (time, channel, value) turned into columns, one for each channel."""
    variable = next((name for name in table.columns if name.lower() in VARIABLES), None)
    value = next((name for name in table.columns if name.lower() in VALUES), None)
    if variable is None or value is None or table.columns[variable].cells.dtype != object:
        return table
    experiment = _one_of(table, asked.experiment, EXPERIMENTS, "experiment")
    time = _time(table, asked, experiment)
    kinds, values = table.texts(variable), table.numbers(value)
    runs = table.texts(experiment) if experiment else [""] * len(table)
    keys = list(zip(runs, clock(table, time)[0].tolist(), strict=True))
    order = {run: place for place, run in enumerate(dict.fromkeys(runs))}
    places = {key: row for row, key in enumerate(sorted(dict.fromkeys(keys), key=lambda key: (order[key[0]], key[1])))}
    names = list(dict.fromkeys(kinds))
    cells: dict[str, Array] = {name: np.full(len(places), np.nan) for name in names}
    seen: dict[tuple[Any, ...], int] = {}
    first = [-1] * len(places)
    for row, (key, name) in enumerate(zip(keys, kinds, strict=True)):
        if (key, name) in seen:
            raise table.error(
                f"'{name}' at this time was there before, on {table.place(seen[key, name])}. Keep one.", value, row
            )
        seen[key, name] = row
        cells[name][places[key]] = values[row]
        first[places[key]] = row if first[places[key]] < 0 else first[places[key]]
    columns = _long_columns(table, time, experiment, list(places), cells)
    lines = [table.lines[row] for row in first] if table.lines is not None else None
    notes = (*table.notes, f"long table: {len(names)} channels in the column '{variable}'")
    return replace(table, columns=columns, lines=lines, notes=notes)


def _long_columns(
    table: RawTable, time: str, experiment: str | None, keys: list[Any], cells: Mapping[str, Array]
) -> dict[str, Column]:
    unit_column = next((name for name in table.columns if name.lower() == "unit"), None)
    unit_of: dict[str, str] = {}
    if unit_column is not None:
        variable = next(name for name in table.columns if name.lower() in VARIABLES)
        for row, (name, unit) in enumerate(
            zip(table.texts(variable), map(str, table.columns[unit_column].cells), strict=True)
        ):
            if unit_of.setdefault(name, unit.strip()) != unit.strip():
                raise table.error(f"'{name}' was in [{unit_of[name]}] before. Give it one unit.", unit_column, row)
    clock_unit = clock(table, time)[1]
    columns = {time: Column(time, clock_unit, np.array([key[1] for key in keys]))}
    if experiment is not None:
        runs: Cells = np.array([key[0] for key in keys], dtype=object)
        columns[experiment] = Column(experiment, "", runs)
    for header, values in cells.items():
        name, unit = split_header(table.path, header)
        columns[name] = Column(name, unit or unit_of.get(header, ""), values)
    return columns


def clock(table: RawTable, name: str) -> tuple[Array, str]:
    """The times [T] and their unit; dates become seconds from the first one.

    Errors: InputError for a cell that is empty or neither a number nor a date.
    """
    column = table.columns[name]
    if column.cells.dtype == object and _looks_like_date(str(column.cells[0])):
        return _seconds(table, name), "s"
    times = table.numbers(name)
    if np.isnan(times).any():
        row = int(np.argmax(np.isnan(times)))
        raise table.error("the time is empty. Fill it in, or remove the row.", name, row)
    return times, column.unit


def _looks_like_date(text: str) -> bool:
    return len(text) >= 8 and text[:4].isdigit() and text[4] == "-"


def _seconds(table: RawTable, name: str) -> Array:
    import pandas as pd

    found = pd.to_datetime(pd.Series(list(table.columns[name].cells)), format="ISO8601", errors="coerce", utc=True)
    wrong = found.isna().to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        cell = str(table.columns[name].cells[row])[:30]
        raise table.error(f"'{cell}' is no date. Write dates as in 2026-03-01 12:30:00.", name, row)
    return np.asarray((found - found.iloc[0]).dt.total_seconds().to_numpy(), dtype=np.float64)
