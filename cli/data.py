"""`physid data`: columns, units and times of a file of measurements, as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console, Row
from physid.cli.measured import column_options, column_wishes, model_for_files
from physid.cli.options import json_option, model_option
from physid.cli.sections import SectionCommand

if TYPE_CHECKING:
    from physid.reading.describe import FileFacts


@click.command(
    cls=SectionCommand,
    epilog="""\b
Examples:
  physid data swing.csv
  physid data swing.csv --model swing.py:Swing
  physid data runs.csv --group day --inputs force --interpolation linear --json""",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@column_options
@model_option
@json_option
def command(files: tuple[Path, ...], model: str | None, json: bool, **options: Any) -> int:
    """Print what is read from FILE: columns, roles, units, rows, gaps, times, experiments.

    A file is CSV, Parquet, NPZ or MAT, with a column for each channel, or long, with the columns time, channel and
    value. Units stand in brackets, as in x [mm]; with --model they are converted to the model's. Empty cells were not
    measured. Ends with 2 and one line for a file that cannot be read.
    """
    from physid.reading import describe

    console = Console(json=json)
    system = None if model is None else model_for_files(model)
    found = describe(files, model=system, **column_wishes(options))
    for one in found:
        show(console, one)
        console.event("file", **one.json())
    rows = sum(one.rows for one in found)
    count = sum(len(one.experiments) for one in found)
    message = f"{rows} rows, {count} experiment{'' if count == 1 else 's'}"
    console.say(message)
    console.event("done", status="ok", message=message, files=[one.json() for one in found])
    return 0


def show(console: Console, one: FileFacts) -> None:
    """The tables of one file."""
    columns: list[Row] = [
        (c.name, c.role, _units(c.unit, c.model_unit), c.measured, c.empty or None, c.low, c.high) for c in one.columns
    ]
    console.table(
        f"{one.path} ({one.kind}, {one.rows} rows)",
        ("column", "role", "unit", "measured", "empty", "from", "to"),
        columns,
    )
    console.say()
    runs: list[Row] = [
        (r.name, r.rows, r.first, r.last, r.step, r.sampling, r.longest, r.longest_at) for r in one.experiments
    ]
    unit = f" [{one.time_unit}]" if one.time_unit else ""
    names = ("experiment", "rows", f"from{unit}", "to", "step", "sampling", "longest step", "at")
    console.table("", names, runs)
    for note in one.notes:
        console.say(f"note: {note}")
    console.say()


def _units(unit: str, model: str) -> str:
    return f"{unit} -> {model}" if unit and model and unit != model else unit or model
