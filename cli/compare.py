"""`physid compare`: several runs in one table and one figure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, trust_option

if TYPE_CHECKING:
    from physid.report.comparison import Comparison

KINDS = (".csv", ".json", ".tex", ".png", ".svg")


@click.command(
    short_help="Compare runs in one table and one figure.",
    epilog="""\b
Examples:
  physid compare runs/lynx runs/lynx-logs
  physid compare runs/* --out compare.png --out compare.csv""",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    "outs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A .csv, .json, .tex, .png or .svg file; may be repeated.",
)
@trust_option
@json_option
def command(runs: tuple[Path, ...], outs: tuple[Path, ...], trust: bool, json: bool) -> int:
    """Compare the run directories RUN: unknowns with their errors, scores, AIC and BIC, a column for each run."""
    for out in outs:
        check_file(out, KINDS)
    from physid.api.opening import OpenRun
    from physid.report.comparison import Comparison

    console = Console(json=json)
    found = Comparison([OpenRun(run, trust).compared() for run in runs], names_of(runs))
    for out in outs:
        write_out(out, partial(_write, found, out.suffix.lower()))
        console.note(f"{out}: written")
    console.say(str(found))
    console.event("done", status="ok", message=f"{len(runs)} runs", **found.json())
    return 0


def names_of(runs: tuple[Path, ...]) -> list[str]:
    """The folders' names, or their paths where two names are the same."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _write(found: Comparison, kind: str, file: IO[bytes]) -> None:
    """The comparison in a file of that kind."""
    if kind == ".csv":
        found.frame().to_csv(file, index_label="what")
    elif kind == ".json":
        from physid.formats import json_bytes

        file.write(json_bytes(found.json()))
    elif kind == ".tex":
        file.write(found.latex().encode())
    else:
        from physid.plots import png, svg
        from physid.plots.fits import compare

        figure = compare(found.fits, found.names)
        file.write(png(figure) if kind == ".png" else svg(figure))
