"""`train` and Trained: trains a learner on a collection, with a run directory that survives being killed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch

from physid.inference.search.monitor import Progress
from physid.lazy import names as _names
from physid.runs.format import Run
from physid.runs.trainings import TRAININGS, request, trained
from physid.runs.writer import RunWriter
from physid.store import check_vacant
from physid.training.learner import Collection, Learner
from physid.training.loop import Loop
from physid.training.processes import joined
from physid.training.recipe import Recipe
from physid.training.result import TrainingResult

__getattr__ = _names(__name__, {})


class Trained(TrainingResult):
    """The result of `train`, which its training saves, and which is loaded and resumed from its run directory."""

    @classmethod
    def of_result(cls, found: TrainingResult) -> Self:
        """The same result, with what can be done with it."""
        return cls(**{one.name: getattr(found, one.name) for one in fields(found)})

    @classmethod
    def load(cls, folder: str | Path, learner: Learner | None = None) -> Self:
        """The training saved in the run directory `folder`; a learner of the catalogue is built by its name.

        Errors: InputError for what is no intact run, and for a learner that is in no catalogue and was not given.
        """
        return cls.of_result(Run.open(folder, "training", part=learner).result())

    @classmethod
    def resume(cls, folder: str | Path, learner: Learner | None = None, **how: Any) -> Self:
        """Resume the training in `folder` from its last checkpoint; `how`: progress, time_limit.

        On a CPU the weights become those of a training that nothing disturbed, bit for bit. Errors: as of `load`.
        """
        return cls.of_result(Run.open(folder, "training", part=learner).resume(**how))


def train(
    learner: Learner,
    collection: Collection,
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    time_limit: float | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Trained:
    """Train `learner`, in place, on `collection` by `recipe`.

    `out` is a new folder for the run; `progress` is called with a dict at every step; `labels` are kept with the run.
    Under torchrun every process trains on its share of each batch, and the first one writes the run; with TensorBoard
    installed, it writes the folder `tensorboard` there. Random numbers are those of the recipe's seed. Ctrl-C and the
    time limit (seconds) end the training between two steps, with a status that says so.

    Errors: InputError for a folder that cannot be made. A training that fails has a status, not an error.
    """
    torch.manual_seed(recipe.seed)
    processes = joined(next(learner.parameters()).device)
    files = request(learner, collection, recipe, labels or {})
    folder = None if out is None or processes.rank else Path(out)
    if folder is not None:
        check_vacant(folder)
    loop = Loop(learner, collection, recipe, None if processes.rank else progress, time_limit, processes=processes)
    writer = None if folder is None else RunWriter(folder, files, checkpoint=TRAININGS.checkpoint)
    return Trained.of_result(trained(loop, files, labels or {}, writer))
