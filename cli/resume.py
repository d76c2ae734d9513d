"""`physid resume`: continues a run that was interrupted, ran out of time, or was killed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from physid.cli.console import Console
from physid.cli.options import json_option, quiet_option, run_argument, trust_option
from physid.errors import visible


@click.command(
    epilog="""\b
Examples:
  physid resume runs/threebody
  physid resume runs/threebody --time-limit 600

\b
Ends as physid fit does."""
)
@run_argument
@click.option("--time-limit", type=float, default=None, metavar="S", help="Stop after S more seconds (exit code 124).")
@trust_option
@json_option
@quiet_option
def command(run: Path, time_limit: float | None, trust: bool, json: bool, quiet: bool) -> int:
    """Continue the fit, training or exhibit in the run directory RUN from its last checkpoint, and finish it there.

    A fit that was interrupted, that ran out of time, whose process was killed or whose disk was full reaches the
    optimum that it would have reached. One without a checkpoint starts anew, and says so. One that has converged is
    reported again. Of an exhibit of physid reproduce the cells that are missing are computed.
    """
    from physid.api.opening import OpenRun
    from physid.cli.result import show
    from physid.runs.writer import StartsAnew

    console, opened = Console(json=json, quiet=quiet), OpenRun.open(run, trust=trust)
    with console.progress(f"resume {run}") as progress, warnings.catch_warnings():
        warnings.filterwarnings("always", category=StartsAnew)
        show_warning = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, StartsAnew):
                show_warning(message, category, *where, **more)
                return
            click.echo(f"physid: {visible(str(message))}", err=True)
            console.event("note", message=str(message))

        warnings.showwarning = tell
        found = opened.resume(progress, time_limit)
    return show(console, found, run, ended=True)
