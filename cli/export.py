"""`physid export`: a run in a format of physid's or of an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option


@click.command(
    epilog="""\b
Examples:
  physid export runs/threebody --to latex
  physid export runs/threebody --to html --out report.html
  physid export runs/threebody --to forecast --out forecast.csv"""
)
@run_argument
@click.option("--to", "name", metavar="FORMAT", required=True, help="One of `physid list exporters`.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="The file. [default: stdout]")
@trust_option
@json_option
def command(run: Path, name: str, out: Path | None, trust: bool, json: bool) -> int:
    """Write the run directory RUN in a FORMAT, to --out or on stdout.

    Formats: estimates, forecast, history and profiles (CSV), html, json, latex, png, svg, text, and those of installed
    packages; `physid list exporters` says what each holds. `--to csv` is that of the estimates. A file is written in
    one step.
    """
    if json and out is None:
        raise click.UsageError("--json needs --out FILE, as the file itself would go to stdout.")
    from physid.api.export import EXPORTERS, export
    from physid.api.opening import OpenRun
    from physid.errors import InputError

    exporter = EXPORTERS.lookup(name)
    if out is not None:
        check_file(out, (exporter.suffix,))
    elif exporter.binary and sys.stdout.isatty():
        raise InputError(
            f"--to {name} is no text, which a terminal could show. Name a file, --out FILE{exporter.suffix}."
        )
    data = export(OpenRun.open(run, trust=trust), exporter)
    write_out(out, data)
    if out is None:
        return 0
    console = Console(json=json)
    console.say(f"{out}: {exporter.name} of {run}")
    console.event("done", status="ok", message=f"wrote {exporter.name}", run=run, out=out, bytes=len(data))
    return 0
