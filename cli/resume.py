"""`physid resume`: go on with a fit that was interrupted, ran out of time, or was killed."""

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
Ends as physid fit does.""",
)
@run_argument
@click.option("--time-limit", type=float, default=None, metavar="S", help="Stop after S more seconds (exit code 124).")
@trust_option
@json_option
@quiet_option
def command(run: Path, time_limit: float | None, trust: bool, json: bool, quiet: bool) -> int:
    """Go on with the fit in the run directory RUN from its last checkpoint, and finish it there.

    A fit that was interrupted, that ran out of time, whose process was killed or whose disk was full reaches the
    optimum that it would have reached. One without a checkpoint starts anew, and says so. One that has converged is
    reported again.
    """
    from physid.api.fit import Fit
    from physid.api.train import Trained
    from physid.cli.result import done_fields
    from physid.runs.trainings import is_training
    from physid.runs.writer import StartsAnew

    console = Console(json=json, quiet=quiet)
    with console.progress(f"resume {run}") as progress, warnings.catch_warnings():
        warnings.filterwarnings("always", category=StartsAnew)
        show = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, StartsAnew):
                show(message, category, *where, **more)
                return
            click.echo(f"physid: {visible(str(message))}", err=True)
            console.event("note", message=str(message))

        warnings.showwarning = tell
        if is_training(run):
            from physid.cli.training import conclude

            return conclude(console, Trained.resume(run, progress=progress, time_limit=time_limit), run)
        fit = Fit.resume(run, trust=trust, progress=progress, time_limit=time_limit)
    console.say(str(fit.report()))
    console.event("done", **done_fields(fit, run))
    return fit.exit_code
