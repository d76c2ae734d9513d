"""`physid check`: whether a model and its data can be fitted, before any fitting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from physid.cli.console import Console, Row
from physid.cli.measured import MEASURED, column_options, model_for_files, read_measured
from physid.cli.options import json_option
from physid.cli.sections import SectionCommand, option


@click.command(
    cls=SectionCommand,
    epilog="""\b
Examples:
  physid check swing.py:Swing --data swing.csv
  physid check pendulum --data angle.csv --json

\b
Ends with 0 when nothing failed, 6 when a check failed, 2 for bad input.
""",
)
@click.argument("model", metavar="MODEL")
@option(
    "--data",
    section=MEASURED,
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="FILE",
    help="A CSV, Parquet, NPZ or MAT file of measurements; may be repeated.",
)
@column_options
@option("--initial", section=MEASURED, metavar="VALUE", help="free or known, or as in x=0,v=1.  [default: free]")
@json_option
def command(model: str, data: tuple[Path, ...], json: bool, **options: Any) -> int:
    """Check MODEL against its data at the guess: shapes, units, corners, solve, gradient, identifiability.

    MODEL is a model of the catalogue or FILE.py:CLASS. Nothing is fitted; several experiments are judged together. A
    corner, as of abs or clamp, is a warning; a step, as of sign or round, a failure, as no gradient comes through it.
    """
    from physid.check import FAILED, check

    console = Console(json=json)
    system = model_for_files(model)
    experiments = read_measured(data, {**options, "sigma": None}, system)
    found = check(system, experiments)
    names = ", ".join(one.name for one in experiments)
    rows: list[Row] = [(finding.name, finding.status, finding.sentence) for finding in found]
    console.table(f"{type(system).__name__} on {names}", ("check", "", "what was found"), rows)
    console.say()
    for finding in found:
        console.event("check", experiment=names, **vars(finding))
    failed = sum(finding.status == FAILED for finding in found)
    message = "every check passed" if not failed else f"{failed} check{'s' if failed > 1 else ''} failed"
    console.say(f"{message[:1].upper()}{message[1:]}.")
    console.event("done", status="failed" if failed else "ok", message=message)
    return 6 if failed else 0
