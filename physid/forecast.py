"""Forecasts: the mean of the observations and the band that the uncertainty of the unknowns makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from physid.errors import InputError
from physid.fitting.files import table_bytes
from physid.fitting.problem import predict
from physid.fitting.result import Fit
from physid.fitting.vector import Array

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Forecast:
    """Observations [T, M] at `times` [T]: the mean, and the ends of the 95 % band of the unknowns, noise left out.

    The band is linearised: mean -+ q sqrt(diag(J C J^T)), J the exact derivative by the unknowns, C their covariance,
    or not-a-number where none is known. `message` says why a forecast ends early, if it does.
    """

    times: Array
    mean: Array
    low: Array
    high: Array
    channels: tuple[str, ...]
    unit: str = ""
    time_unit: str = ""
    message: str = ""

    @property
    def columns(self) -> list[str]:
        """The names of the columns of `rows`: the time, then channel, channel_low, channel_high."""
        return ["time", *(f"{name}{end}" for name in self.channels for end in ("", "_low", "_high"))]

    def rows(self) -> Array:
        """The table [T, 1 + 3 M]."""
        bands = np.stack([self.mean, self.low, self.high], -1).reshape(len(self.times), -1)
        return np.column_stack([self.times, bands])

    def frame(self) -> pd.DataFrame:
        """The table with pandas."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=self.columns)

    def csv(self, path: str | Path) -> None:
        """Write the table as CSV."""
        Path(path).write_bytes(table_bytes(self.columns, self.rows().tolist()))


def forecast(fit: Fit, until: float | Sequence[float] | Array, points: int = 201) -> Forecast:
    """The forecast of a fit at the times `until`, or at `points` times from the initial time to the one time `until`.

    Errors: InputError for times that do not increase from the initial time.
    """
    start = float(fit.experiment.initial_time or 0.0)
    given = np.asarray(until, dtype=np.float64)
    if given.ndim == 0:
        if points < 2:
            raise InputError(f"{points} points were asked for: two or more are allowed.")
        given = np.linspace(start, float(given), points)
    if (
        given.ndim != 1
        or not len(given)
        or not np.isfinite(given).all()
        or np.any(np.diff(given) <= 0)
        or given[0] < start
    ):
        raise InputError(
            f"a forecast was asked for at times that do not increase from the initial time {start:g}. "
            "Give later times, in order."
        )
    if fit.experiment.inputs is not None:
        fit.experiment.inputs.need(start, float(given[-1]))
    found = predict(fit.vector, fit.x, torch.from_numpy(given), fit.integrator)
    reach = np.full(found.mean.shape, np.nan)
    if fit.statistics is not None and fit.covariance is not None:
        variance = np.einsum("tmq,qr,tmr->tm", found.slope, fit.covariance, found.slope)
        reach = fit.statistics.quantile() * np.sqrt(np.maximum(variance, 0.0))
    return Forecast(
        times=given,
        mean=found.mean,
        low=found.mean - reach,
        high=found.mean + reach,
        channels=fit.experiment.channels,
        unit=fit.experiment.unit,
        time_unit=fit.experiment.time_unit,
        message="" if found.solution.ok else found.solution.message,
    )
