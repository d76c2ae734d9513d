"""The unknowns of several experiments as one vector: what they share once, what is their own for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from physid.errors import InputError
from physid.experiment import Experiment, Trajectory
from physid.fitting.vector import Array, Entry, Vector
from physid.spec import Model


class Joint(Vector):
    """The map between one vector x [Q] and a model with several experiments.

    x holds the shared unknowns, then for every experiment its own unknowns and the free elements of its initial state,
    called `name@experiment`. Every experiment sees x[columns[e]] through a vector of its own, `vectors[e]`. The model
    itself is left with the unknowns of the first experiment.
    """

    def __init__(self, model: Model, experiments: Sequence[Experiment]) -> None:
        super().__init__(model, experiments[0])
        self.vectors = [Vector(model, one) for one in experiments]
        first = self.vectors[0].entries
        unknowns = model.unknowns
        shared = [i for i in range(self.parameters) if not unknowns[first[i].owner].per_experiment]
        self.entries, self.columns = [first[i] for i in shared], []
        for vector, experiment in zip(self.vectors, experiments, strict=True):
            columns = np.empty(len(vector), dtype=np.intp)
            columns[shared] = np.arange(len(shared))
            own = [i for i in range(len(vector)) if i not in shared]
            columns[own] = len(self.entries) + np.arange(len(own))
            self.columns.append(columns)
            self.entries += [_called(vector.entries[i], experiment) for i in own]

    def get(self) -> Array:
        """The vector [Q] of the model as it is; what an experiment says of its own unknowns' start counts there."""
        x, unknowns = np.empty(len(self)), self.model.unknowns
        for vector, columns in reversed(list(zip(self.vectors, self.columns, strict=True))):
            natural = vector.natural(vector.get())
            for i, entry in enumerate(vector.entries[: vector.parameters]):
                start = vector.experiment.start.get(entry.owner)
                if start is not None and unknowns[entry.owner].per_experiment:
                    values = np.asarray(start, dtype=np.float64).reshape(-1)
                    natural[i] = values[i - vector.first(entry.owner)] if values.size > 1 else values[0]
            x[columns] = vector.raw(natural)
        return x

    def put(self, x: Array) -> Tensor:
        """Give the model the unknowns of the first experiment and return its initial state."""
        return self.vectors[0].put(x[self.columns[0]])

    def initial(self, x: Array) -> Tensor:
        """The initial state of the first experiment."""
        return self.vectors[0].initial(x[self.columns[0]])

    def natural(self, x: Array) -> Array:
        """The natural values [Q] of `x` (or of rows of it [..., Q])."""
        out = np.empty(x.shape)
        for vector, columns in zip(self.vectors, self.columns, strict=True):
            out[..., columns] = vector.natural(x[..., columns])
        return out

    def raw(self, natural: Array) -> Array:
        """The x [Q] of natural values [Q]; one that left its domain is put back just inside."""
        out = np.empty(natural.shape)
        for vector, columns in zip(self.vectors, self.columns, strict=True):
            out[columns] = vector.raw(natural[columns])
        return out

    def slopes(self, x: Array) -> Array:
        """d natural / d x [Q]."""
        out = np.empty(x.shape)
        for vector, columns in zip(self.vectors, self.columns, strict=True):
            out[columns] = vector.slopes(x[columns])
        return out

    def truth(self) -> list[float | None]:
        """The true natural value of every element, None where it is not known."""
        out: list[float | None] = [None] * len(self)
        for vector, columns in zip(self.vectors, self.columns, strict=True):
            for column, value in zip(columns, vector.truth(), strict=True):
                out[column] = value if out[column] is None else out[column]
        return out


def vector_of(model: Model, experiments: Experiment | Sequence[Experiment]) -> Vector:
    """The vector of one experiment or of several, which must observe channels of the same names."""
    if isinstance(experiments, Experiment):
        return Vector(model, experiments)
    found = aligned(experiments)
    return Vector(model, found[0]) if len(found) == 1 else Joint(model, found)


def aligned(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments with distinct names and the channels of all: what one of them did not measure is a gap there.

    Errors: InputError for none, for something else than experiments, for one with nothing to predict, and for channels
    that cannot be matched by name.
    """
    given = list(experiments) if isinstance(experiments, Iterable) else [experiments]
    strange = next((one for one in given if not isinstance(one, Experiment)), None)
    if not given or strange is not None:
        found = "no experiment" if not given else f"a {type(strange).__name__} in place of an experiment"
        raise InputError(f"{found} was given: an Experiment, or a list of them, is allowed, as physid.read gives.")
    for one in given:
        if not bool((one.train.times != float(one.initial_time)).any()):
            raise InputError(
                f"experiment {one.name} has no measurement after its first time, {float(one.initial_time):g}, so there "
                "is nothing to predict. Give it more, or leave it out."
            )
    names = [one.name for one in given]
    if len(set(names)) < len(names):
        given = [replace(one, name=f"{one.name}-{i}") for i, one in enumerate(given, 1)]
    widest = max(given, key=lambda one: len(one.channels))
    return [one if one.channels == widest.channels else _widened(one, widest) for one in given]


def _widened(one: Experiment, widest: Experiment) -> Experiment:
    """The experiment with a gap for every channel of `widest` that it does not measure."""
    missing = [name for name in one.channels if name not in widest.channels]
    if missing or widest.train.observations.ndim != 2 or len(set(widest.channels)) < len(widest.channels):
        raise InputError(
            f"experiment {one.name} observes {', '.join(one.channels)}, experiment {widest.name} "
            f"{', '.join(widest.channels)}: channels of the same names are allowed. Name those that were measured."
        )
    places = [widest.channels.index(name) for name in one.channels]

    def wide(part: Trajectory) -> Trajectory:
        values = part.observations.new_full((len(part), len(widest.channels)), float("nan"))
        values[:, places] = part.observations.where(part.mask, float("nan"))
        return Trajectory(part.times, values)

    test = None if one.test is None else wide(one.test)
    return replace(one, train=wide(one.train), test=test, channels=widest.channels, channel_units=widest.channel_units)


def _called(entry: Entry, experiment: Experiment) -> Entry:
    return replace(entry, name=f"{entry.name}@{experiment.name}")
