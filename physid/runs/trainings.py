"""Run directories of trainings: what is written, and how it is read again; nothing is unpickled."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import physid.door as door
from physid.data.catalogue import CATALOG
from physid.errors import InputError
from physid.formats import Folder, json_bytes, table_bytes
from physid.runs.fits import FORMAT, environment
from physid.runs.training_checkpoint import DAMAGE, state_of
from physid.runs.writer import REQUEST
from physid.training.learner import Collection, Learner
from physid.training.networks import COLLECTIONS, NETWORKS, collect, network
from physid.training.processes import local
from physid.training.recipe import Recipe
from physid.training.result import TrainingResult

KIND = "training"


def request(learner: Learner, collection: Collection, recipe: Recipe, labels: Mapping[str, Any]) -> dict[str, bytes]:
    """What a training begins with, as the files of a run: request.json."""
    like = next(learner.parameters())
    about = {
        "format": FORMAT,
        "kind": KIND,
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


def contents(trained: TrainingResult, origin: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every file of the run but the sums."""
    names = list(dict.fromkeys(name for row in trained.history for name in row))
    about = {"format": FORMAT, "kind": KIND, "status": trained.status, "message": trained.message}
    return {
        **origin,
        "settings.json": json_bytes({**about, "seconds": trained.seconds}),
        "environment.json": json_bytes(environment()),
        "metrics.csv": table_bytes(names, [[row.get(name, "") for name in names] for row in trained.history]),
        "model.safetensors": safetensors.torch.save(state_of(trained.learner)),
        "report.txt": (str(trained) + "\n").encode(),
        "report.json": json_bytes(trained.json()),
    }


def is_training(folder: str | Path) -> bool:
    """Whether a run directory is that of a training, finished or not."""
    try:
        return bool(json.loads(door.inside(Path(folder), REQUEST)).get("kind") == KIND)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def begun(folder: Path, learner: Learner | None) -> tuple[Learner, Collection, Recipe, dict[str, Any]]:
    """What the training in `folder`, finished or not, began with, and its request.

    Errors: InputError for what is no such run, and when the data are no longer what they were.
    """
    _, about = Folder.begun(folder)
    if about.get("kind") != KIND or about.get("format") != FORMAT:
        raise InputError(f"{folder} is no training of this version of physid. Give one that it wrote.")
    try:
        collection = _collection(about)
        if json.loads(json_bytes(collection.describe())) != about["data"]:
            raise InputError(f"the data set {collection.name} is not what it was when {folder} began. Train anew.")
        recipe = Recipe.of(about["recipe"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)  # so that a training without a checkpoint starts from the same weights
            learner = _learner(about, collection) if learner is None else learner
        learner.to(device=local(about["device"]), dtype=getattr(torch, about["dtype"]))
        return learner, collection, recipe, about
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {error}. Use a copy.") from error


def load(folder: Path, learner: Learner | None) -> TrainingResult:
    """The training in `folder`; see Trained.load."""
    run = Folder(folder)
    found, collection, recipe, about = begun(folder, learner)
    settings = run.json("settings.json")
    try:
        found.load_state_dict(safetensors.torch.load(run.read("model.safetensors")))
        trained = TrainingResult(
            learner=found,
            collection=collection,
            recipe=recipe,
            history=_history(run.read("metrics.csv").decode()),
            status=settings["status"],
            message=settings["message"],
            seconds=settings["seconds"],
            labels=about["labels"],
            data=about["data"],
        )
        trained.exit_code  # noqa: B018 (a status that cannot be)
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {error}. Use a copy.") from error
    return trained


def _collection(about: Mapping[str, Any]) -> Collection:
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


def _history(text: str) -> list[dict[str, Any]]:
    """The rows of metrics.csv, with numbers for numbers."""
    rows = csv.DictReader(io.StringIO(text))
    return [{n: int(v) if n == "epoch" else float(v) for n, v in row.items() if v != ""} for row in rows]
