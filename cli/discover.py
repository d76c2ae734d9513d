"""`physid discover`: the formula of a learned residual, and a model file in which it is known."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option


@click.command(
    epilog="""\b
Examples:
  physid fit threebody --set drag=0.3 --model gravity-residual --out runs/residual
  physid discover runs/residual --promote found.py
  physid fit threebody --set drag=0.3 --model found.py:Found"""
)
@run_argument
@click.option(
    "--promote",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Write a .py file with a model whose class Found has the terms, their coefficients unknown.",
)
@trust_option
@json_option
def command(run: Path, promote: Path | None, trust: bool, json: bool) -> int:
    """Explain the neural part of the fit in the run directory RUN by few terms of a library, by sparse regression.

    What is found is a proposal: --promote writes it as a model of its own, to be fitted to the data without the
    network, which gives the coefficients standard errors.
    """
    check_file(promote, (".py",), "--promote")
    from physid.api.fit import Fit
    from physid.discovery import discover

    console = Console(json=json)
    found = discover(Fit.load(run, trust=trust))
    console.say(str(found))
    if promote is not None:
        write_out(promote, found.source().encode())
        console.note(f"{promote}: written; physid fit EXPERIMENT --model {promote}:Found fits it")
    console.event("done", status="ok", message="; ".join(map(str, found.laws)), file=promote, **found.json())
    return 0
