"""Sheet: the forecasts of one run as they are written, one in a wide table or those of several series in a long one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.errors import InputError
from physid.formats import plain
from physid.predict.forecast import Forecast
from physid.predict.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sheet:
    """Forecasts of a run under the names of their experiments; `long` says that they are some of many series."""

    names: tuple[str, ...]
    forecasts: tuple[Forecast, ...]
    long: bool = False

    def frame(self) -> pd.DataFrame:
        """The table: that of the forecast, or with a row for every series, time and channel.

        The columns of the long one: series, t, channel, observed, truth, mean, low, high; what was not measured is
        not-a-number.
        """
        import pandas as pd

        if not self.long:
            return self.forecasts[0].frame()
        parts = []
        for name, one in zip(self.names, self.forecasts, strict=True):
            t, c = one.mean.shape
            columns: dict[str, Any] = {
                "series": np.full(t * c, int(name)),
                "t": np.repeat(one.times, c),
                "channel": np.tile(one.channels, t),
                "observed": measured_at(one.experiment, "train", one).ravel(),
                "truth": measured_at(one.experiment, "test", one).ravel(),
                **{name: getattr(one, name).ravel() for name in ("mean", "low", "high")},
            }
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    @property
    def digits(self) -> str:
        """The format of numbers in a file of text: all digits, or of networks in single precision those that count."""
        return "%.9g" if self.long else "%.17g"

    def json(self) -> dict[str, Any]:
        """The sheet as data that JSON can say: that of the forecast, or the long table by columns, with its errors."""
        if not self.long:
            return self.forecasts[0].json()
        found: dict[str, Any] = plain(
            {**self.frame().to_dict("list"), "error": self.error(), "until": self.forecasts[0].seen}
        )
        return found

    def error(self) -> dict[str, float]:
        """The root mean squared error over all channels in the parts of their spread, inside of `seen` and beyond."""
        truth = [measured_at(one.experiment, "test", one) for one in self.forecasts]
        spread = np.nanstd(np.concatenate(truth), axis=0)
        squares: dict[str, list[Array]] = {"interpolation": [], "extrapolation": []}
        for one, values in zip(self.forecasts, truth, strict=True):
            square = ((one.mean - values) / np.where(spread > 0, spread, 1.0)) ** 2
            inside = np.ones(len(one.times), bool) if one.seen is None else one.times <= one.seen
            squares["interpolation"].append(square[inside].ravel())
            squares["extrapolation"].append(square[~inside].ravel())
        flat = {name: np.concatenate(parts) for name, parts in squares.items()}
        return {name: float(np.sqrt(np.nanmean(one))) for name, one in flat.items() if np.isfinite(one).any()}

    def __str__(self) -> str:
        """The forecasts in a sentence."""
        if not self.long:
            return str(self.forecasts[0])
        errors = ", ".join(f"{name} {value:.3g}" for name, value in self.error().items())
        return f"rms error, in parts of each channel's spread: {errors}"


def measured_at(experiment: Experiment | None, name: str, forecast: Forecast) -> Array:
    """Observations of the part "train" or "test" at the times of a forecast [T, M], else not-a-number."""
    found = np.full(forecast.mean.shape, np.nan)
    part: Trajectory | None = None if experiment is None else getattr(experiment, name)
    if part is not None:
        values = np.where(part.mask, part.observations, np.nan).reshape(len(part), -1)
        _, rows, theirs = np.intersect1d(forecast.times, part.times.numpy(), return_indices=True)
        found[rows] = values[theirs]
    return found


def sheet(
    run: Predictor,
    names: Sequence[str] = (),
    until: float | None = None,
    points: int | None = None,
    draws: int = 0,
    seed: int = 0,
) -> Sheet:
    """The forecasts of a run for those of its experiments, or series, that are named, or for its first.

    Errors: InputError for names that are none, for several where a run shows one alone, and as of `Predictor.predict`.
    """
    if not run.several and len(names) > 1:
        raise InputError(f"{', '.join(names)}: expected one experiment at a time. Name one of them.")
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names)}: expected each once. Leave out what is there twice.")
    names = names or [str(number) for number in range(run.several)]
    chosen = [run.of(name) for name in names] or [run]
    grids = [one.times(until, points) for one in chosen]
    every = np.unique(np.concatenate(grids))  # a long table has all series at all times
    forecasts = tuple(
        one.predict(every[every >= float(one.experiment.initial_time)], draws=draws, seed=seed) for one in chosen
    )
    return Sheet(tuple(names), forecasts, bool(run.several))
