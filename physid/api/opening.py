"""Opens a run directory of either kind, a fit or a trained network, as what forecasts."""

from __future__ import annotations

from pathlib import Path

from physid.api.fit import Fit
from physid.api.networks import FreeRun
from physid.errors import unknown_name
from physid.runs.trainings import is_training


def of_experiment(run: Fit | FreeRun, name: str) -> Fit | FreeRun:
    """The part of a run that is about one experiment. Errors: InputError for a name that is none of its own."""
    if isinstance(run, Fit):
        return run.of(name)
    if name != run.experiment.name:
        raise unknown_name("experiment", name, [run.experiment.name])
    return run


def open_run(folder: str | Path, trust: bool = False) -> Fit | FreeRun:
    """The run in a folder, a fit or a trained network that runs on. Errors: InputError, as of both."""
    return FreeRun.load(folder) if is_training(folder) else Fit.load(folder, trust=trust)
