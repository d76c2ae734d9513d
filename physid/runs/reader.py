"""Run directories read again: the finished fit, or where it began; nothing is unpickled, no code runs unasked."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

import physid.door as door
from physid.data.experiment import Experiment
from physid.data.holdout import split
from physid.errors import InputError
from physid.formats import Folder
from physid.inference.result import FitResult
from physid.inference.search.one_start import Start
from physid.inference.uncertainty.information import Likelihood
from physid.inference.uncertainty.profile_curve import Profile
from physid.modelling.address import load_model_file
from physid.modelling.catalogue import MODELS
from physid.modelling.model import Model, keyword_names
from physid.report.text import Report
from physid.runs import writer
from physid.runs.archive import (
    compare,
    read_derived,
    read_estimates,
    read_experiments,
    read_integrator,
    read_statistics,
)
from physid.runs.codec import decode, unsaid
from physid.runs.fits import FORMAT
from physid.runs.origin import Origin

PROFILES = "profiles.json"
# what comes of content of another kind than was written
FAULTS = (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, RuntimeError, csv.Error)


@dataclass(frozen=True)
class Beginning:
    """What a run began with: the model and the experiments as they were, what was asked, and the last checkpoint."""

    model: Model
    experiments: list[Experiment]
    origin: Origin
    labels: dict[str, Any]
    checkpoint: bytes


def beginning(folder: Path, model: Model | None, trust: bool) -> Beginning:
    """What the run at `folder`, finished or not, began with.

    Errors: InputError for what is no run, for damage, and for a model that is in no catalogue and no trusted file.
    """
    run, request = Folder.begun(folder)
    if request.get("format") != FORMAT:
        raise InputError(f"{folder} has another format than {FORMAT}, the one this physid reads. Use its own version.")
    try:
        experiments = read_experiments(run)
        model = _restore(run, writer.START, request["identity"], request["free"], model, trust)
        names = (writer.REQUEST, writer.START, "data.json", "data.npz")
        origin = Origin({name: run.read(name) for name in names})
        labels = dict(request["labels"])
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {error}. Use a copy.") from error
    return Beginning(model, experiments, origin, labels, _held(folder))


def load(folder: Path, model: Model | None, trust: bool) -> FitResult:
    """The run at `folder`; see Fit.load."""
    run = Folder(folder)
    about = run.json("settings.json")
    if isinstance(about, dict) and about.get("kind") == "training":
        raise InputError(f"{folder} is a training of a network, which has no unknowns. Use physid report {folder}.")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{folder} has another format than {FORMAT}, the one this physid reads. Use its own version.")
    try:
        settings = about["settings"]
        holdout = settings.get("holdout") if writer.REQUEST in run.sums else None
        experiments, _ = split(read_experiments(run), holdout)
        model = _restore(run, "model.safetensors", settings, about["free"], model, trust)
        statistics, x = read_statistics(run)
        fit = FitResult(
            model=model,
            experiment=experiments[0],
            experiments=experiments,
            integrator=read_integrator(about),
            settings=settings,
            history=_history(run),
            status=about["status"],
            message=about["message"],
            x=x,
            estimates=read_estimates(run),
            statistics=statistics,
            scores=about["scores"],
            scores_of=about.get("scores_of", {}),
            trivial=about.get("trivial", {}),
            likelihood=Likelihood(**about["likelihood"]) if about.get("likelihood") else None,
            starts=[Start.of(one) for one in about.get("starts", ())],
            evaluations=about["evaluations"],
            seconds=about["seconds"],
            engine=about["engine"],
            paper=about["paper"],
            origin=_origin(run),
            held=_held(folder),
            profiles=_profiles(run),
            gradient_error=about.get("gradient_error"),
        )
        fit.derived, fit.shares, fit.combinations = read_derived(run)
        saved = run.archive("covariance.npz")
        fit.members, before = list(saved.get("members", ())), (saved["rate"], saved["seen"])
        fit.exit_code, fit.vector.put(x)  # a status or a vector that cannot be
        report = Report(fit)  # made of every field: one of another kind than it was written with cannot be reported
        str(report), report.json()
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {error}. Use a copy.") from error
    compare(before, fit)
    return fit


def _restore(
    run: Folder, file: str, identity: dict[str, Any], free: list[str], model: Model | None, trust: bool
) -> Model:
    """The model with the state of `file`: the one given, or one of the saved class."""
    try:
        state = safetensors.torch.load(run.read(file))
    except (safetensors.SafetensorError, ValueError):
        raise run.strange(file, "a safetensors file") from None
    made = _made(run, identity, state, trust) if model is None else model
    try:
        made.to(dtype=getattr(torch, identity["dtype"]))
        made.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{type(made).__name__} has other parts than the model of the run ({_first_line(error)}). Give it as it "
            "was made, Fit.load(folder, model=...)."
        ) from error
    model = made
    _tie(model, identity.get("ties", {}))
    for name in model.unknowns:
        if name not in model.ties:
            (model.release if name in free else model.fix)(name)
    return model


def _made(run: Folder, identity: dict[str, Any], state: dict[str, torch.Tensor], trust: bool) -> Model:
    """The model, made anew from the constants and the unknowns of the run."""
    cls = _find(identity, trust)
    constants = identity["constants"]
    natural = {name.removeprefix("natural."): value for name, value in state.items() if "natural." in name}
    known = {name: decode(value) for name, value in constants.items() if not [*unsaid(value)]}
    offered = {**decode(run.json("data.json")["constants"]), **known, **natural}
    try:
        return cls(**{name: offered[name] for name in keyword_names(cls) if name in offered})
    except TypeError as error:
        lost = [*unsaid(constants)]
        why = f"was made with {', '.join(lost)}, which a run does not hold" if lost else _first_line(error)
        raise InputError(
            f"the model {identity['model']} of the run cannot be made again: {why}. Give it as it was made, "
            "Fit.load(folder, model=...)."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:")


def _tie(model: Model, ties: dict[str, str | None]) -> None:
    """Tie the unknowns that were tied, and no others. Errors: InputError for a tie by a function that is not there."""
    for name in [name for name in model.ties if name not in ties]:
        model.untie(name)
    for name, text in ties.items():
        if text is not None:
            model.tie(name, text)
        elif name not in model.ties:
            raise InputError(
                f"{name} was tied by a function, which a run does not hold. Give the model with that tie, "
                "Fit.load(folder, model=...)."
            )


def _find(settings: dict[str, Any], trust: bool) -> type[Model]:
    """The saved class: of the catalogue, or of an unchanged file that is trusted."""
    name, file = settings["model"], settings["model_file"]
    if file is None:
        package = settings.get("model_package", "physid")
        if name in MODELS and MODELS.owner(name).split()[:1] == package.split()[:1]:
            return MODELS.lookup(name)
        if package != "physid":
            raise InputError(
                f"the model {name} of the run is of the package {package}, which does not offer it here. Install it, "
                "or give the model, Fit.load(folder, model=...)."
            )
        raise InputError(
            f"the model {name} of the run is in no file and no catalogue. Give it, Fit.load(folder, model=...)."
        )
    path = Path(file)
    if not trust:
        raise InputError(
            f"the run's model is in {path}, which would have to be executed. If you trust that file, say so: --trust, "
            "or Fit.load(folder, trust=True)."
        )
    source = door.read(path, door.SOURCE) if path.is_file() else b""
    if hashlib.sha256(source).hexdigest() != settings["model_sha256"]:
        raise InputError(
            f"{path} is missing or has changed since the fit. Give the model, Fit.load(folder, model=...)."
        )
    return load_model_file(path, name.rpartition(":")[2], source)


def _origin(run: Folder) -> Origin | None:
    """How the fit began, if the run says so."""
    names = (writer.REQUEST, writer.START, "data.json", "data.npz")
    return Origin({name: run.read(name) for name in names}) if writer.REQUEST in run.sums else None


def _held(folder: Path) -> bytes:
    """The last checkpoint, none if there is none."""
    try:
        return door.inside(folder, writer.CHECKPOINT)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"{folder / writer.CHECKPOINT} cannot be read: {error.strerror}. Use a copy.") from None


def _profiles(run: Folder) -> list[Profile]:
    """The profiles that were made, if there are any."""
    rows: list[dict[str, Any]] = run.json(PROFILES) if PROFILES in run.sums else []
    for row in rows:
        row |= {name: np.array(row[name]) for name in ("values", "tau", "better") if row[name] is not None}
    return [Profile(**row) for row in rows]


def _history(run: Folder) -> list[dict[str, Any]]:
    """The history of a run, with numbers for numbers."""
    rows = csv.DictReader(io.StringIO(run.read("history.csv").decode(errors="replace")))
    return [{name: _number(value) for name, value in row.items() if value != ""} for row in rows]


def _number(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
