"""`physid simulate`: the trajectory of an experiment, or of a fitted model, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import DATA, OUTPUT, experiment_options, json_option, seed_option
from physid.cli.sections import SectionCommand, option
from physid.cli.typed import number, pairs

if TYPE_CHECKING:
    from physid.api.fit import Fit
    from physid.data.experiment import Experiment, Trajectory
    from physid.data.inputs import Inputs

PARTS = ("train", "test")
OF_RUN = "A run"


@click.command(
    cls=SectionCommand,
    epilog="""\b
Examples:
  physid simulate threebody > threebody.csv
  physid simulate threebody --add-noise 0.01 --out noisy.npz
  physid simulate solarsystem --set window=2000:2010 --part test --out later.csv
  physid simulate runs/spring --set x=1 --set force=0.5 --until 30""",
)
@click.argument("experiment", metavar="EXPERIMENT|RUN")
@experiment_options
@seed_option
@option("--part", section=DATA, type=click.Choice(PARTS), default="train", show_default=True, help="Part to write.")
@option("--until", section=OF_RUN, type=float, metavar="T", help="End time. [default: that of the part]")
@option(
    "--experiment", "whose", section=OF_RUN, metavar="NAME", help="Experiment of a fit of several. [default: the first]"
)
@option("--trust", section=OF_RUN, is_flag=True, help="Import the model file that the run names, and so run its code.")
@option(
    "--out", section=OUTPUT, type=click.Path(path_type=Path), default=None, metavar="FILE", help="A .csv or .npz file."
)
@json_option
def command(
    experiment: str,
    seed: int,
    part: str,
    until: float | None,
    whose: str | None,
    trust: bool,
    out: Path | None,
    json: bool,
    **options: Any,
) -> int:
    """Write the trajectory of EXPERIMENT or of the run directory RUN, as CSV on stdout, or to --out as CSV or NPZ.

    Of a run the model is solved at its identified unknowns, at the times of its data, or at --points up to --until.
    There --set NAME=VALUE gives another value to an input (a number, or a file with a column of that name), to an
    element of the initial state (as x, or initial[0]), or to an unknown.

    A column is the time or one observed channel, with its unit in brackets; an empty cell was not measured.
    The NPZ file holds times [T], observations [T, ...], mask [T, ...] and the names of the channels.
    """
    if json and out is None:
        raise click.UsageError("--json needs --out FILE, as the table itself would go to stdout.")
    check_file(out, (".csv", ".npz"))
    from physid.cli.choose import load_experiment
    from physid.data.catalogue import CATALOG
    from physid.errors import InputError

    console = Console(json=json)
    trajectory: Trajectory | None
    if experiment not in CATALOG and Path(experiment).is_dir():
        data, trajectory = _of_run(Path(experiment), options, part, until, whose, trust, seed)
        source = f"simulated by {experiment}"
    else:
        for name, value in (("--until", until), ("--experiment", whose)):
            if value is not None:
                raise InputError(f"{name} is for runs, and {experiment} is an experiment. Leave it out.")
        data = load_experiment(experiment, options, seed=seed)
        trajectory, source = data.train if part == "train" else data.test, data.source
    if trajectory is None:
        raise click.UsageError(f"experiment {data.name} has no {part} part; --part train is there.")
    kind = _csv if out is None or out.suffix.lower() == ".csv" else _npz
    write_out(out, kind(data, trajectory))
    if out is None:
        return 0
    rows = len(trajectory.times)
    console.say(f"{out}: {rows} rows, {len(data.channels)} channels, {source}")
    console.event(
        "done", status="ok", message=f"wrote {rows} rows", experiment=data.name, part=part, out=out, rows=rows
    )
    return 0


def _of_run(
    run: Path, options: Mapping[str, Any], part: str, until: float | None, whose: str | None, trust: bool, seed: int
) -> tuple[Experiment, Trajectory | None]:
    """The experiment of a run, and its trajectory as the fitted model has it, with what was asked for changed."""
    from physid.api.fit import Fit
    from physid.cli.choose import given_options
    from physid.errors import InputError
    from physid.predict.simulation import noisy, simulate_fit

    fit = Fit.load(run, trust=trust)
    fit = fit if whose is None else fit.of(whose)
    given = given_options(options)
    points, noise = given.pop("points", None), given.pop("noise", None)
    given |= pairs("initial", given.pop("initial")) if "initial" in given else {}
    data = fit.experiment
    measured = data.train if part == "train" else data.test
    if measured is None:
        return data, None
    if until is None and points is None:
        times = measured.times.numpy()
    else:
        count = 101 if points is None else number("points", points)
        if count != int(count) or count < 2:
            raise InputError(f"--points {points}: expected a whole number from 2 up.")
        times = fit.times(float(measured.times[-1]) if until is None else until, int(count))
    changes = {name: _value(fit, name, text) for name, text in given.items()}
    found = simulate_fit(fit, times, changes)
    return data, found if noise is None else noisy(found, number("add-noise", noise), seed)


def _value(fit: Fit, name: str, text: str) -> float | Inputs:
    """A number, or the samples of an input in a file, which are joined as the measured ones were."""
    from physid.data.inputs import Inputs
    from physid.reading.roles import ReadOptions
    from physid.reading.runs import source

    record = fit.experiment.inputs
    if record is None or name not in record.names or not Path(text).is_file():
        return number("set", f"{name}={text}")
    read = source(Path(text), ReadOptions(channels=[name], inputs=[], model=fit.model)).runs[0]
    return Inputs.through(read.times, read.channels, (name,), record.kinds[record.names.index(name)])


def _csv(data: Experiment, trajectory: Trajectory) -> bytes:
    """The table of a trajectory as CSV; reading it back gives the same numbers."""
    import numpy as np

    from physid.formats import table_bytes

    units = data.channel_units or [data.unit] * len(data.channels)
    heads = [("t", data.time_unit), *zip(data.channels, units, strict=True)]
    times = trajectory.times.numpy()
    values = np.where(trajectory.mask, trajectory.observations, np.nan).reshape(len(times), -1)
    rows = np.column_stack([times, values]).tolist()
    return table_bytes([f"{name} [{unit}]" if unit else name for name, unit in heads], rows)


def _npz(data: Experiment, trajectory: Trajectory) -> bytes:
    import numpy as np

    file = BytesIO()
    times, observations, mask = (x.numpy() for x in (trajectory.times, trajectory.observations, trajectory.mask))
    np.savez_compressed(file, times=times, observations=observations, mask=mask, channels=np.array(data.channels))
    return file.getvalue()
