"""Predictor: what forecasts one experiment, a fit, a network that runs on, or a network of irregular series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.predict.forecast import Forecast

POINTS = 101  # times of a forecast, where nothing else is asked


class Predictor(Protocol):
    """A result that forecasts: pictures, tables and commands know no more of it than this."""

    @property
    def experiment(self) -> Experiment:
        """The experiment that it forecasts, with all its measurements."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The names of its "model" and its "experiment", and its other settings."""

    @property
    def strengths(self) -> Array | None:
        """Relative masses of the observed bodies [B], where they are known; pictures draw them so."""

    @property
    def several(self) -> int:
        """Number of experiments in a forecast where none is named; 0 for one that shows one alone."""

    def shown(self, seen: float) -> Self:
        """The same, shown nothing later than `seen`. Errors: InputError for what is not shown measurements."""

    def of(self, experiment: str) -> Self:
        """The same for another of its experiments. Errors: InputError for a name that is none of them."""

    def times(self, until: float | None = None, points: int | None = None) -> Array:
        """Times [T] for a forecast from the start of the data, to their end or to `until`, `points` of them."""

    def predict(self, times: Array, inputs: Inputs | None = None, draws: int = 0, seed: int = 0) -> Forecast:
        """The forecast at `times` [T], driven by `inputs` in place of the measured ones, with bands of `draws`.

        Errors: InputError for times that do not increase from the initial time, and for what it does not take.
        """

    def paths(self, times: Array, count: int) -> Array:
        """Forecasts [K, T, M] that fan out as its uncertainty does: of `count` draws, or of the networks it has."""


def even_times(experiment: Experiment, until: float | None, points: int | None) -> Array:
    """Times [T] of equal distance from the initial time to `until`, or the last time at which it was measured.

    Errors: InputError when `until` is not after the initial time.
    """
    start, last = float(experiment.initial_time), experiment.test or experiment.train
    end = float(last.times[-1]) if until is None else until
    if not start < end < np.inf:
        raise InputError(
            f"a forecast until {end:g} was asked for, but the data start at {start:g}. Give a later time, a finite one."
        )
    return np.linspace(start, end, points or POINTS)


def unseen(name: str) -> InputError:
    """The error for a last time that was to be shown to what reads no measurements as it forecasts."""
    return InputError(f"--seen is for networks of series, and this is a run of {name}. Leave it out.")


def refuse(inputs: Inputs | None, name: str) -> None:
    """Errors: InputError for inputs that were given to a network, which reads none."""
    if inputs is not None:
        raise InputError(f"the inputs {', '.join(inputs.names)} were given, but {name} reads none. Leave them out.")
