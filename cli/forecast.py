"""`physid forecast`: where the identified model goes beyond its data."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option, run_argument, trust_option


@click.command(
    epilog="""\b
Examples:
  physid forecast runs/threebody --until 3
  physid forecast runs/threebody --until 3 --points 301 --out forecast.csv
  physid forecast runs/threebody --until 3 --draws 400 --out forecast.json --out forecast.png
  physid forecast runs/hopper --series 0,1 --seen 0.25 --out hopper.png"""
)
@run_argument
@click.option(
    "--until", type=float, default=None, metavar="T", help="End of the forecast. [default: the end of the data]"
)
@click.option(
    "--points",
    type=click.IntRange(2),
    metavar="N",
    help="Number of times. [default: 101; of series, those of the test]",
)
@click.option(
    "--draws",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Number of draws for the bands. [default: linearised; 100 of networks of series]",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of the draws.")
@click.option("--experiment", metavar="NAME", help="Name of an experiment of a fit of several. [default: the first]")
@click.option("--series", metavar="N,...", help="Networks of series: numbers in the test. [default: 0,1,2]")
@click.option("--seen", type=float, metavar="T", help="Networks of series: show nothing later than T. [default: all]")
@click.option(
    "--out",
    "outs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A .csv, .json, .png or .svg file; may be repeated. [default: CSV on stdout]",
)
@trust_option
@json_option
def command(
    run: Path,
    until: float | None,
    points: int | None,
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
    stands how the bands did on held-out data, and its predictability horizon.

    Of a network of irregular series, some series of the test are predicted at all times: a row is a time of a channel,
    with the mean and the ends of the band in which 95 % of the draws lie. With --seen the network extrapolates.
    """
    if json and not outs:
        raise click.UsageError("--json needs --out FILE, as the table itself would go to stdout.")
    for out in outs:
        check_file(out, (".csv", ".json", ".png", ".svg"))
    from physid.api.export import sheet_document
    from physid.api.opening import open_run
    from physid.errors import Diverged, InputError
    from physid.predict.sheet import sheet

    found = open_run(run, trust)
    if seen is not None:
        found = found.shown(seen)
    if series is not None and experiment is not None:
        raise InputError("--series and --experiment name the same. Give one of them.")
    if series is not None and not found.several:
        raise InputError("--series is for networks of series, and this run has none. Leave it out.")
    names = [experiment] if experiment is not None else [] if series is None else series.split(",")
    made = sheet(found, names, until, points, draws, seed)
    first = made.forecasts[0]
    if first.message:
        raise Diverged(f"the forecast stopped: {first.message} Choose an earlier --until.")
    console, end, data = Console(json=json), float(first.times[-1]), first.experiment
    if data is not None and data.inputs is not None and end > float(data.inputs.breaks[-1]):
        recorded = f"{float(data.inputs.breaks[-1]):g} {data.time_unit}".rstrip()
        console.note(f"Beyond {recorded}, where their record ends, {', '.join(data.inputs.names)} keep the last value.")
    if not outs:
        write_out(None, sheet_document(made, ".csv"))
        console.note(str(made))
        return 0
    rows = sum(len(one.times) for one in made.forecasts)
    for out in outs:
        write_out(out, sheet_document(made, out.suffix.lower()))
    for out in outs:
        what = f"{len(made.forecasts)} series at" if made.long else ""
        console.say(
            f"{out}: {what} {len(first.times)} times up to {end:g} {first.time_unit}".replace(":  ", ": ").rstrip()
        )
    console.say(str(made))
    about = {"series": list(map(int, made.names)), "error": made.error()} if made.long else first.facts()
    console.event(
        "done", status="ok", message=f"wrote {rows} rows", run=run, out=outs[0], until=end, rows=rows, **about
    )
    return 0
