"""`physid reproduce`: a table or figure of the paper, computed."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.options import json_option, quiet_option

EPILOG = """\b
Examples:
  physid reproduce --list
  physid reproduce fig6 --quick
  physid reproduce table5 --out runs/table5 --time-limit 3600
  physid reproduce table5 --out runs/table5 --only 'ode-*'

\b
Writes NAME.csv, NAME.md, NAME.json and NAME.png. Ctrl-C and the time limit keep
what is finished, and the same command continues. Ends with 0 done,
2 bad input, 5 something of the machine is missing, 124 time limit, 130 Ctrl-C.
"""


@click.command(epilog=EPILOG)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--list", "listing", is_flag=True, help="List the exhibits and stop.")
@click.option("--quick", is_flag=True, help="A few minutes on two cores; says what it leaves out.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder, new or of the same exhibit. [default: reproduced/NAME]",
)
@click.option("--only", metavar="PATTERN", help="Cells to compute now, by keys as 'ode-*'.")
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), metavar="S", help="Stop after S seconds.")
@json_option
@quiet_option
def command(
    name: str | None,
    listing: bool,
    quick: bool,
    out: Path | None,
    only: str | None,
    time_limit: float | None,
    json: bool,
    quiet: bool,
) -> int:
    """Compute the table or figure NAME of the paper, with the paper's numbers beside ours.

    Every finished part is kept in the folder, so that the same command continues after an interruption; a folder of
    another exhibit is refused.
    """
    from physid.cli.result import show
    from physid.reproduce import EXHIBITS, exhibit, reproduce

    console = Console(json=json, quiet=quiet)
    if listing:
        rows = [(each, exhibit(each).title) for each in EXHIBITS]
        console.table("", ("name", "what"), rows)
        console.event("done", status="ok", message=f"{len(rows)} exhibits", exhibits=dict(rows))
        return 0
    if name is None:
        raise click.UsageError(f"no exhibit was named. Allowed: {', '.join(EXHIBITS)}.")
    chosen = exhibit(name)
    if quick:
        console.note(f"quick: {chosen.left_out}")
    with console.progress(f"reproduce {name}") as progress:
        found = reproduce(chosen, out, quick=quick, only=only, progress=progress, time_limit=time_limit)
    return show(console, found, found.folder, ended=True)
