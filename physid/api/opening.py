"""OpenRun: a run directory of any kind with the facade over what it holds: Fit, Trained, or what forecasts by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from physid.api.fit import Fit
from physid.api.networks import FreeRun
from physid.api.train import Trained
from physid.errors import InputError
from physid.inference.search.monitor import Progress
from physid.predict.series_forecast import SeriesRun
from physid.runs.format import Run

FACADES: dict[str, Callable[[Any], Any]] = {"fit": Fit.of_result, "training": Trained.of_result}


class OpenRun(Run):
    """A run whose results have methods, as Fit and Trained: OpenRun.open("runs/orbits").fit.report().

    A fit has `fit`, a training `trained`; `found` is the result of any kind, and `predictor` what forecasts by it.
    Errors: InputError, in one line, for what the run is not.
    """

    def result(self) -> Any:
        """The result with its methods: a Fit, a Trained, a Reproduction."""
        return self._facade(super().result())

    def resume(self, progress: Progress | None = None, time_limit: float | None = None) -> Any:
        """Continue the run from its checkpoint; its result, with its methods. See Run.resume."""
        return self._facade(super().resume(progress, time_limit))

    def _facade(self, found: Any) -> Any:
        return FACADES[self.kind](found) if self.kind in FACADES else found

    @cached_property
    def found(self) -> Any:
        """The result, read once."""
        return self.result()

    @property
    def fit(self) -> Fit:
        """The fit."""
        self.expect("fit")
        found: Fit = self.found
        return found

    @property
    def trained(self) -> Trained:
        """The training."""
        self.expect("training")
        found: Trained = self.found
        return found

    @cached_property
    def network(self) -> FreeRun | SeriesRun | None:
        """The trained network that forecasts, None where the run holds none."""
        if self.kind != "training":
            return None
        return FreeRun.of_training(self.trained) or SeriesRun.of_training(self.trained)

    @property
    def predictor(self) -> Fit | FreeRun | SeriesRun:
        """The fit, or the network that runs on or predicts the series of its test."""
        if self.kind != "training":
            return self.fit
        if self.network is None:
            raise InputError(
                f"{self.path} is a training of {self.trained.learner.identity.get('model')}, which forecasts "
                "nothing. Give a fit, or a run of lstm, lstm-aug, latent-ode, rnn or gru."
            )
        return self.network

    def compared(self) -> Fit | FreeRun:
        """Fit or network for a table of several. Errors: InputError for a network of series, which has no such row."""
        found = self.predictor
        if isinstance(found, SeriesRun):
            raise InputError(
                f"{self.path} is a training of {found.settings['model']}, which does not forecast an experiment. Give "
                "a fit, or a run of lstm or lstm-aug."
            )
        return found


def open_run(folder: str | Path, trust: bool = False) -> Fit | FreeRun | SeriesRun:
    """The predictor of the run in a folder. Errors: InputError; see OpenRun."""
    return OpenRun.open(folder, trust=trust).predictor
