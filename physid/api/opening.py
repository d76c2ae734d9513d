"""Opens a run directory of any kind, a fit or a training: what it found, and what forecasts by it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from physid.api.fit import Fit
from physid.api.networks import FreeRun
from physid.api.train import Trained
from physid.errors import InputError
from physid.predict.series_forecast import SeriesRun
from physid.runs.trainings import is_training


@dataclass(frozen=True)
class OpenRun:
    """The run in a folder, read at the first use of what it holds; no code of it is executed unless `trust` says so.

    A fit has `fit`, a training `trained`, and what forecasts, of either, `predictor`. Errors: InputError for what the
    run is not, and as of `Fit.load` and `Trained.load`.
    """

    folder: Path
    trust: bool = False

    @cached_property
    def is_training(self) -> bool:
        """Whether it is a training."""
        return is_training(self.folder)

    @cached_property
    def fit(self) -> Fit:
        """The fit."""
        if self.is_training:
            raise InputError(f"{self.folder} is a training, which has no unknowns. Give a fit.")
        return Fit.load(self.folder, trust=self.trust)

    @cached_property
    def trained(self) -> Trained:
        """The training."""
        if not self.is_training:
            raise InputError(f"{self.folder} is a fit, not a training. Give a training.")
        return Trained.load(self.folder)

    @cached_property
    def _network(self) -> FreeRun | SeriesRun | None:
        return FreeRun.of_training(self.trained) or SeriesRun.of_training(self.trained)

    @property
    def forecasts(self) -> bool:
        """Whether anything forecasts by it: not by a network that tells classes."""
        return not self.is_training or self._network is not None

    @cached_property
    def predictor(self) -> Fit | FreeRun | SeriesRun:
        """What forecasts: the fit, or the network that runs on, or predicts the series of its test."""
        if not self.is_training:
            return self.fit
        found = self._network
        if found is None:
            raise InputError(
                f"{self.folder} is a training of {self.trained.learner.identity.get('model')}, which forecasts "
                "nothing. Give a fit, or a run of lstm, lstm-aug, latent-ode, rnn or gru."
            )
        return found

    def compared(self) -> Fit | FreeRun:
        """What stands in a table beside others. Errors: InputError for a network of series, which has no such row."""
        return FreeRun.load(self.folder) if self.is_training else self.fit


def open_run(folder: str | Path, trust: bool = False) -> Fit | FreeRun | SeriesRun:
    """What forecasts by the run in a folder. Errors: InputError; see OpenRun."""
    return OpenRun(Path(folder), trust).predictor
