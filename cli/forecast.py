"""`physid forecast`: where the identified model goes beyond its data."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option

if TYPE_CHECKING:
    from physid.predict.forecast import Forecast
    from physid.predict.networks import Run


POINTS = 101


@click.command(
    short_help="Forecast with the model of a run, with 95 % bands.",
    epilog="""\b
Examples:
  physid forecast runs/threebody --until 3
  physid forecast runs/threebody --until 3 --points 301 --out forecast.csv
  physid forecast runs/threebody --until 3 --draws 400 --out forecast.json --out forecast.png
  physid forecast runs/hopper --series 0,1 --seen 0.25 --out hopper.png""",
)
@run_argument
@click.option(
    "--until", type=float, default=None, metavar="T", help="End of the forecast; default: the end of the data."
)
@click.option("--points", type=click.IntRange(2), default=POINTS, show_default=True, metavar="N", help="Times to give.")
@click.option(
    "--draws",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Sample the bands by N draws of the unknowns; default: linearised.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of the draws.")
@click.option("--experiment", metavar="NAME", help="Which experiment of a fit of several. [default: the first]")
@click.option("--series", metavar="N,...", help="Networks of series: which of the test. [default: 0,1,2]")
@click.option("--seen", type=float, metavar="T", help="Networks of series: show nothing later than T. [default: all]")
@click.option(
    "--out",
    "outs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A .csv, .json, .png or .svg file; may be repeated. Default: CSV on stdout.",
)
@trust_option
@json_option
def command(
    run: Path,
    until: float | None,
    points: int,
    draws: int,
    seed: int,
    experiment: str | None,
    series: str | None,
    seen: float | None,
    outs: tuple[Path, ...],
    trust: bool,
    json: bool,
) -> int:
    """Forecast with the model of the run directory RUN, from the start of its data up to --until.

    A row is a time; of every observed channel there are five columns: the mean, the ends of the 95 % band that the
    uncertainty of the unknowns makes, and those of the band in which a new measurement falls, noise and all. Beside it
    stands how the bands did on held-out data, and up to when the forecast means something.

    Of a network of irregular series, some series of the test are predicted at all times: a row is a time of a channel,
    with the mean and the ends of the band in which 95 % of the draws lie. With --seen the network extrapolates.
    """
    if json and not outs:
        raise click.UsageError("--json needs --out FILE, as the table itself would go to stdout.")
    for out in outs:
        check_file(out, (".csv", ".json", ".png", ".svg"))
    import numpy as np

    from physid.api.opening import of_experiment, open_run
    from physid.api.train import Trained
    from physid.errors import Diverged, InputError
    from physid.runs.trainings import is_training

    trained = Trained.load(run) if is_training(run) else None
    if trained is not None and hasattr(trained.collection, "rows"):
        from physid.cli.series import forecast_command

        unused = {"--until": until, "--points": None if points == POINTS else points}
        return forecast_command(Console(json=json), run, trained, series, seen, draws or None, seed, outs, unused)
    if series is not None or seen is not None:
        raise InputError("--series and --seen are for networks of series, and this run has none. Leave them out.")
    fit = open_run(run, trust)
    if experiment is not None:
        fit = of_experiment(fit, experiment)
    data = fit.experiment
    start, last = data.initial_time, data.test or data.train
    end = float(last.times[-1]) if until is None else until
    if not end > start:
        raise InputError(f"--until {end} is not after the start of the data, {start}. Give a later time.")
    forecast = fit.forecast(np.linspace(start, end, points), draws=draws, seed=seed)

    if forecast.message:
        raise Diverged(f"the forecast stopped: {forecast.message} Choose an earlier --until.")
    console = Console(json=json)
    if data.inputs is not None and end > float(data.inputs.breaks[-1]):
        recorded = f"{float(data.inputs.breaks[-1]):g} {data.time_unit}".rstrip()
        console.note(f"Beyond {recorded}, where their record ends, {', '.join(data.inputs.names)} keep the last value.")
    if not outs:
        write_out(None, partial(_write, forecast, fit, ".csv"))
        console.note(str(forecast))
        return 0
    for out in outs:
        write_out(out, partial(_write, forecast, fit, out.suffix.lower()))
    for out in outs:
        console.say(f"{out}: {points} times up to {end:g} {data.time_unit}".rstrip())
    console.say(str(forecast))
    about = {name: value for name, value in forecast.json().items() if name in ("method", "coverage", "horizon")}
    console.event(
        "done", status="ok", message=f"wrote {points} rows", run=run, out=outs[0], until=end, rows=points, **about
    )
    return 0


def _write(forecast: Forecast, fit: Run, kind: str, file: IO[bytes]) -> None:
    """The forecast in a file of that kind."""
    if kind == ".csv":
        forecast.frame().to_csv(file, index=False, float_format="%.17g")
    elif kind == ".json":
        from physid.formats import json_bytes

        file.write(json_bytes(forecast.json()))
    else:
        from physid.plots import png, svg, time_series

        figure = time_series(forecast, fit.experiment)
        file.write(png(figure) if kind == ".png" else svg(figure))
