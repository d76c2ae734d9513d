"""`physid report`: what a finished run found."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option
from physid.errors import InputError


@click.command(
    epilog="""\b
Examples:
  physid report runs/threebody
  physid report runs/threebody --html report.html
  physid report runs/threebody --json | tail -n 1"""
)
@run_argument
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write one page with figures, a .html file."
)
@click.option("--tex", type=click.Path(path_type=Path), metavar="FILE", help="Write a LaTeX table, a .tex file.")
@click.option("--theme", default="light", show_default=True, metavar="NAME", help="light or dark, of the page.")
@trust_option
@json_option
def command(run: Path, html: Path | None, tex: Path | None, theme: str, trust: bool, json: bool) -> int:
    """Print the report of the run directory RUN.

    Value, standard error, 95 % interval, unit and start of every unknown, correlations, scores on training, test and
    forecast. With --json the last line is the one that `physid fit --json` printed. Of a model in a file of yours the
    report that the fit wrote is printed; --json, --html and --tex import the file, and so need --trust.
    """
    for path, suffix in ((html, ".html"), (tex, ".tex")):
        if path is not None:
            check_file(path, (suffix,))
    from physid.api.fit import Fit
    from physid.cli.result import done_fields
    from physid.runs.trainings import is_training

    console = Console(json=json)
    if is_training(run):
        return _training(console, run, [option for option, path in (("--html", html), ("--tex", tex)) if path])
    if not (trust or json or html or tex) and (kept := _kept(run)):
        console.say(kept)
        return 0
    fit = Fit.load(run, trust=trust)
    if html is not None:
        from physid.plots.page import page

        text = page(fit, theme).encode()
        write_out(html, lambda file: file.write(text))
        console.note(f"{html}: written")
    if tex is not None:
        table = fit.report().latex().encode()
        write_out(tex, lambda file: file.write(table))
        console.note(f"{tex}: written")
    console.say(str(fit.report()))
    console.event("done", **done_fields(fit, run))
    return 0


def _kept(run: Path) -> str:
    """The report as the fit wrote it, of a run whose model is in a file of someone's; empty for others."""
    from physid.formats import Folder

    folder = Folder(run)
    about = folder.json("settings.json")
    settings = about.get("settings") if isinstance(about, dict) else None
    if not isinstance(settings, dict) or settings.get("model_file") is None:
        return ""
    return folder.read("report.txt").decode(errors="replace").rstrip("\n")


def _training(console: Console, run: Path, given: list[str]) -> int:
    """The report of a training."""
    from physid.api.train import Trained

    if given:
        raise InputError(f"{given[0]} is for runs with unknowns, and {run} is a training. Leave it out.")
    trained = Trained.load(run)
    console.say(str(trained))
    console.event("done", run=run, **trained.json())
    return 0
