"""Irregular time series as a collection for training: any table with a column of the series' names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.catalog import Entry, Option, Refused
from physid.data.series import Series
from physid.errors import InputError

TEST_SEED = 2**31 - 1  # what is kept of the test series is drawn from it, the same at every evaluation


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """N series of C channels, each at times of its own, of which a part is shown to a model that predicts them all.

    `rows` [N + 1] says where each begins in times [R], values [R, C] and measured [R, C] (False: not measured there).
    The first `trained` series are for training, the others for the test. Each time a series is drawn,
    max(1, int(observed n)) of its n times are kept at random, with all channels; the target is all that was measured.
    `low` and `scale` [C] give natural values, low + scale x, `time_scale` natural times.

    Errors: InputError for a part observed outside (0, 1], or without a series on either side.
    """

    name: str
    times: Tensor
    values: Tensor
    measured: Tensor
    rows: Tensor
    trained: int
    observed: float
    channels: tuple[str, ...]
    low: Tensor
    scale: Tensor
    time_scale: float = 1.0
    source: str = ""
    data_hash: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what was given."""
        total = len(self.rows) - 1
        if not 0.0 < self.observed <= 1.0:
            raise InputError(f"observed={self.observed:g}: expected a part above 0 and up to 1 of the times.")
        if not 0 < self.trained < total:
            raise InputError(
                f"{self.name}: of {total} series {self.trained} are for training; at least one on each side is needed."
            )

    @property
    def count(self) -> int:
        """The number of series for training."""
        return self.trained

    @property
    def tests(self) -> int:
        """The number of series for the test."""
        return len(self.rows) - 1 - self.trained

    def steps(self, size: int) -> int:
        """The number of batches of an epoch."""
        return -(-self.trained // size)

    def batches(self, epoch: int, seed: int, size: int) -> Iterator[Series]:
        """The training series in their order, `size` at a time; what is kept of each is drawn anew in every epoch."""
        yield from self._parts(0, self.trained, size, seed, epoch)

    def tested(self, numbers: Sequence[int], until: float | None = None) -> Series:
        """Those of the test series that have these numbers, from 0; nothing later than `until` is observed.

        Errors: InputError for a number that is not there.
        """
        if not numbers or not all(0 <= number < self.tests for number in numbers):
            raise InputError(f"series {', '.join(map(str, numbers))}: the test has the numbers 0 to {self.tests - 1}.")
        return self.gather([self.trained + i for i in numbers], np.random.default_rng(TEST_SEED), until)

    def test(self, size: int) -> Iterator[Series]:
        """The test series, of which the same times are kept whenever this is called."""
        yield from self._parts(self.trained, len(self.rows) - 1, size, TEST_SEED, 0)

    def _parts(self, begin: int, end: int, size: int, seed: int, epoch: int) -> Iterator[Series]:
        for place, start in enumerate(range(begin, end, size)):
            draw = np.random.default_rng((seed, epoch, place))
            yield self.gather(range(start, min(start + size, end)), draw)

    def gather(self, which: Sequence[int], draw: np.random.Generator, until: float | None = None) -> Series:
        """The series `which` as one batch on the union of their times; nothing later than `until` is observed."""
        begins, ends = self.rows[list(which)], self.rows[[i + 1 for i in which]]
        counts = ends - begins
        owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
        offset = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
        picked = begins[owner] + offset
        kept = self._kept(owner, offset, counts, draw)
        if until is not None:
            kept &= self.times[picked] * self.time_scale <= until
        times, place = torch.unique(self.times[picked], return_inverse=True)
        shape = (len(counts), len(times), self.values.shape[1])
        index = (owner, place)
        measured = self.measured[picked].to(self.values.dtype)
        targets = self.values.new_zeros(shape).index_put(index, self.values[picked] * measured)
        wanted = self.values.new_zeros(shape).index_put(index, measured)
        observed = self.values.new_zeros(shape).index_put(index, measured * kept[:, None])
        return Series(times, targets * observed, observed, targets, wanted)

    def _kept(self, owner: Tensor, offset: Tensor, counts: Tensor, draw: np.random.Generator) -> Tensor:
        """The rows that are shown: of every series the first in a random order."""
        order = torch.argsort(owner + torch.from_numpy(draw.random(len(owner))), stable=True)
        most = (counts.double() * self.observed).long().clamp(min=1)
        kept = torch.zeros(len(owner), dtype=torch.bool)
        kept[order] = offset < most[owner]
        return kept

    def mean_error(self) -> float:
        """The test's mean squared error of the training series' mean, channel by channel: what a model must beat."""
        cut = int(self.rows[self.trained])
        weight = self.measured.double()
        mean = (self.values[:cut] * weight[:cut]).sum(0) / weight[:cut].sum(0).clamp(min=1)
        square = ((self.values[cut:] - mean) ** 2 * weight[cut:]).sum(1)
        lengths = (self.rows[1:] - self.rows[:-1])[self.trained :]
        owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        blank = square.new_zeros(len(lengths))
        per_series = blank.index_add(0, owner, square) / blank.index_add(0, owner, weight[cut:].sum(1)).clamp(min=1)
        return float(per_series.mean())

    def describe(self) -> dict[str, Any]:
        """Facts of the set, as plain data."""
        return {
            "name": self.name,
            "source": self.source,
            "series": len(self.rows) - 1,
            "trained": self.trained,
            "channels": list(self.channels),
            "observed": self.observed,
            "data_hash": self.data_hash,
            "mean_predictor_mse": self.mean_error(),
        }


def part(value: Any) -> float:
    """Reads the part of the times that is shown."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = 0.0
    if not 0.0 < found <= 1.0:
        raise Refused("a part above 0 and up to 1, as 0.1")
    return found


OBSERVED = Option("Part of the times of a series that a model is shown.", part, 0.1)


def a_file(value: Any) -> str:
    """Reads the path of a file."""
    if not Path(value).expanduser().is_file():
        raise Refused("a file that exists")
    return str(Path(value).expanduser().resolve())


def _names(value: Any) -> list[str]:
    """Reads names, separated by commas when they are text."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)


def load(
    *,
    table: str | None,
    observed: float = 0.1,
    group: str | None = None,
    time: str | None = None,
    channels: Sequence[str] | None = None,
) -> SeriesSet:
    """The series in a CSV, Parquet, NPZ or MAT file, wide or long; an empty cell was not measured.

    group, time, channels: columns by name; without them as `physid.read` has it. The last fifth of the series, at least
    one, is the test. Every channel runs from 0 to 1 over the whole file, and so do the times from the start of each
    series to the end of the longest.

    Errors: InputError, with file, column and row, for whatever is wrong with the file: a series without a measurement,
    a time that is there twice, times out of order, a single series.
    """
    from physid.reading.roles import ReadOptions
    from physid.reading.runs import source

    if table is None:
        raise InputError("the series come from a file of yours: name it, as in table=FILE (--set table=FILE).")
    found = source(Path(table), ReadOptions(time, channels, None, group, {}, "hold", None))
    runs, name = found.runs, Path(table).name
    if len(runs) < 2:
        raise InputError(f"{name}: there is one series; two or more are needed. Name the column of the series' names.")
    values = np.concatenate([run.channels for run in runs])
    low, high = (
        f(values, axis=0, where=np.isfinite(values), initial=i) for f, i in ((np.min, np.inf), (np.max, -np.inf))
    )
    low = np.where(np.isfinite(low), low, 0.0)
    scale = np.where(high > low, high - low, 1.0)
    times = np.concatenate([run.times - run.times[0] for run in runs])
    span = float(times.max()) or 1.0
    return SeriesSet(
        name="series",
        times=torch.from_numpy(times / span),
        values=torch.from_numpy(np.nan_to_num((values - low) / scale)).float(),
        measured=torch.from_numpy(np.isfinite(values)),
        rows=torch.tensor([0, *np.cumsum([len(run.times) for run in runs])]),
        trained=min(len(runs) - 1, max(1, int(0.8 * len(runs)))),
        observed=observed,
        channels=tuple(found.roles.channels),
        low=torch.from_numpy(low),
        scale=torch.from_numpy(scale),
        time_scale=span,
        source=name,
        data_hash=hashlib.sha256(times.tobytes() + values.tobytes()).hexdigest(),
        options={"table": table, "observed": observed, "group": group, "time": time, "channels": channels},
    )


OPTIONS = {
    "table": Option("The file: CSV, Parquet, NPZ or MAT.", a_file, None),
    "observed": OBSERVED,
    "group": Option("Column of the series' names.", str, None),
    "time": Option("Column of the times.", str, None),
    "channels": Option("What was measured, as in x,y.", _names, None),
}
ENTRY: Entry[SeriesSet] = Entry("series", "Irregular time series in a file of yours (a table).", OPTIONS, load)
