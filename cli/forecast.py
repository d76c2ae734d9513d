"""`physid forecast`: where the identified model goes beyond its data."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option


@click.command(
    short_help="Forecast with the model of a run, with its 95 % band.",
    epilog="""\b
Examples:
  physid forecast runs/threebody --until 3
  physid forecast runs/threebody --until 3 --points 301 --out forecast.csv""",
)
@run_argument
@click.option(
    "--until", type=float, default=None, metavar="T", help="End of the forecast; default: the end of the data."
)
@click.option("--points", type=click.IntRange(2), default=101, show_default=True, metavar="N", help="Times to give.")
@click.option("--out", type=click.Path(path_type=Path), default=None, metavar="FILE", help="A .csv file; else stdout.")
@trust_option
@json_option
def command(run: Path, until: float | None, points: int, out: Path | None, trust: bool, json: bool) -> int:
    """Forecast with the model of the run directory RUN, from the start of its data up to --until.

    A row is a time; of every observed channel there are three columns: the mean and the ends of the 95 % band that the
    uncertainty of the unknowns makes.
    """
    if json and out is None:
        raise click.UsageError("--json needs --out FILE, as the table itself would go to stdout.")
    if out is not None:
        check_file(out, (".csv",))
    import numpy as np

    from physid.errors import Diverged, InputError
    from physid.fitting import Fit

    fit = Fit.load(run, trust=trust)
    data = fit.experiment
    start, last = data.initial_time, data.test or data.train
    end = float(last.times[-1]) if until is None else until
    if not end > start:
        raise InputError(f"--until {end} is not after the start of the data, {start}. Give a later time.")
    forecast = fit.forecast(np.linspace(start, end, points))

    if forecast.message:
        raise Diverged(f"the forecast stopped: {forecast.message} Choose an earlier --until.")
    frame = forecast.frame()
    write_out(out, lambda file: frame.to_csv(file, index=False, float_format="%.17g"))
    if out is None:
        return 0
    console = Console(json=json)
    console.say(f"{out}: {points} times up to {end:g} {data.time_unit}")
    console.event("done", status="ok", message=f"wrote {points} rows", run=run, out=out, until=end, rows=points)
    return 0
