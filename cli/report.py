"""`physid report`: what a finished run found."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.options import json_option, run_argument, trust_option


@click.command(
    epilog="""\b
Examples:
  physid report runs/threebody
  physid report runs/threebody --json | tail -n 1"""
)
@run_argument
@trust_option
@json_option
def command(run: Path, trust: bool, json: bool) -> int:
    """Print the report of the run directory RUN.

    Value, standard error, 95 % interval, unit and start of every unknown, correlations, scores on training, test and
    forecast. With --json the last line is the one that `physid fit --json` printed.
    """
    from physid.cli.result import done_fields
    from physid.fitting import Fit

    console = Console(json=json)
    fit = Fit.load(run, trust=trust)
    console.say(str(fit.report()))
    console.event("done", **done_fields(fit, run))
    return 0
