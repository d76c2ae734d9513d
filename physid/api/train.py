"""`train` and Trained: from a learner and a collection to trained weights, and a run directory that survives."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

import physid.door as door
from physid.errors import Diverged, InputError
from physid.formats import SUMS, sha256
from physid.inference.search.monitor import Progress
from physid.ode.hearing import TimeUp
from physid.runs import fits as folders
from physid.runs import trainings
from physid.runs.training_checkpoint import CHECKPOINT, DAMAGE, recall, snapshot
from physid.runs.writer import REQUEST, Keeper, StartsAnew
from physid.training.board import Board
from physid.training.learner import Collection, Learner
from physid.training.loop import Loop
from physid.training.processes import joined, left
from physid.training.recipe import Recipe
from physid.training.result import FINISHED, TrainingResult


class Trained(TrainingResult):
    """The result of `train`, which is saved by its training, and is loaded and gone on with from its run directory."""

    @classmethod
    def of_result(cls, found: TrainingResult) -> Self:
        """The same result, with what can be done with it."""
        return cls(**{one.name: getattr(found, one.name) for one in fields(found)})

    @classmethod
    def load(cls, folder: str | Path, learner: Learner | None = None) -> Self:
        """The training saved in the run directory `folder`; a learner of the catalogue is built by its name.

        Errors: InputError for what is no intact run, and for a learner that is in no catalogue and was not given.
        """
        return cls.of_result(trainings.load(Path(folder), learner))

    @classmethod
    def resume(cls, folder: str | Path, learner: Learner | None = None, **how: Any) -> Self:
        """Go on with the training in `folder` from its last checkpoint; `how`: progress, time_limit.

        On a CPU the weights become those of a training that nothing disturbed, bit for bit. Errors: as of `load`.
        """
        return cls.of_result(resume(Path(folder), learner, **how))


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
    origin = trainings.request(learner, collection, recipe, labels or {})
    if out is not None and not processes.rank:
        folders.check(Path(out))
    loop = Loop(learner, collection, recipe, None if processes.rank else progress, time_limit, processes=processes)
    keeper = None if out is None or processes.rank else Keeper(Path(out), origin, checkpoint=CHECKPOINT)
    return Trained.of_result(_finish(loop, origin, labels or {}, keeper))


def resume(
    folder: Path,
    learner: Learner | None = None,
    progress: Progress | None = None,
    time_limit: float | None = None,
) -> TrainingResult:
    """Go on with the training in `folder`; see Trained.resume."""
    if door.there(folder, SUMS):
        found = trainings.load(folder, learner)
        if found.status in (FINISHED, "diverged"):
            return found
    learner, collection, recipe, about = trainings.begun(folder, learner)
    origin = {REQUEST: door.inside(folder, REQUEST)}
    processes = joined(next(learner.parameters()).device)
    keeper = None if processes.rank else Keeper(folder, origin, resumed=True, checkpoint=CHECKPOINT)
    loop = Loop(learner, collection, recipe, None if processes.rank else progress, time_limit, processes=processes)
    try:
        if door.there(folder, CHECKPOINT):
            recall(loop, door.inside(folder, CHECKPOINT), sha256(origin[REQUEST]))
        else:
            warnings.warn(f"{folder} has no {CHECKPOINT}: the training starts anew.", StartsAnew, stacklevel=3)
            torch.manual_seed(recipe.seed)
    except (OSError, *DAMAGE) as error:
        if keeper is not None:
            keeper.close()
        raise InputError(
            f"{folder / CHECKPOINT} is damaged: {error}. Remove it, and the training starts anew."
        ) from None
    return _finish(loop, origin, about["labels"], keeper)


def _finish(
    loop: Loop, origin: Mapping[str, bytes], labels: Mapping[str, Any], keeper: Keeper | None
) -> TrainingResult:
    """Train from where `loop` stands, and leave the run with its keeper."""
    data = partial(snapshot, loop, sha256(origin[REQUEST]))
    board = None if keeper is None else Board(keeper.folder)
    if keeper is not None:
        loop.keep, loop.board = lambda loop: keeper("training", data), board
    status, message = FINISHED, "All epochs are done."
    try:
        try:
            loop.run()
        except KeyboardInterrupt:
            status, message = "interrupted", "Interrupted; physid resume goes on."
        except TimeUp:
            status, message = "time limit", f"The time limit of {loop.time_limit:g} s ran out; physid resume goes on."
        except Diverged as error:
            status, message = "diverged", f"{str(error)[:1].upper()}{str(error)[1:]}"
        about = loop.collection.describe()
        parts = (loop.learner, loop.collection, loop.recipe, loop.history, status, message, loop.seconds)
        trained = TrainingResult(*parts, labels, about)
        if keeper is not None:
            keeper.keep("end", data)
            keeper.finish(trainings.contents(trained, origin))
        loop.processes.number(0.0, loop.device)  # none ends before the run is written, or torchrun would end them all
    finally:
        if keeper is not None:
            keeper.close()
        if board is not None:
            board.close()
        left()
    return trained
