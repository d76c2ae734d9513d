"""Parameter vector: the model's unknowns, transformed to the real line, then free elements of the initial states."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from physid.arrays import Array, Index
from physid.data.experiment import Experiment, Trajectory
from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Domain, Unknown, real
from physid.moved import named

EDGE = 1e-6  # of the range or its size: how far from a bound a natural value that left its domain is put back


@dataclass(frozen=True)
class VectorEntry:
    """One element of the vector: its name as in `mass[0]`, domain, unit, and owner: an unknown or 'initial'."""

    name: str
    domain: Domain
    unit: str
    owner: str


class ParameterVector:
    """The map between a vector x [Q] and a model with its initial state.

    x holds the raw (transformed) values of the free unknowns in order, then, for every free element i of the initial
    state, (y0_i - initial_i) / initial_scale_i. Errors: InputError when there is nothing to identify.
    """

    def __init__(self, model: Model, experiment: Experiment) -> None:
        self.model, self.experiment = model, experiment
        self.names = list(model.free())
        self.raws: list[nn.Parameter] = list(model.free().values())
        self.parameters = sum(raw.numel() for raw in self.raws)
        self.places = torch.nonzero(experiment.initial_free.reshape(-1)).reshape(-1)
        unknowns = model.unknowns
        self.beliefs = {name: unknowns[name].prior for name in self.names}  # the prior of every unknown, None for none
        self.entries = [*self._parameter_entries(unknowns), *self._initial_entries()]
        if not self.entries:
            raise InputError(
                f"nothing is to be identified: every unknown of {type(model).__name__} is fixed and the initial state "
                "is known. Release an unknown, or free the initial state."
            )
        self.like = next(iter(model.parameters()), experiment.initial)
        self.scale = experiment.initial_scale.reshape(-1)[self.places].numpy()
        # how a vector of several experiments looks (see `physid.inference.parameters`), for one
        self.vectors: list[ParameterVector] = [self]
        self.columns: list[Index] = [np.arange(len(self.entries))]

    def __len__(self) -> int:
        """The number of unknowns Q."""
        return len(self.entries)

    def get(self) -> Array:
        """The vector [Q] of the model as it is, from the experiment's initial state."""
        parts = [raw.detach().reshape(-1).double().cpu().numpy() for raw in self.raws]
        return np.concatenate([*parts, np.zeros(len(self.places))])

    def put(self, x: Array) -> Tensor:
        """Give the model the unknowns of `x` and the experiment's inputs; the initial state [*state], in its dtype."""
        self.model.drive(self.experiment.inputs)
        values = torch.from_numpy(np.ascontiguousarray(x[: self.parameters], dtype=np.float64))
        with torch.no_grad():
            for raw, part in zip(self.raws, values.split([raw.numel() for raw in self.raws]), strict=True):
                raw.copy_(part.view_as(raw))
        return self.initial(x).to(self.like)

    def theta(self, x: Array) -> Tensor:
        """The raw parameters [P] of `x`, in the model's dtype and device."""
        return torch.from_numpy(np.ascontiguousarray(x[: self.parameters], dtype=np.float64)).to(self.like)

    def initial(self, x: Array) -> Tensor:
        """The initial state [*state] of `x`, float64."""
        flat = self.experiment.initial.reshape(-1).clone()
        flat[self.places] += torch.from_numpy(x[self.parameters :] * self.scale)
        return flat.view_as(self.experiment.initial)

    def natural(self, x: Array) -> Array:
        """The natural values [Q] of `x` (or of rows of it [..., Q])."""
        values = x.copy()
        for i, entry in self._bounded():
            values[..., i] = entry.domain.to_value(torch.from_numpy(x[..., i].copy())).numpy()
        start = self.experiment.initial.reshape(-1)[self.places].numpy()
        values[..., self.parameters :] = start + values[..., self.parameters :] * self.scale
        return values

    def _bounded(self) -> list[tuple[int, VectorEntry]]:
        """The entries whose values are not their raw numbers, each with its place."""
        return [(i, entry) for i, entry in enumerate(self.entries) if entry.domain is not real]

    def raw(self, natural: Array) -> Array:
        """The x [Q] of natural values [Q]; one that left its domain is put back just inside."""
        x = np.array(natural, dtype=np.float64)
        for i, entry in self._bounded():
            low, high, value = entry.domain.low, entry.domain.high, float(natural[i])
            inside = value if low < value < high else put_back(value, low, high)
            x[i] = float(entry.domain.to_raw(torch.tensor(inside, dtype=torch.float64)))
        start = self.experiment.initial.reshape(-1)[self.places].numpy()
        x[self.parameters :] = (natural[self.parameters :] - start) / self.scale
        return x

    def slopes(self, x: Array) -> Array:
        """d natural / d x [Q]."""
        slope = np.ones(self.parameters)
        bounded = self._bounded()
        places = [i for i, _ in bounded]
        raw = torch.from_numpy(x[places].copy()).requires_grad_()
        if bounded:
            values = [entry.domain.to_value(one) for (_, entry), one in zip(bounded, raw, strict=True)]
            (by,) = torch.autograd.grad(torch.stack(values).sum(), raw)
            slope[places] = by.numpy()
        return np.concatenate([slope, self.scale])

    def first(self, name: str) -> int:
        """Index of the first element of the unknown `name`."""
        return next(i for i, entry in enumerate(self.entries) if entry.owner == name)

    def truth(self) -> list[float | None]:
        """The true natural value of every element, None where it is not known."""
        found: list[float | None] = []
        for name, raw in zip(self.names, self.raws, strict=True):
            found += numbers_of(self.experiment.truth.get(name), raw.numel())
        known = numbers_of(self.experiment.truth.get("initial"), self.experiment.initial.numel())
        return found + [known[int(i)] for i in self.places]

    def _parameter_entries(self, unknowns: Mapping[str, Unknown]) -> list[VectorEntry]:
        entries = []
        for name, raw in zip(self.names, self.raws, strict=True):
            unknown = unknowns[name]
            entries += [VectorEntry(label, unknown.domain, unknown.unit, name) for label in labels(name, raw.shape)]
        return entries

    def _initial_entries(self) -> list[VectorEntry]:
        names = labels("initial", self.experiment.initial.shape)
        states = self.model.state_names if len(self.model.state_names) == len(names) else ()
        units = [self.model.units.get(state, "") for state in states] or [""] * len(names)
        return [VectorEntry(names[int(i)], real, units[int(i)], "initial") for i in self.places]


