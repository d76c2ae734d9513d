"""`read`: from files of measurements to experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.data.smoothing import FEWEST, smooth
from physid.errors import InputError, unknown_name
from physid.modelling.answers import rates
from physid.modelling.model import Model
from physid.modelling.reconstruct import reconstruct
from physid.modelling.state_sizes import seen_sizes
from physid.reading.doubts import error_sentence, gap_sentence, input_gap
from physid.reading.roles import ReadOptions, observed_shape
from physid.reading.runs import FileRun, Source, source

NEARLY_ZERO = 1e-3  # of its size, where the search for a state starts: at zero itself roots have no slope
LIFTED = 20  # times at which the states are guessed, for their sizes


def read(
    path: str | Path | Sequence[str | Path],
    *,
    model: Model | type[Model] | None = None,
    time: str | None = None,
    channels: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    experiment: str | None = None,
    units: Mapping[str, str] | None = None,
    interpolation: str | Mapping[str, str] | None = None,
    initial: str | Mapping[str, float] = "free",
    sigma: float | None = None,
) -> list[Experiment]:
    """The experiments in one file or several: CSV, Parquet, NPZ or MAT; long (time, channel, value) or wide.

    A column is named by its header; a unit stands in brackets, `x [mm]`, and is converted to that of the model
    (`Model.units`). Empty cells were not measured. Each value of the column `experiment` (by default one of that name)
    is an experiment with times of its own; without one, each file is.

    model: names channels, inputs and units; without it every numeric column is a channel and a state.
    time, channels, inputs, experiment: columns by name. units: of columns that say none.
    interpolation: of the inputs between samples, "hold" (the default), "linear" or "cubic", or one for each by name. A
    gap of an input, many times as long as its samples are apart, is asked about, unless this says how to bridge it.
    initial: "free", "known" (the first row is taken as exact), or numbers for the states that are known, by name.
    What is free starts from the data: from what the first observations, and their slopes, say of the state.
    sigma: the standard deviation of the noise, if it is known. Columns that look like the errors or weights of others,
    as `x_sigma`, are asked about, unless it or `channels` is given.

    Errors: InputError for whatever is wrong with a file, in one line with file, column, row and remedy; MissingError
    for Parquet without pyarrow.
    """
    built = model() if isinstance(model, type) else model
    asked = ReadOptions(time, channels, inputs, experiment, units or {}, interpolation, built)
    paths = [Path(one) for one in ([path] if isinstance(path, str | Path) else path)]
    sources = [source(one, asked) for one in paths]
    for name in asked.units:
        if not any(name in one.table.columns for one in sources):
            raise unknown_name("column for a unit", name, sources[0].table.columns)
    for one in sources:
        _refuse(one, asked, sigma)
    found = [_experiment(one, run, asked, initial, sigma) for one in sources for run in one.runs]
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two experiments are called '{twice}'. Rename a file, or the experiment in its column.")
    return found


def _refuse(origin: Source, asked: ReadOptions, sigma: float | None) -> None:
    """Errors: InputError for a column that looks like errors of others and for an unexplained gap of an input."""
    table, roles = origin.table, origin.roles
    if sigma is None:
        for name, whose in origin.errors.items():
            raise table.error(error_sentence(name, whose, roles.channels), name)
    for run in origin.runs:
        for column, name in enumerate(roles.inputs):
            gap = None if asked.told(name) else input_gap(run.times, run.inputs[:, column])
            if gap is not None:
                raise table.error(gap_sentence(name, run.times, gap), name, int(run.rows[gap[0]]))


def _experiment(
    origin: Source, run: FileRun, asked: ReadOptions, initial: str | Mapping[str, float], sigma: float | None
) -> Experiment:
    """One run as an experiment."""
    roles, path = origin.roles, origin.table.path
    measured = np.isfinite(run.channels).any(1)
    drive = _inputs(origin, run, asked)
    model, shape = asked.model, run.channels.shape[1:]
    if model is not None:
        shape = observed_shape(model)
    name = f"{path}{f', experiment {run.name}' if roles.experiment else ''}"
    try:
        seen = torch.from_numpy(run.channels[measured].reshape(-1, *shape))
        train = Trajectory(torch.from_numpy(run.times[measured]), seen)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    known = {} if isinstance(initial, str) else initial
    start = _Start.of(model, train, drive, float(run.times[0]), known)
    state, free = start.state(initial)
    try:
        units = [origin.units[name] for name in roles.channels]
        return Experiment(
            name=run.name,
            train=train,
            initial=state,
            initial_time=float(run.times[0]),
            initial_free=free,
            initial_scale=start.scale,
            channels=roles.channels,
            unit=units[0] if len(set(units)) == 1 else "",
            channel_units=tuple(units) if len(set(units)) > 1 else (),
            time_unit=origin.units[roles.time],
            sigma=sigma,
            inputs=drive,
            source=f"{path.name}" + (f", experiment {run.name}" if roles.experiment else ""),
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _inputs(origin: Source, run: FileRun, asked: ReadOptions) -> Inputs | None:
    names = origin.roles.inputs
    if not names:
        return None
    parts = []
    for name, column in zip(names, run.inputs.T, strict=True):
        try:
            parts.append(Inputs.through(run.times, column, [name], asked.kind(name)))
        except InputError as error:
            raise origin.table.error(str(error), name) from error
    return Inputs.join(parts)


class _Start:
    """A guess of the initial state, and the sizes of its elements, from the observations and their slopes."""

    def __init__(self, names: Sequence[str], guess: Tensor, scale: Tensor) -> None:
        self.names, self.guess, self.scale = names, guess, scale

    @classmethod
    def of(
        cls,
        model: Model | None,
        train: Trajectory,
        drive: Inputs | None,
        start: float,
        known: Mapping[str, float],
    ) -> _Start:
        """By the model and the values that are `known`, if there is one, else the first observations."""
        flat = train.observations.reshape(len(train), -1).numpy()
        first = np.array([column[np.isfinite(column)][0] if np.isfinite(column).any() else 0.0 for column in flat.T])
        if model is None:
            guess = torch.from_numpy(first).view(train.observations.shape[1:])
            spread = torch.from_numpy(np.array([_size(column) for column in flat.T])).view(guess.shape)
            return cls((), guess, spread)
        unit, guess = _units(model, train, drive, known)
        states = _states(model, train, drive, start, first, unit, guess)
        size = states.square().mean(0).sqrt()
        told = (states != guess).any(0) & (size > 0)  # the others are where the search began
        return cls(model.state_names, states[0], torch.where(told, size, unit))

    def state(self, wish: str | Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """The initial state and which of its elements are free."""
        guess, free = self.guess.clone(), torch.ones_like(self.guess, dtype=torch.bool)
        if isinstance(wish, str):
            if wish not in ("free", "known"):
                raise unknown_name("initial state", wish, ("free", "known"))
            return guess, free if wish == "free" else ~free
        for name, value in wish.items():
            if name not in self.names:
                raise unknown_name("state", name, self.names)
            place = list(self.names).index(name)
            guess.view(-1)[place], free.view(-1)[place] = float(value), False
        return guess, free


def _size(column: Array) -> float:
    there = column[np.isfinite(column)]
    return float(np.sqrt((there**2).mean())) or 1.0 if len(there) else 1.0


def _units(model: Model, train: Trajectory, drive: Inputs | None, known: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """Sizes of the states and where the search for them begins, both [*state]: by the data and by known values.

    A state that no channel shows, and of which nothing is known, counts as of the size of the others.
    """
    shape, like = model.state_shape, next(iter(model.parameters()), torch.zeros((), dtype=torch.float64))
    seen = _driven(model, drive, lambda: seen_sizes(model, train, torch.ones(shape, dtype=like.dtype)))
    places = {name: i for i, name in enumerate(model.state_names)}
    given = np.full(len(seen), np.nan)
    for name, value in known.items():
        if name in places and value:
            given[places[name]] = float(value)
    size = np.where(np.isfinite(seen), seen, np.abs(given))
    there = size[np.isfinite(size)]
    flat = train.observations[train.mask].abs()
    rest = np.exp(np.log(there).mean()) if len(there) else float(flat.square().mean().sqrt()) or 1.0
    size = np.where(np.isfinite(size), size, rest)
    guess = np.where(np.isfinite(given), given, NEARLY_ZERO * size)
    return torch.from_numpy(size).view(shape), torch.from_numpy(guess).view(shape)


def _driven(model: Model, drive: Inputs | None, work: Callable[[], Any]) -> Any:
    """The result of `work` while these inputs drive the model."""
    before: Any = model.driver
    model.drive(drive)
    try:
        return work()
    finally:
        if before is not None or not model.input_names:
            model.drive(before)


def _states(
    model: Model,
    train: Trajectory,
    drive: Inputs | None,
    start: float,
    first: Array,
    unit: Tensor,
    begin: Tensor,
) -> Tensor:
    """States [S, *state] along the record, the first at its start, that give the smoothed observations and slopes.

    The search is in units of `unit` and begins at `begin`, both [*state].
    """
    last = float(train.times[-1])
    times = np.linspace(start, last, LIFTED if last > start and len(train) >= FEWEST else 1)
    seen, rate = smooth(train, times)
    seen[0] = np.where(np.isfinite(seen[0]), seen[0], first)
    like = next(iter(model.parameters()), torch.zeros((), dtype=torch.float64))
    guess = begin.to(like.dtype).expand(len(times), *model.state_shape).clone()

    def search() -> Tensor:
        rates(model, torch.as_tensor(times).to(guess), guess)
        found = reconstruct(model, times, seen, rate, guess, unit)
        # Slopes by unknowns that are only guessed may pull a state away from where it was seen: put it back there.
        return reconstruct(model, times, seen, np.full_like(rate, np.nan), found, unit)

    states: Tensor = _driven(model, drive, search)
    return states.double().cpu()
