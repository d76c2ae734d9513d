"""TRAININGS: trainings of networks as run directories; what was trained, and where the loop stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

import physid.door as door
from physid.data.catalogue import CATALOG
from physid.errors import Diverged, InputError
from physid.formats import Folder, json_bytes, rows_bytes, rows_of, sha256, sound
from physid.inference.search.monitor import Progress
from physid.machine import environment
from physid.ode.hearing import TimeUp
from physid.runs.format import LAYOUT, SETTINGS, CheckpointFormat, Run, checked, kind_of
from physid.runs.models import state_of
from physid.runs.writer import REQUEST, RunWriter
from physid.training.board import Board
from physid.training.learner import Collection, Learner
from physid.training.loop import Loop
from physid.training.networks import COLLECTIONS, NETWORKS, collect, network
from physid.training.processes import joined, left, local
from physid.training.recipe import Recipe
from physid.training.result import FINISHED, TrainingResult

CHECKPOINT = "checkpoint.safetensors"
METRICS, WEIGHTS = "metrics.csv", "model.safetensors"


class TrainingFormat(CheckpointFormat[TrainingResult, Loop]):
    """Trainings of networks: recipe, metrics by epoch, weights, reports; the loop as plain tensors."""

    kind = "training"
    noun = "a training of a network"
    checkpoint = CHECKPOINT
    ended = (FINISHED, "diverged")

    def encode(self, result: TrainingResult) -> dict[str, bytes]:
        """Every file of the finished run but those it began with, and the sums."""
        about = {name: getattr(result, name) for name in ("status", "message", "seconds")}
        return {
            SETTINGS: json_bytes({"format": LAYOUT, "kind": self.kind, **about}),
            "environment.json": json_bytes(environment()),
            METRICS: rows_bytes(result.history),
            WEIGHTS: safetensors.torch.save(state_of(result.learner)),
            "report.txt": (str(result) + "\n").encode(),
            "report.json": json_bytes(result.json()),
        }

    def decode(self, run: Run) -> TrainingResult:
        """The result of a finished run. No code of a run is executed."""
        files = run.files
        learner, collection, recipe, about = begun(run.path, run.part)
        settings = checked(files.json(SETTINGS), run.path)
        with sound(run.path):
            history = rows_of(files.read(METRICS))
            if any(isinstance(value, str) for row in history for value in row.values()):
                raise TypeError(f"{METRICS} holds what is no number")
            learner.load_state_dict(_tensors(files.read(WEIGHTS)))
            trained = TrainingResult(
                learner=learner,
                collection=collection,
                recipe=recipe,
                history=history,
                status=settings["status"],
                message=settings["message"],
                seconds=settings["seconds"],
                labels=about["labels"],
                data=about["data"],
            )
            trained.exit_code  # noqa: B018 (a status that cannot be)
            return trained

    def state(self, live: Loop, request: str) -> bytes:
        """State of a training: weights, moments, random state, counts and history as plain tensors."""
        tensors = {f"learner.{name}": value for name, value in state_of(live.learner).items()}
        for number, moments in live.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{number}.{name}"] = value.detach().cpu().contiguous().clone()
        tensors["random.cpu"] = torch.get_rng_state()
        if live.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(live.device)
        about = {"request": request, "epoch": live.epoch, "step": live.step, "sums": live.sums}
        about |= {"history": live.history, "seconds": live.seconds}
        tensors["about"] = torch.from_numpy(np.frombuffer(json_bytes(about), np.uint8).copy())
        return safetensors.torch.save(tensors)

    def restore(self, live: Loop, data: bytes, request: str) -> None:
        """Put the loop where the training stood."""
        tensors = _tensors(data)
        about: dict[str, Any] = json.loads(tensors["about"].numpy().tobytes())
        if about["request"] != request:
            raise ValueError("the checkpoint belongs to another training")
        live.learner.load_state_dict(_part(tensors, "learner."))
        state: dict[int, dict[str, Any]] = {}
        for name, value in _part(tensors, "optimizer.").items():
            number, _, moment = name.partition(".")
            state.setdefault(int(number), {})[moment] = value
        live.optimizer.load_state_dict({**live.optimizer.state_dict(), "state": state})
        torch.set_rng_state(tensors["random.cpu"])
        if live.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], live.device)
        live.epoch, live.step, live.sums = about["epoch"], about["step"], about["sums"]
        live.history, live.before = about["history"], about["seconds"]

    def resume(self, run: Run, progress: Progress | None, limit: float | None) -> TrainingResult:
        """Continue the training from its checkpoint, and finish the run."""
        learner, collection, recipe, about = begun(run.path, run.part)
        files = {REQUEST: door.inside(run.path, REQUEST)}
        processes = joined(next(learner.parameters()).device)
        writer = None if processes.rank else RunWriter(run.path, files, resumed=True, checkpoint=CHECKPOINT)
        loop = Loop(learner, collection, recipe, None if processes.rank else progress, limit, processes=processes)
        try:
            if not self.restored(run, loop, sha256(files[REQUEST])):
                torch.manual_seed(recipe.seed)
        except BaseException:
            if writer is not None:
                writer.close()
            raise
        return trained(loop, files, about["labels"], writer)


TRAININGS = TrainingFormat()


def trained(
    loop: Loop, files: Mapping[str, bytes], labels: Mapping[str, Any], writer: RunWriter | None
) -> TrainingResult:
    """Train from where `loop` stands, and finish the run that began with `files`, where there is a writer of it."""
    state = partial(TRAININGS.state, loop, sha256(files[REQUEST]))
    board = None if writer is None else Board(writer.folder)
    if writer is not None:
        loop.keep, loop.board = lambda loop: writer("training", state), board
    status, message = FINISHED, "All epochs are done."
    try:
        try:
            loop.run()
        except KeyboardInterrupt:
            status, message = "interrupted", "Interrupted; physid resume continues."
        except TimeUp:
            status, message = "time limit", f"The time limit of {loop.time_limit:g} s ran out; physid resume continues."
        except Diverged as error:
            status, message = "diverged", f"{str(error)[:1].upper()}{str(error)[1:]}"
        about = loop.collection.describe()
        parts = (loop.learner, loop.collection, loop.recipe, loop.history, status, message, loop.seconds)
        found = TrainingResult(*parts, labels, about)
        if writer is not None:
            writer.keep("end", state)
            writer.finish(TRAININGS.encode(found))
        loop.processes.number(0.0, loop.device)  # none ends before the run is written, or torchrun would end them all
    finally:
        if writer is not None:
            writer.close()
        if board is not None:
            board.close()
        left()
    return found


def request(learner: Learner, collection: Collection, recipe: Recipe, labels: Mapping[str, Any]) -> dict[str, bytes]:
    """Request of a training, as the files of a run: request.json."""
    like = next(learner.parameters())
    about = {
        "format": LAYOUT,
        "kind": TrainingFormat.kind,
        "sums": {},
        "learner": {**learner.identity, "class": type(learner).__name__},
        "dtype": str(like.dtype).removeprefix("torch."),
        "device": str(like.device),
        "collection": {"name": collection.name, "options": dict(collection.options)},
        "data": collection.describe(),
        "recipe": recipe.data(),
        "labels": dict(labels),
    }
    return {REQUEST: json_bytes(about)}


def begun(folder: Path, learner: Learner | None) -> tuple[Learner, Collection, Recipe, Mapping[str, Any]]:
    """Learner, collection and recipe of the training in `folder`, finished or not, and its request.

    Errors: InputError for what is no such run, and when the data are no longer what they were.
    """
    about = checked(Folder.begun(folder)[1], folder)
    with sound(folder):
        collection = _collection(about)
        if json.loads(json_bytes(collection.describe())) != about["data"]:
            raise InputError(f"the data set {collection.name} is not what it was when {folder} began. Train anew.")
        recipe = Recipe.of(about["recipe"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)  # so that a training without a checkpoint starts from the same weights
            learner = _learner(about, collection) if learner is None else learner
        learner.to(device=local(about["device"]), dtype=getattr(torch, about["dtype"]))
        return learner, collection, recipe, about


def is_training(folder: str | Path) -> bool:
    """Whether a run directory is that of a training, finished or not."""
    return kind_of(Path(folder)) == TrainingFormat.kind


def _tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Errors: ValueError for anything else."""
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _collection(about: Mapping[str, Any]) -> Collection:
    """The collection that the run names, or one made of the experiment that it names."""
    name, options = about["collection"]["name"], about["collection"]["options"]
    entry = NETWORKS.get(about["learner"].get("model", ""))
    if name not in COLLECTIONS and name in CATALOG and entry is not None and entry.collect is not None:
        return entry.collect(CATALOG[name].load(**options))
    return collect(name, **options)


def _learner(about: Mapping[str, Any], collection: Collection) -> Learner:
    """The learner of the catalogue that the run names."""
    known = about["learner"]
    if "model" not in known:
        raise InputError(
            f"the learner {known['class']} of the run is in no catalogue. Give it, Trained.load(folder, learner=...)."
        )
    return network(known["model"], collection, **known["options"])
