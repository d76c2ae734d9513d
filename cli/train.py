"""`physid train`: a network of the catalogue is trained by batches, and its run directory written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from physid.cli.console import Console
from physid.cli.files import run_folder
from physid.cli.options import (
    DATA,
    OUTPUT,
    device_option,
    dtype_option,
    experiment_options,
    fit_options,
    json_option,
    network_options,
    out_option,
    quiet_option,
)
from physid.cli.sections import SectionCommand, option

# the options of a fit that a training takes, in its own words where they mean less
OPTIONS = {
    "epochs": "Passes over the data. [default: the network's]",
    "lr": "Learning rate, at its beginning. [default: the network's]",
    "time_limit": "Seconds after which the training ends (exit code 124); physid resume continues.",
    "protocol": "default, or a protocol of a paper by its name. [default: default]",
    "seeds": "Networks from seeds of their own, trained at once; their spread is the band of a forecast.",
    "seed": "Seed of noise, weights and batches. [default: 0]",
    "solver": "A solver of `physid list solvers`, for networks with an ODE in them.",
    "gradient": "aca, naive or adjoint. [default: the network's]",
    "engine": "",
    "rtol": "",
    "atol": "Absolute tolerance of a step. [default: the network's]",
}


@click.command(
    cls=SectionCommand,
    short_help="Train a network of the catalogue on a data set or an experiment.",
    epilog="""\b
Examples:
  physid train images-toy --model node18 --epochs 3 --out runs/stripes
  physid train series --model latent-ode --set table=swings.csv --set observed=0.6
  physid train threebody --model lstm --seeds 3

\b
Ends as physid fit does; physid compare, forecast and resume take the run.""",
)
@click.argument("experiment", metavar="DATA")
@option(
    "--model", section=DATA, metavar="NAME", help="A network of `physid list networks`. [default: the first for DATA]"
)
@experiment_options
@fit_options(OPTIONS, OPTIONS)
@network_options()
@device_option
@dtype_option
@out_option
@option("--dry-run", section=OUTPUT, is_flag=True, help="Print the plan of the training and stop.")
@json_option
@quiet_option
def command(
    experiment: str, model: str | None, out: Path | None, dry_run: bool, json: bool, quiet: bool, **options: Any
) -> int:
    """Train a network on DATA by batches, print the scores and write a run directory.

    DATA is a collection or an experiment of `physid list`. Unknowns of an equation are identified by physid fit, which
    takes the name of a network, too.
    """
    from physid.cli.method import asked_for
    from physid.cli.training import train_command

    asked, options = asked_for({**options, "model": model}, experiment)
    run = run_folder(out, experiment)
    return train_command(Console(json=json, quiet=quiet), experiment, run, asked, {**options, "dry_run": dry_run})
