"""`physid profile`: how the fit worsens when an unknown is held elsewhere, and the interval that follows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from physid.cli.console import Console, Row
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option

if TYPE_CHECKING:
    from physid.api.fit import Fit


@click.command(
    epilog="""\b
Examples:
  physid profile runs/lynx
  physid profile runs/lynx --unknown alpha --out profile.png"""
)
@run_argument
@click.option(
    "--unknown",
    "unknowns",
    multiple=True,
    metavar="NAME",
    help="An unknown, as in mass[0]; may be repeated. [default: all]",
)
@click.option("--jobs", type=int, default=1, show_default=True, metavar="N", help="Processes; -1 for all cores.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, metavar="FILE", help="A .csv, .json, .png or .svg file."
)
@trust_option
@json_option
def command(run: Path, unknowns: tuple[str, ...], jobs: int, out: Path | None, trust: bool, json: bool) -> int:
    """Hold an unknown of the run directory RUN at other values, refit all others, and see where the fit gets worse.

    The 95 % interval that follows is right for lopsided and for flat objectives too; a side without an end is one that
    the data do not bound. The profiles are kept in the run. One that meets a better optimum adopts it, and says so.
    """
    check_file(out, (".csv", ".json", ".png", ".svg"))
    if jobs == 0:
        raise click.UsageError("--jobs 0 does no work. Give 1 or more, or -1.")
    from physid.api.export import profiles_document
    from physid.api.fit import Fit
    from physid.runs.fits import replace

    console = Console(json=json)
    before = Fit.load(run, trust=trust)
    with console.progress(f"profile {run}"):
        fit, profiles = before.profile(*unknowns, jobs=jobs)
    fit = merge(fit, before)
    replace(fit, run)
    better = {a.name: (b.value, a.value) for a, b in zip(fit.estimates, before.estimates, strict=True)}
    adopted = fit.x.tolist() != before.x.tolist()
    if adopted:
        moves = ", ".join(f"{name} {old:.6g} -> {new:.6g}" for name, (old, new) in better.items())
        console.say(f"A profile met a better optimum, which is now that of the run: {moves}.")
    linear = {one.name: one for one in fit.estimates}
    rows: list[Row] = [
        (one.name, one.estimate, ends(one.low, one.high), ends(linear[one.name].low, linear[one.name].high), one.unit)
        for one in profiles
    ]
    console.table("", ("unknown", "estimate", "95 % by profile", "95 % linearised", "unit"), rows)
    if out is not None:
        write_out(out, profiles_document(fit, out.suffix.lower()))
        console.note(f"{out}: written")
    found = {one.name: {"estimate": one.estimate, "low": one.low, "high": one.high} for one in profiles}
    console.event("done", status="ok", message=f"{len(found)} profiles", run=run, adopted=adopted, profiles=found)
    return 0


def merge(fit: Fit, before: Fit) -> Fit:
    """The fit with its new profiles, and those made before if they are of the same optimum."""
    from dataclasses import replace

    if fit.x.tolist() != before.x.tolist():
        return fit
    new = {one.name for one in fit.profiles}
    return replace(fit, profiles=[*(one for one in before.profiles if one.name not in new), *fit.profiles])


def ends(low: float | None, high: float | None) -> str:
    """An interval, with `open` on a side that has no end."""
    return f"[{'open' if low is None else f'{low:.6g}'}, {'open' if high is None else f'{high:.6g}'}]"
