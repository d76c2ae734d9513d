"""FreeRun: a trained recurrent network, loaded from its run directory, that forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from physid.api.forecast import ViewableForecast
from physid.arrays import Array
from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.predict.networks import NetworkRun
from physid.runs.format import Run


class FreeRun(NetworkRun):
    """A trained network that runs on from the first points of an experiment, each from what it said last."""

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The run in a folder. Errors: InputError for what is no training of a network that runs on."""
        trained = Run.open(folder, "training").result()
        found = cls.of_training(trained)
        if found is None:
            raise InputError(
                f"{folder} is a training of {trained.learner.identity.get('model')}, which does not forecast an "
                "experiment. Give a fit, or a run of lstm or lstm-aug."
            )
        return found

    def predict(self, times: Array, inputs: Inputs | None = None, draws: int = 0, seed: int = 0) -> ViewableForecast:
        """The mean path at `times` [T]; see NetworkRun.predict."""
        return ViewableForecast.of_result(super().predict(times, inputs, draws, seed))

    def forecast(
        self, until: float | Sequence[float] | Array, points: int = 201, draws: int = 0, seed: int = 0
    ) -> ViewableForecast:
        """The mean path at given times or at `points` times up to `until`; see NetworkRun.forecast."""
        return ViewableForecast.of_result(super().forecast(until, points, draws, seed))
