"""Verification of a run: fits again from its request, or scores its network again, and compares."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from physid.errors import InputError
from physid.formats import Folder, sound
from physid.inference.identify import run as fit_by_plan
from physid.inference.options import resolve
from physid.inference.problem import spread
from physid.inference.result import FitResult
from physid.inference.search.monitor import Monitor, Progress
from physid.machine import environment
from physid.modelling.model import Model
from physid.runs.format import Run
from physid.runs.origin import beginning
from physid.runs.recorder import RunRecorder
from physid.training import TrainingResult, evaluate
from physid.training.result import FINISHED

ERRORS = 1e-3  # standard errors by which an estimate may differ
PART = 1e-6  # of its size by which a number may differ


@dataclass(frozen=True)
class Verification:
    """Differences between a run and its replay, a sentence each; `notes` say what else has changed since.

    `compared` counts the numbers that were compared, and `what` they are: unknowns or scores.
    """

    differences: list[str]
    notes: list[str]
    compared: int
    what: str = "unknowns"

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def verify(
    folder: Path, model: Model | None = None, trust: bool = False, progress: Progress | None = None
) -> Verification:
    """Compare every file of the run with its sum, then fit again, or score the trained network again, and compare.

    An estimate agrees within a thousandth of its standard error, or a millionth of its size; a score within a
    thousandth of its size. Errors: InputError for what is no finished fit or training, and for an interrupted one.
    """
    run = Run.open(folder, part=model, trust=trust)
    if run.kind not in ("fit", "training"):
        raise InputError(
            f"{folder} is {run.format.noun}, but a fit or a training is expected. `physid reproduce NAME --out DIR` "
            "computes an exhibit anew in another folder."
        )
    altered = [f"{name} is not what was written" for name in run.files.altered()]
    if altered:
        return Verification(altered, [], 0)
    known = run.result()
    if known.status in ("interrupted", "time limit"):
        raise InputError(f"{folder} is '{known.status}': its end cannot be replayed. First: physid resume {folder}.")
    with sound(folder):
        notes = _notes(folder)
    return _scored(known, folder, notes) if run.kind == "training" else _fitted(known, run, progress, notes)


def _fitted(known: FitResult, run: Run, progress: Progress | None, notes: list[str]) -> Verification:
    """A fit compared with a second one from the same start."""
    if known.origin is None:
        raise InputError(f"{run.path} does not say how it began, so it cannot be replayed. Fit again.")
    asked, origin = beginning(run.path, run.part, run.trust)
    with sound(run.path):
        plan = resolve(replace(asked.options, time_limit=None))
    again = fit_by_plan(asked.model, asked.experiments, plan, origin, Monitor(progress), asked.labels, RunRecorder())
    differences = [*_estimates(known, again), *_scores(known, again)]
    if known.status != again.status:
        differences.insert(0, f"the status was '{known.status}' and is '{again.status}'")
    return Verification(differences, notes, len(known.estimates))


def _scored(known: TrainingResult, folder: Path, notes: list[str]) -> Verification:
    """The last scores of a training compared with those that its stored weights have on its test set."""
    if known.status != FINISHED:
        raise InputError(f"{folder} is '{known.status}': its scores are not those of its last weights. Train anew.")
    again = evaluate(known.learner, known.collection, known.recipe)
    differences = [
        f"the test {name} was {value:.10g} and is {again.get(name, math.nan):.10g}"
        for name, value in known.scores.items()
        if not np.isclose(value, again.get(name, math.nan), rtol=ERRORS, atol=PART, equal_nan=name in again)
    ]
    return Verification(differences, notes, len(known.scores), "scores")


def _estimates(known: FitResult, again: FitResult) -> list[str]:
    """The estimates that differ."""
    if [one.name for one in known.estimates] != [one.name for one in again.estimates]:
        return ["other unknowns were identified"]
    found = []
    for before, now in zip(known.estimates, again.estimates, strict=True):
        reach = max(ERRORS * (before.stderr or 0.0), PART * abs(before.value))
        scale = PART * abs(before.start)
        if known.statistics is not None and before.stderr is None:
            continue  # an undetermined value may come out anywhere
        if not abs(now.value - before.value) <= max(reach, scale):
            found.append(f"{before.name} was {before.value:.10g} and is {now.value:.10g}")
    return found


def _scores(known: FitResult, again: FitResult) -> list[str]:
    """The scores that differ by more than a thousandth and a millionth of the data's spread."""
    train = known.experiment.train
    size = spread(
        np.nan_to_num(train.observations.reshape(len(train), -1).numpy()), train.mask.reshape(len(train), -1).numpy()
    )
    found, floor = [], PART * size * math.sqrt(len(known.experiment.channels))
    for name, before in known.scores.items():
        now = again.scores.get(name)
        if (before is None) != (now is None):
            found.append(f"the {name} score was {before} and is {now}")
        elif before is not None and now is not None:
            a, b = before["rmse"], now["rmse"]
            if not np.isclose(a, b, rtol=1e-3, atol=floor):
                found.append(f"the {name} rmse was {a:.6g} and is {b:.6g}")
    return found


def _notes(folder: Path) -> list[str]:
    """Differences between the machines of run and replay."""
    before, now = Folder(folder).json("environment.json"), environment()
    return [f"{name} was {before.get(name)} and is {now[name]}" for name in now if before.get(name) != now[name]]
