"""`physid fit`: the main job, from an experiment to identified unknowns and a run directory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console
from physid.cli.files import check_run_folder
from physid.cli.options import (
    METHOD,
    OUTPUT,
    atol_option,
    experiment_argument,
    experiment_options,
    gradient_option,
    json_option,
    knowledge_option,
    model_option,
    quiet_option,
    rtol_option,
    seed_option,
    solver_option,
)
from physid.cli.sections import SectionCommand, option

if TYPE_CHECKING:
    from physid.experiment import Experiment
    from physid.spec import Model

EPILOG = """\b
Examples:
  physid fit threebody --knowledge full
  physid fit threebody --protocol paper-code --gradient adjoint
  physid fit threebody --random-masses 3 --noise 0.01 --out runs/noisy
  physid fit threebody --model drag.py:DragGravity
  physid fit solarsystem --bodies sun,jupiter,saturn --window 1970-2000
  physid fit cooling.py:coffee --model cooling.py:Cooling

\b
Ends with 0 converged, 2 bad input, 3 not converged, 4 diverged, 5 something
of the machine is missing, 124 time limit, 130 Ctrl-C, 143 SIGTERM; an
interrupted fit leaves a run directory that can be used.
"""


@click.command(cls=SectionCommand, epilog=EPILOG)
@experiment_argument
@knowledge_option
@model_option
@experiment_options
@seed_option
@option("--optimizer", section=METHOD, metavar="NAME", help="lm, adam or lbfgs. [default: lm; adam as in the paper]")
@option("--strategy", section=METHOD, metavar="NAME", default="auto", show_default=True, help="auto, full, segments.")
@option(
    "--protocol",
    section=METHOD,
    metavar="NAME",
    default="default",
    show_default=True,
    help="default, paper-text or paper-code: the settings of the paper, as its text or its code has them.",
)
@option("--epochs", section=METHOD, type=click.IntRange(1), metavar="N", help="Epochs of adam, iterations of lbfgs.")
@option("--time-limit", section=METHOD, type=float, metavar="S", help="Stop after S seconds (exit code 124).")
@solver_option
@gradient_option
@rtol_option
@atol_option
@option("--device", section="Solver", metavar="D", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@option("--dtype", section="Solver", metavar="T", default="float64", show_default=True, help="float64 or float32.")
@option(
    "--out",
    section=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run directory. [default: runs/EXPERIMENT-TIME]",
)
@option("--dry-run", section=OUTPUT, is_flag=True, help="Say what would be fitted, and how, and stop.")
@json_option
@quiet_option
def command(
    experiment: str,
    knowledge: str | None,
    model: str | None,
    out: Path | None,
    dry_run: bool,
    json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Identify the unknowns of EXPERIMENT, print the report and write a run directory.

    EXPERIMENT is a name from `physid list`, or FILE.py:NAME of a function of yours that returns a physid.Experiment.
    The physics is a level of --knowledge about a system of the catalogue, or a --model.
    """
    if knowledge is not None and model is not None:
        raise click.UsageError("--knowledge and --model contradict each other. Give one of them.")
    run = check_run_folder(out or default_folder(experiment))
    from physid.cli.choose import build_model, load_experiment
    from physid.cli.method import Method
    from physid.cli.result import done_fields
    from physid.fitting import fit

    console = Console(json=json, quiet=quiet)
    method = Method.of(options)
    data = load_experiment(experiment, options)
    system = build_model(data, knowledge, model)
    if dry_run:
        tell_plan(console, data, system, method, run)
        return 0
    with console.progress(f"fit {data.name}") as progress:
        result = fit(system, data, out=run, progress=progress, **method.arguments())
    console.say(str(result.report()))
    console.note(f"run directory: {run}")
    console.event("done", **done_fields(result, run))
    return result.exit_code


def default_folder(experiment: str) -> Path:
    """runs/EXPERIMENT-TIME, with the time in UTC to the second."""
    name = Path(experiment.split(":")[0]).stem
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
