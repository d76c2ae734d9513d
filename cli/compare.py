"""`physid compare`: several runs in one table and one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from physid.cli.console import Console
from physid.cli.evaluate import compare_solvers, solver_options
from physid.cli.files import check_file, write_out
from physid.cli.options import OUTPUT, json_option, trust_option
from physid.cli.reliability import compare_classes
from physid.cli.sections import SectionCommand, option
from physid.errors import InputError

KINDS = (".csv", ".json", ".tex", ".png", ".svg")


@click.command(
    cls=SectionCommand,
    epilog="""\b
Examples:
  physid compare runs/lynx runs/lynx-logs
  physid compare runs/* --out compare.png --out compare.csv
  physid compare runs/node18 --solver bosh3 --solver dopri5 --rtol 1e-2 --rtol 1e-3
  physid compare runs/node18 --paper --out errors.csv
  physid compare runs/seed0 runs/seed1 runs/seed2""",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@solver_options
@option(
    "--out",
    "outs",
    section=OUTPUT,
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A .csv, .json, .tex, .png or .svg file; may be repeated.",
)
@trust_option
@json_option
def command(runs: tuple[Path, ...], outs: tuple[Path, ...], trust: bool, json: bool, **solvers: Any) -> int:
    """Compare the run directories RUN: unknowns with their errors, scores, AIC and BIC, a column for each run.

    Runs of classifiers are compared by how far they agree: intraclass correlation with its 95 % interval, of a single
    run (ICC1) and of the mean of all (ICC1k), on the whole test set and on what any got wrong.

    With solvers, steps or tolerances one trained network is scored under each of them, with the weights that it has;
    without, as it was trained.
    """
    for out in outs:
        check_file(out, KINDS)
    from physid.api.export import comparison_document
    from physid.api.opening import OpenRun
    from physid.report.comparison import Comparison

    console, opened = Console(json=json), [OpenRun.open(run, trust=trust) for run in runs]
    asked = any(value not in (None, (), False) for value in solvers.values())
    classifiers = not asked and all(one.kind == "training" and one.network is None for one in opened)
    if asked or (classifiers and len(runs) == 1):
        return compare_solvers(console, opened, outs, **solvers)
    if len(runs) < 2:
        raise InputError("one run was given: two or more are needed to compare, or a trained one with --solver NAME.")
    if classifiers:
        return compare_classes(console, opened, outs)
    found = Comparison([one.compared() for one in opened], names_of(runs))
    for out in outs:
        write_out(out, comparison_document(found, out.suffix.lower()))
        console.note(f"{out}: written")
    console.say(str(found))
    console.event("done", status="ok", message=f"{len(runs)} runs", **found.json())
    return 0


def names_of(runs: tuple[Path, ...]) -> list[str]:
    """The folders' names, or their paths where two names are the same."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]
