"""`physid fit`: the main job, from an experiment to identified unknowns and a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console, Row
from physid.cli.files import run_folder
from physid.cli.measured import brief_column_options
from physid.cli.options import (
    DATA,
    OUTPUT,
    data_options,
    device_option,
    dtype_option,
    experiment_options,
    fit_options,
    json_option,
    knowledge_option,
    model_option,
    network_options,
    out_option,
    quiet_option,
)
from physid.cli.sections import SectionCommand, option
from physid.cli.spelling import note_old_spellings

if TYPE_CHECKING:
    from physid.data.experiment import Experiment
    from physid.inference.fit_options import FitOptions
    from physid.modelling.model import Model

EPILOG = """\b
Examples: physid fit --data swing.csv --model swing.py:Swing
          physid fit solarsystem --set bodies=sun,jupiter --set window=1970:2000
Exit codes: physid --help. Networks, as lstm: physid train --help.
"""


@click.command(cls=SectionCommand, epilog=EPILOG)
@click.argument("experiment", metavar="[EXPERIMENT]", required=False)
@knowledge_option
@model_option
@experiment_options
@option(
    "--data",
    section=DATA,
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A CSV, Parquet, NPZ or MAT file of yours; may be repeated.",
)
@brief_column_options
@option("--sigma", section=DATA, type=float, metavar="X", help="Standard deviation of the noise, if it is known.")
@fit_options()
@network_options(hidden=True)
@device_option
@dtype_option
@out_option
@option(
    "--print-settings",
    section=OUTPUT,
    is_flag=True,
    help="Print a settings file and stop; --print-schema: its schema.",
)
@option("--print-schema", section=OUTPUT, is_flag=True, hidden=True)
@option("--dry-run", section=OUTPUT, is_flag=True, help="Print the plan of the fit and stop.")
@json_option
@quiet_option
def command(
    experiment: str | None,
    knowledge: str | None,
    model: str | None,
    data: tuple[Path, ...],
    out: Path | None,
    dry_run: bool,
    print_settings: bool,
    print_schema: bool,
    json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Identify the unknowns of EXPERIMENT, print the report and write a run directory.

    EXPERIMENT is a name of `physid list`, or FILE.py:NAME of yours; --data are measurements of your own. The physics is
    a --model, or --knowledge of a system.
    """
    if print_schema:
        from physid.settings import schema

        click.echo(dumps(schema(), indent=2))
        return 0
    from physid.api.fit import fit
    from physid.cli.choose import build_model, choose_experiments
    from physid.cli.method import asked_for, place, unheeded
    from physid.cli.result import show
    from physid.cli.training import is_trained, refuse_network_options, train_command
    from physid.inference.assemble import prepare, suited
    from physid.inference.options import resolve
    from physid.modelling.address import contained
    from physid.modelling.modules import trained

    console = Console(json=json, quiet=quiet)
    typed = {**options, "model": model, "data": [str(path) for path in data]}
    note_old_spellings({"holdout": options["holdout"]})
    asked, options = asked_for(typed, experiment)
    model, data = options["model"], tuple(map(Path, options["data"]))
    options |= {"knowledge": knowledge, "dry_run": dry_run, "seed": asked.seed, "protocol": asked.protocol or "default"}
    if knowledge is not None and model is not None:
        raise click.UsageError("--knowledge and --model contradict each other. Give one of them.")
    run = run_folder(out, experiment or (data[0].name if data else ""))
    if is_trained(experiment, model):
        return train_command(console, experiment, run, asked, options)
    refuse_network_options(options)
    resolve(asked)
    if print_settings:
        from physid import settings

        click.echo(
            settings.template() + settings.dump({**{name: options[name] for name in settings.SUBJECT}, **asked.said()}),
            nl=False,
        )
        return 0
    chosen = choose_experiments(experiment, data, model, data_options(options), options)
    system = build_model(chosen[0], knowledge, model)
    place(system, options["device"], options["dtype"] or "float64")
    if asked.rtol is not None or asked.atol is not None:
        with contained():
            plan = resolve(suited(asked, system, chosen[0]))
        if said := unheeded(asked, plan.integrator):
            console.note(said)
    if dry_run:
        prepare(system, asked)
        tell_plan(console, chosen, system, asked, run)
        return 0
    if trained(system):
        console.note(f"trained beside the unknowns: {trained(system)}")
    labels = {"knowledge": None if model else knowledge or "full"}
    with console.progress(f"fit {', '.join(one.name for one in chosen)}") as progress:
        result = fit(system, chosen, options=asked, out=run, progress=progress, labels=labels)
    if result.paper is not None:
        console.event("paper", **result.paper)
    return show(console, result, run, ended=True)


def tell_plan(console: Console, chosen: Sequence[Experiment], system: Model, asked: FitOptions, run: Path) -> None:
    """Print the plan of the fit."""
    from physid.inference.assemble import agree, noise_model, suited
    from physid.inference.options import resolve
    from physid.modelling.modules import ready, trained

    ready(system)
    agree(system, chosen)
    data = chosen[0]
    settings = resolve(suited(asked, system, data)).settings()
    train = data.train
    rows: list[Row] = [
        *(("experiment", f"{one.name}, {one.source}") for one in chosen),
        ("data", f"{len(train)} times on [{float(train.times[0]):g}, {float(train.times[-1]):g}] {data.time_unit}"),
        ("observed", f"{', '.join(data.channels)} {data.unit}".strip()),
        ("model", type(system).__name__),
        ("noise", noise_model(system, chosen, resolve(asked)) or "by units and sizes of the channels"),
        *([("trained", trained(system))] if trained(system) else []),
        ("free initial values", int(data.initial_free.sum())),
        *((name, value) for name, value in settings.items() if value is not None),
        ("run directory", run),
    ]
    free, values = system.free(), system.values()
    unknowns: list[Row] = [
        (name, values[name].tolist(), str(unknown.domain), unknown.unit, name not in free)
        for name, unknown in system.unknowns.items()
        if unknown.listed or name in type(system).unknowns
    ]
    console.table("plan", ("what", "value"), rows)
    console.say()
    console.table("unknowns", ("name", "start", "domain", "unit", "fixed"), unknowns)
    starts = {str(row[0]): row[1] for row in unknowns}
    console.event(
        "done",
        status="dry run",
        message="nothing was fitted",
        experiment=", ".join(one.name for one in chosen),
        run=run,
        unknowns=starts,
        **settings,
    )
