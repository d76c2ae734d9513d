"""What a network says of irregular series: a forecast at every time, with the band of its draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.series import Series
from physid.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95


class Teller(Protocol):
    """A network that predicts series: `count` draws [count, B, T, C] at the times of a batch."""

    def sample(self, batch: Series, count: int) -> Tensor:
        """The draws."""


class Source(Protocol):
    """The collection it was trained on, with what gives natural units."""

    channels: tuple[str, ...]
    low: Tensor
    scale: Tensor
    time_scale: float

    def tested(self, numbers: Sequence[int], until: float | None = None) -> Series:
        """Those of the test series that have these numbers."""


@dataclass(frozen=True, eq=False)
class SeriesForecast:
    """Mean and band of the draws [B, T, C] at the times [T], with what was observed and what was to be predicted.

    Both are not-a-number where there is nothing; all is in natural units. `until` is the last time of which a
    network was shown anything, None for all. `numbers` are those of the series in the test.
    """

    times: Array
    mean: Array
    low: Array
    high: Array
    observed: Array
    truth: Array
    channels: tuple[str, ...]
    numbers: tuple[int, ...]
    draws: int
    until: float | None = None

    def error(self) -> dict[str, float]:
        """The root mean squared error over all channels in the parts of their spread, inside of `until` and beyond."""
        spread = np.nanstd(self.truth, axis=(0, 1))
        square = ((self.mean - self.truth) / np.where(spread > 0, spread, 1.0)) ** 2
        inside = np.ones(len(self.times), bool) if self.until is None else self.times <= self.until
        parts = {"interpolation": inside, "extrapolation": ~inside}
        return {name: float(np.sqrt(np.nanmean(square[:, rows]))) for name, rows in parts.items() if rows.any()}

    def frame(self) -> pd.DataFrame:
        """A long table: series, time, channel, observed, truth, mean, low, high."""
        import pandas as pd

        b, t, c = self.mean.shape
        columns: dict[str, Any] = {
            "series": np.repeat(self.numbers, t * c),
            "t": np.tile(np.repeat(self.times, c), b),
            "channel": np.tile(self.channels, b * t),
        }
        names = ("observed", "truth", "mean", "low", "high")
        return pd.DataFrame({**columns, **{name: getattr(self, name).ravel() for name in names}})


def forecast_series(
    learner: Any,
    collection: Any,
    numbers: Sequence[int] = (0,),
    *,
    until: float | None = None,
    draws: int = 100,
    seed: int = 0,
) -> SeriesForecast:
    """The forecast of those test series of the collection by a network that was trained on it.

    With `until`, in the collection's time, nothing later is shown to the network, which then extrapolates.

    Errors: InputError for a network that does not predict series, and for numbers of series that are not there.
    """
    if not hasattr(learner, "sample") or not hasattr(collection, "tested"):
        raise InputError(f"{type(learner).__name__} predicts no series: train one that does, such as latent-ode.")
    teller: Teller = learner
    source: Source = collection
    batch = source.tested(numbers, until)
    weights = next(learner.parameters())
    placed = Series(*(part.to(weights) for part in batch))
    was = learner.training
    learner.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = teller.sample(placed, draws).double().cpu()
    learner.train(was)
    low, scale = source.low.double(), source.scale.double()
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    bands = torch.quantile(found, ends, dim=0) if len(found) > 1 else found.new_full((2, *found.shape[1:]), torch.nan)

    def natural(values: Tensor, there: Tensor | None = None) -> Array:
        shown = values.double().cpu() * scale + low
        shown = shown if there is None else torch.where(there > 0, shown, torch.nan)
        return np.asarray(shown.numpy(), dtype=np.float64)

    return SeriesForecast(
        times=batch.times.double().numpy() * source.time_scale,
        mean=natural(found.mean(0)),
        low=natural(bands[0]),
        high=natural(bands[1]),
        observed=natural(batch.values, batch.observed),
        truth=natural(batch.targets, batch.wanted),
        channels=tuple(source.channels),
        numbers=tuple(numbers),
        draws=len(found),
        until=until,
    )
