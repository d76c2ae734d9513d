"""`physid report`: the report of a finished run."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option


@click.command(
    epilog="""\b
Examples:
  physid report runs/threebody
  physid report runs/threebody --html report.html
  physid report runs/threebody --json | tail -n 1"""
)
@run_argument
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="As physid export --to html --out FILE.")
@click.option("--tex", type=click.Path(path_type=Path), metavar="FILE", help="As physid export --to latex --out FILE.")
@click.option("--theme", default="light", show_default=True, metavar="NAME", help="Theme of the page: light or dark.")
@trust_option
@json_option
def command(run: Path, html: Path | None, tex: Path | None, theme: str, trust: bool, json: bool) -> int:
    """Print the report of the run directory RUN: of a fit, a training, or an exhibit of physid reproduce.

    Of a fit: value, standard error, 95 % interval, unit and start of every unknown, correlations, scores on training,
    test and forecast. With --json the last line is the one that `physid fit --json` printed. Of a model in a file of
    yours the report that the fit wrote is printed; --json, --html and --tex import the file, and so need --trust.
    """
    check_file(html, (".html",), "--html")
    check_file(tex, (".tex",), "--tex")
    from physid.api.export import EXPORTERS, export
    from physid.api.opening import OpenRun
    from physid.cli.result import show

    console, opened = Console(json=json), OpenRun.open(run, trust=trust)
    if opened.kind == "fit" and not (trust or json or html or tex) and (written := _written(run)):
        console.say(written)
        return 0
    for out, name, how in ((html, "html", {"theme": theme}), (tex, "latex", {})):
        if out is not None:
            write_out(out, export(opened, EXPORTERS[name], **how))
            console.note(f"{out}: written")
    show(console, opened.found, run)
    return 0


def _written(run: Path) -> str:
    """The report as the fit wrote it, of a run whose model is in a file of the user's; empty for others."""
    from physid.formats import Folder

    folder = Folder(run)
    about = folder.json("settings.json")
    settings = about.get("settings") if isinstance(about, dict) else None
    if not isinstance(settings, dict) or settings.get("model_file") is None:
        return ""
    return folder.read("report.txt").decode(errors="replace").rstrip("\n")