def put_back(value: float, low: float, high: float) -> float:
    """The number just inside of (low, high) for a `value` that left it, by a part of the range or of its own size."""
    if math.isfinite(high - low):
        margin = EDGE * (high - low)
    else:
        margin = EDGE * (max(abs(value), abs(low if math.isfinite(low) else high)) or 1.0)
    return min(max(value, low + margin), high - margin)


def labels(name: str, shape: torch.Size) -> list[str]:
    """`name` for one number, `name[i]` or `name[i,j]` for arrays."""
    if not shape:
        return [name]
    return [f"{name}[{','.join(map(str, index))}]" for index in np.ndindex(*shape)]


def numbers_of(value: object, count: int) -> list[float | None]:
    """`value` as a list of `count` numbers; None for each that is missing or not-a-number."""
    if value is None:
        return [None] * count
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    if flat.size == 1:
        flat = np.repeat(flat, count)
    return [None] * count if flat.size != count else [float(v) if math.isfinite(v) else None for v in flat]


class JointParameterVector(ParameterVector):
    """The map between one vector x [Q] and a model with several experiments.

    x holds the shared unknowns, then for every experiment its own unknowns and the free elements of its initial state,
    called `name@experiment`. Every experiment sees x[columns[e]] through a vector of its own, `vectors[e]`. The model
    itself is left with the unknowns of the first experiment.
    """

    def __init__(self, model: Model, experiments: Sequence[Experiment]) -> None:
        super().__init__(model, experiments[0])
        self.vectors = [ParameterVector(model, one) for one in experiments]
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


def vector_of(model: Model, experiments: Experiment | Sequence[Experiment]) -> ParameterVector:
    """The vector of one experiment or of several, which must observe channels of the same names."""
    if isinstance(experiments, Experiment):
        return ParameterVector(model, experiments)
    found = aligned(experiments)
    return ParameterVector(model, found[0]) if len(found) == 1 else JointParameterVector(model, found)


def aligned(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments with distinct names and the channels of all: what one of them did not measure is a gap there.

    Errors: InputError for none, for something else than experiments, for one with nothing to predict, and for channels
    that cannot be matched by name.
    """
    given = list(experiments) if isinstance(experiments, Iterable) else [experiments]
    strange = next((one for one in given if not isinstance(one, Experiment)), None)
    if not given or strange is not None:
        found = "no experiment" if not given else f"a {type(strange).__name__} in place of an experiment"
        raise InputError(f"{found} was given: expected an Experiment, or a list of them, as physid.read gives.")
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
            f"{', '.join(widest.channels)}: expected channels of the same names. Name those that were measured."
        )
    places = [widest.channels.index(name) for name in one.channels]

    def wide(part: Trajectory) -> Trajectory:
        values = part.observations.new_full((len(part), len(widest.channels)), float("nan"))
        values[:, places] = part.observations.where(part.mask, float("nan"))
        return Trajectory(part.times, values)

    test = None if one.test is None else wide(one.test)
    return replace(one, train=wide(one.train), test=test, channels=widest.channels, channel_units=widest.channel_units)


def __getattr__(name: str) -> Any:
    """A class by its former name, with a DeprecationWarning."""
    return named(__name__, name)


def _called(entry: VectorEntry, experiment: Experiment) -> VectorEntry:
    return replace(entry, name=f"{entry.name}@{experiment.name}")
