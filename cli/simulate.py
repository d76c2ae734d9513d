"""`physid simulate`: an experiment's trajectory as a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import DATA, OUTPUT, experiment_argument, experiment_options, json_option, seed_option
from physid.cli.sections import SectionCommand, option

if TYPE_CHECKING:
    from physid.data.experiment import Experiment, Trajectory

PARTS = ("train", "test")


@click.command(
    cls=SectionCommand,
    epilog="""\b
Examples:
  physid simulate threebody > threebody.csv
  physid simulate threebody --noise 0.01 --out noisy.npz
  physid simulate solarsystem --set window=2000-2010 --part test --out later.csv""",
)
@experiment_argument
@experiment_options
@seed_option
@option("--part", section=DATA, type=click.Choice(PARTS), default="train", show_default=True, help="What to write.")
@option(
    "--out", section=OUTPUT, type=click.Path(path_type=Path), default=None, metavar="FILE", help="A .csv or .npz file."
)
@json_option
def command(experiment: str, seed: int, part: str, out: Path | None, json: bool, **options: Any) -> int:
    """Write the trajectory of EXPERIMENT as CSV on stdout, or to --out as CSV or NPZ.

    A column is the time or one observed channel, with its unit in brackets; an empty cell was not measured.
    The NPZ file holds times [T], observations [T, ...], mask [T, ...] and the names of the channels.
    """
    if json and out is None:
        raise click.UsageError("--json needs --out FILE, as the table itself would go to stdout.")
    if out is not None:
        check_file(out, (".csv", ".npz"))
    from physid.cli.choose import load_experiment

    console = Console(json=json)
    data = load_experiment(experiment, options, seed=seed)
    trajectory = data.train if part == "train" else data.test
    if trajectory is None:
        raise click.UsageError(f"experiment {experiment} has no {part} part; --part train is there.")
    kind = _csv if out is None or out.suffix.lower() == ".csv" else _npz
    write_out(out, kind(data, trajectory))
    if out is None:
        return 0
    rows = len(trajectory.times)
    console.say(f"{out}: {rows} rows, {len(data.channels)} channels, {data.source}")
    console.event(
        "done", status="ok", message=f"wrote {rows} rows", experiment=data.name, part=part, out=out, rows=rows
    )
    return 0


def _csv(data: Experiment, trajectory: Trajectory) -> Callable[[IO[bytes]], object]:
    """What writes `trajectory` as CSV: seventeen digits, so that reading it back gives the same numbers."""
    import numpy as np
    import pandas as pd

    unit = f" [{data.unit}]" if data.unit else ""
    time = f"t [{data.time_unit}]" if data.time_unit else "t"
    times = trajectory.times.numpy()
    values = np.where(trajectory.mask, trajectory.observations, np.nan).reshape(len(times), -1)
    frame = pd.DataFrame(values, columns=[f"{name}{unit}" for name in data.channels])
    frame.insert(0, time, times)
    return lambda file: frame.to_csv(file, index=False, float_format="%.17g")


def _npz(data: Experiment, trajectory: Trajectory) -> Callable[[IO[bytes]], object]:
    import numpy as np

    times, observations, mask = (x.numpy() for x in (trajectory.times, trajectory.observations, trajectory.mask))
    channels = np.array(data.channels)
    return lambda file: np.savez_compressed(file, times=times, observations=observations, mask=mask, channels=channels)
