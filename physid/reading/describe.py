"""Description of files of measurements as they were understood, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.modelling.model import Model
from physid.reading.doubts import error_sentence, gap_sentence, input_gap
from physid.reading.roles import ReadOptions
from physid.reading.runs import FileRun, Source, source

EVEN = 1e-3  # steps that differ by less than this part of the median are even


@dataclass(frozen=True)
class ColumnFacts:
    """One column: its role, its unit in the file and in the model, how many cells were measured, their range."""

    name: str
    role: str
    unit: str
    model_unit: str
    measured: int
    empty: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class RunFacts:
    """One experiment: its rows and times, the median step, whether steps are even, the longest one and where it is."""

    name: str
    rows: int
    first: float
    last: float
    step: float | None
    sampling: str
    longest: float | None
    longest_at: float | None


@dataclass(frozen=True)
class FileFacts:
    """One file: its kind, rows, columns and experiments, and what was assumed in reading it."""

    path: str
    kind: str
    rows: int
    time_unit: str
    columns: tuple[ColumnFacts, ...]
    experiments: tuple[RunFacts, ...]
    notes: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """The facts as data."""
        return asdict(self)


def describe(
    path: str | Path | Sequence[str | Path],
    *,
    model: Model | type[Model] | None = None,
    time: str | None = None,
    channels: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    experiment: str | None = None,
    units: Mapping[str, str] | None = None,
    interpolation: str | Mapping[str, str] | None = None,
) -> list[FileFacts]:
    """Facts of files as `physid.read` would read them, with the same arguments and errors."""
    built = model() if isinstance(model, type) else model
    asked = ReadOptions(time, channels, inputs, experiment, units or {}, interpolation, built)
    paths = [path] if isinstance(path, str | Path) else path
    return [_facts(source(Path(one), asked), asked) for one in paths]


def _facts(found: Source, asked: ReadOptions) -> FileFacts:
    roles, table = found.roles, found.table
    columns = []
    for name in table.columns:
        role = _role(found, name)
        columns.append(_column(found, name, f"{role}, {asked.kind(name)}" if role == "input" else role))
    notes = [*table.notes, *(f"channel '{name}' is not in the file" for name in sorted(roles.missing))]
    notes += [f"column '{name}' {error_sentence(name, of, roles.channels)}" for name, of in found.errors.items()]
    for run in found.runs:
        for name, column in zip(roles.inputs, run.inputs.T, strict=True):
            gap = input_gap(run.times, column)
            notes += [] if gap is None else [f"column '{name}': {gap_sentence(name, run.times, gap)}"]
    runs = tuple(_run(run) for run in found.runs)
    return FileFacts(
        str(table.path), table.kind, len(table), found.units[roles.time], tuple(columns), runs, tuple(notes)
    )


def _role(found: Source, name: str) -> str:
    roles = found.roles
    named = {roles.time: "time", **dict.fromkeys(roles.channels, "channel"), **dict.fromkeys(roles.inputs, "input")}
    return "experiment" if name == roles.experiment else named.get(name, "not used")


def _column(found: Source, name: str, role: str) -> ColumnFacts:
    roles, column = found.roles, found.table.columns[name]
    if name == roles.time:
        values = np.concatenate([run.times for run in found.runs])
    elif name in roles.channels:
        values = np.concatenate([run.channels[:, roles.channels.index(name)] for run in found.runs])
    elif name in roles.inputs:
        values = np.concatenate([run.inputs[:, roles.inputs.index(name)] for run in found.runs])
    else:
        empty = sum(str(cell).strip() in ("", "nan") for cell in column.cells)
        return ColumnFacts(name, role, column.unit, "", len(column.cells) - empty, empty, None, None)
    there: Array = values[np.isfinite(values)]
    low, high = (float(there.min()), float(there.max())) if len(there) else (None, None)
    return ColumnFacts(name, role, column.unit, found.units[name], len(there), len(values) - len(there), low, high)


def _run(run: FileRun) -> RunFacts:
    first, last = float(run.times[0]), float(run.times[-1])
    steps = np.diff(run.times)
    if not len(steps):
        return RunFacts(run.name, 1, first, last, None, "one time", None, None)
    middle, where = float(np.median(steps)), int(np.argmax(steps))
    even = float(np.abs(steps - middle).max()) <= EVEN * middle
    longest = (None, None) if even else (float(steps[where]), float(run.times[where]))
    return RunFacts(run.name, len(run.times), first, last, middle, "even" if even else "uneven", *longest)
