"""The half of `physid forecast` that is for networks of irregular series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from physid.api.train import Trained
from physid.cli.console import Console
from physid.cli.files import write_out
from physid.errors import InputError
from physid.predict.series_forecast import forecast_series

if TYPE_CHECKING:
    from physid.predict.series_forecast import SeriesForecast

DRAWS = 100
SHOWN = 3  # series of the test, where there are as many


def forecast_command(
    console: Console,
    run: Path,
    trained: Trained,
    series: str | None,
    seen: float | None,
    draws: int | None,
    seed: int,
    outs: Sequence[Path],
    unused: Mapping[str, Any],
) -> int:
    """Forecast series of the test with the network of `run`, write what was asked for, and return the exit code."""
    for name, value in unused.items():
        if value is not None:
            raise InputError(f"{name} is for fits of unknowns, and {run} is a training. Leave it out.")
    numbers = _numbers(series, len(trained.collection.rows) - 1 - trained.collection.count)  # type: ignore[attr-defined]
    found = forecast_series(trained.learner, trained.collection, numbers, until=seen, draws=draws or DRAWS, seed=seed)
    if not outs:
        write_out(None, partial(_write, found, ".csv"))
    for out in outs:
        write_out(out, partial(_write, found, out.suffix.lower()))
    told = ", ".join(f"{name} {value:.3g}" for name, value in found.error().items())
    text = f"rms error, in parts of each channel's spread: {told}"
    if not outs:
        console.note(text)
        return 0
    for out in outs:
        console.say(f"{out}: {len(numbers)} series at {len(found.times)} times")
    console.say(text)
    console.event("done", status="ok", message=text, run=run, out=outs[0], series=numbers, error=found.error())
    return 0


def _numbers(text: str | None, total: int) -> list[int]:
    """The numbers that were typed."""
    if text is None:
        return list(range(min(SHOWN, total)))
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--series {text}: whole numbers from 0 up, as in 0,3, are allowed.") from None


def _write(found: SeriesForecast, kind: str, file: IO[bytes]) -> None:
    """The forecast in a file of that kind."""
    if kind == ".csv":
        found.frame().to_csv(file, index=False, float_format="%.9g")
    elif kind == ".json":
        from physid.formats import json_bytes

        file.write(json_bytes({**found.frame().to_dict("list"), "error": found.error(), "until": found.until}))
    else:
        from physid.plots import png, series_channels, svg

        figure = series_channels(found)
        file.write(png(figure) if kind == ".png" else svg(figure))
