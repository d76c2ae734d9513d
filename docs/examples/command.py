"""A command: a file cli/NAME.py with `command`, and a line in GROUPS of cli/app.py; here it joins a program's own."""

from pathlib import Path

import click

from physid.cli import main
from physid.cli.app import group
from physid.cli.console import Console
from physid.cli.options import json_option, run_argument, trust_option


@click.command(epilog="\b\nExamples:\n  physid cost runs/threebody")
@run_argument
@trust_option
@json_option
def command(run: Path, trust: bool, json: bool) -> int:
    """Say what the fit in the run directory RUN cost."""
    from physid.api.opening import OpenRun  # here, so that --help loads none of it

    console, fit = Console(json=json), OpenRun(run, trust).fit
    console.say(f"{fit.evaluations} evaluations in {fit.seconds:.1f} s")
    console.event("done", status="ok", message="told", evaluations=fit.evaluations, seconds=fit.seconds)
    return 0


if __name__ == "__main__":
    group.add_command(command, "cost")
    main(["cost", "--help"])
    main(["--help"])
