"""Experiment: one record of times and measurements (the data set of one run), with its inputs, units and source."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from physid.data.inputs import CLOSEST, Inputs
from physid.errors import InputError

METRICS = ("mean", "sum")

# The default of a field that is filled in when it was left out.
FILLED: Any = None


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Observations [T, *observation] at the times [T]; `mask` is False, and a cell not-a-number, where none was made.

    What is given may be anything that makes a tensor: lists, arrays. It is kept in float64 on the CPU.

    Errors: InputError for times that are not finite and increasing, for shapes that do not match, an infinite
    observation, or when nothing at all was measured.
    """

    times: Tensor
    observations: Tensor
    mask: Tensor = FILLED

    def __post_init__(self) -> None:
        """Make tensors of what was given, and check them."""
        times, values = numbers("times", self.times), numbers("observations", self.observations)
        if times.ndim != 1 or len(times) == 0 or not bool(torch.isfinite(times).all()):
            raise InputError(f"times have shape {list(times.shape)} or are not finite: expected a list of numbers.")
        late = torch.nonzero(times.diff() <= 0)
        if len(late):
            i = int(late[0])
            raise InputError(
                f"times must increase, but time {i + 1} is {float(times[i + 1])!r} after {float(times[i])!r}. "
                "Sort the rows and drop repeated times."
            )
        if bool((times.diff() < CLOSEST).any()):
            raise InputError(f"two times are less than {CLOSEST:g} apart. Choose a smaller unit of time.")
        if values.ndim == 0 or len(values) != len(times):
            raise InputError(
                f"observations have shape {list(values.shape)} at {len(times)} times: expected [times, ...]."
            )
        measured = ~torch.isnan(values)
        if self.mask is not None:
            mask = torch.as_tensor(self.mask, dtype=torch.bool)
            if mask.shape != values.shape:
                raise InputError(f"the mask has shape {list(mask.shape)}: that of observations, {list(values.shape)}.")
            measured = measured & mask
        if bool(torch.isinf(values[measured]).any()):
            raise InputError("an observation is infinite: finite numbers, or not-a-number for 'not measured'.")
        if not bool(measured.any()):
            raise InputError("nothing was measured: at least one observation is needed.")
        for name, value in (("times", times), ("observations", values), ("mask", measured)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """One line: how many times, from when to when, and what was measured."""
        t, shape = self.times, list(self.observations.shape)
        return f"<Trajectory of {len(t)} times from {float(t[0]):g} to {float(t[-1]):g}, {shape}, {self._gaps()}>"

    def _gaps(self) -> str:
        missing = int((~self.mask).sum())
        return f"{missing} of {self.mask.numel()} not measured" if missing else "all measured"

    def __len__(self) -> int:
        """The number of times."""
        return len(self.times)

    def select(self, rows: Tensor) -> Trajectory | None:
        """The part at the `rows` (a mask [T]); None when nothing was measured there."""
        if not bool(self.mask[rows].any()):
            return None
        return Trajectory(self.times[rows], self.observations[rows], self.mask[rows])

    def after(self, time: float) -> Trajectory | None:
        """The part later than `time`; None when there is none."""
        return self.select(self.times > time)


@dataclass(frozen=True, eq=False)
class Experiment:
    """A trajectory to fit, one to test on, and what is known of the system: initial state, units, truth, source.

    initial [*state] at initial_time is known where `initial_free` is False and a start to improve where it is True;
    `initial_scale` is the typical size of its elements, by default its own, or for zeros that of what was measured
    there. `start` holds starting values of unknowns by name, `constants`
    what else a model of it is made with; `truth` the true values, as far as they are known (`initial` among them).
    `metric` is "mean", the mean of the squared error over all that was measured, or "sum", summed over the channels and
    averaged over time. `inputs` is what drove the system, over all of its times. `validation` is another experiment on
    the same system, never fitted: it is predicted with the unknowns found, and where an element of its initial state is
    free, from the value found for this one. `integrator` are changes to a fit's default Integrator that suit the data,
    as {"solver": "rk4"}. `noise` is how the measurements scatter, where that is known: a noise model of `fit`, as
    "lognormal", which counts before the model's. `channel_units` are the units of the channels, where they have not all
    `unit`. `data_hash` is the sha256 of the numbers, unless the source has a better one.

    Errors: InputError for an unknown metric, shapes that do not match, or inputs that do not cover the times.
    """

    name: str
    train: Trajectory
    initial: Tensor
    test: Trajectory | None = None
    initial_time: float = FILLED
    initial_free: Tensor = FILLED
    initial_scale: Tensor = FILLED
    channels: tuple[str, ...] = ()
    unit: str = ""
    time_unit: str = ""
    start: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, Any] = field(default_factory=dict)
    sigma: float | None = None
    source: str = ""
    data_hash: str = ""
    metric: Literal["mean", "sum"] = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Inputs | None = None
    validation: Experiment | None = None
    integrator: Mapping[str, Any] = field(default_factory=dict)
    noise: str = ""
    channel_units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in what was left out, and check what was given."""
        if self.metric not in METRICS:
            raise InputError(f"the metric is {self.metric!r}: expected {' or '.join(METRICS)}.")
        self._check_sigma()
        initial = numbers("initial", self.initial)
        if not bool(torch.isfinite(initial).all()):
            raise InputError("the initial state is not finite: give a number for every element, a guess if it is free.")
        free = torch.zeros_like(initial) if self.initial_free is None else torch.as_tensor(self.initial_free)
        scale = self._default_scale(initial) if self.initial_scale is None else self.initial_scale
        found = {
            "initial": initial,
            "initial_free": free.to(torch.bool, copy=True),
            "initial_scale": numbers("scale", scale),
        }
        for name, value in found.items():
            if value.shape != initial.shape:
                raise InputError(f"{name} has shape {list(value.shape)}: that of initial, {list(initial.shape)}.")
            object.__setattr__(self, name, value)
        first = float(self.train.times[0])
        object.__setattr__(self, "initial_time", first if self.initial_time is None else float(self.initial_time))
        self._check_times()
        object.__setattr__(self, "channels", tuple(self.channels) or self._default_channels())
        self._check_channels()
        self._check_inputs()
        if not self.data_hash:
            object.__setattr__(self, "data_hash", hash_numbers(*self._numbers()))

    def _check_sigma(self) -> None:
        """One positive number; what was given as another kind of number becomes a float."""
        if self.sigma is None:
            return
        given = numbers("sigma", self.sigma)
        if given.numel() != 1 or not 0 < float(given) < math.inf:
            found = f"has shape {list(given.shape)}" if given.numel() != 1 else f"is {float(given):g}"
            raise InputError(
                f"sigma {found}: expected one positive number, the standard deviation of all measurements. Leave it "
                "out to have it estimated."
            )
        object.__setattr__(self, "sigma", float(given))

    def __repr__(self) -> str:
        """One line: its name, its channels, and what was measured of them."""
        test = "" if self.test is None else f", test={self.test!r}"
        return f"<Experiment {self.name} of {', '.join(self.channels)}: {self.train!r}{test}>"

    def _numbers(self) -> list[Tensor]:
        """Everything that was measured."""
        found = [x for part in (self.train, self.test) if part is not None for x in contents(part)]
        return found if self.inputs is None else [*found, self.inputs.breaks, self.inputs.coefficients]

    @property
    def scale_given(self) -> Tensor:
        """Mask [*state] of the elements of `initial_scale` that were given, not filled in."""
        return self.initial_scale != self._default_scale(self.initial)

    def _default_scale(self, initial: Tensor) -> Tensor:
        size = initial.abs()
        measured = torch.where(self.train.mask, self.train.observations, 0.0)
        if measured.shape[1:] == initial.shape:
            shown = (measured.square().sum(0) / self.train.mask.sum(0).clamp(min=1)).sqrt()
            size = torch.where(size > 0, size, shown)
        whole = float((measured.square().sum() / self.train.mask.sum().clamp(min=1)).sqrt())
        largest = float(size.max()) if size.numel() else 0.0
        return torch.where(size > 0, size, largest or whole or 1.0)

    def _default_channels(self) -> tuple[str, ...]:
        shape = self.train.observations.shape[1:]
        return tuple("y" + "".join(f"[{i}]" for i in index) for index in product(*(range(n) for n in shape)))

    def _check_times(self) -> None:
        for part in filter(None, (self.train, self.test)):
            if float(part.times[0]) < self.initial_time:
                raise InputError(
                    f"the first time {float(part.times[0])!r} is before the initial time {self.initial_time!r}: "
                    "expected observations at or after it."
                )

    def _check_channels(self) -> None:
        shapes = [list(part.observations.shape[1:]) for part in (self.train, self.test) if part is not None]
        if any(shape != shapes[0] for shape in shapes) or math.prod(shapes[0]) != len(self.channels):
            raise InputError(
                f"train and test observe {shapes} with {len(self.channels)} channel names: expected the same "
                "shape, and a name for every element."
            )
        if self.channel_units and len(self.channel_units) != len(self.channels):
            raise InputError(
                f"{len(self.channel_units)} units were given for {len(self.channels)} channels: expected one for "
                "each, or none."
            )

    def _check_inputs(self) -> None:
        if self.inputs is None:
            return
        last = max(float(part.times[-1]) for part in (self.train, self.test) if part is not None)
        self.inputs.need(float(self.initial_time), last)

    @property
    def forecast(self) -> Trajectory | None:
        """The part of the test later than everything that is fitted."""
        return None if self.test is None else self.test.after(float(self.train.times[-1]))

    def score(self, predicted: Tensor, trajectory: Trajectory) -> dict[str, float]:
        """The mean squared error of `predicted` [T, *observation] by the experiment's metric, and its root."""
        predicted = torch.as_tensor(predicted, dtype=torch.float64).detach().cpu()
        if predicted.shape != trajectory.observations.shape:
            raise InputError(
                f"the prediction has shape {list(predicted.shape)}: expected that of the observations, "
                f"{list(trajectory.observations.shape)}."
            )
        error = torch.where(trajectory.mask, predicted - trajectory.observations, 0.0).square()
        if self.metric == "mean":
            mse = float(error.sum() / trajectory.mask.sum())
        else:  # a channel that was never measured adds nothing
            mse = float((error.sum(0) / trajectory.mask.sum(0).clamp(min=1)).sum())
        return {"mse": mse, "rmse": math.sqrt(mse)}


def numbers(name: str, value: object) -> Tensor:
    """`value` copied into a float64 tensor on the CPU; InputError when it is not made of numbers."""
    try:
        found = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
        return found.clone(memory_format=torch.contiguous_format)  # what is given may be a buffer that is filled anew
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} are of type {type(value).__name__}: expected an array of numbers.") from error


def contents(trajectory: Trajectory) -> tuple[Tensor, Tensor]:
    """The times, and the observations with zeros where nothing was measured and then the mask itself."""
    values = torch.where(trajectory.mask, trajectory.observations, 0.0)
    return trajectory.times, torch.stack((values, trajectory.mask.to(values.dtype)))


def hash_numbers(*arrays: Tensor) -> str:
    """The sha256 over the shapes and the little-endian float64 bytes of `arrays`."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(tuple(array.shape)).encode())
        digest.update(array.contiguous().numpy().astype("<f8").tobytes())
    return digest.hexdigest()
