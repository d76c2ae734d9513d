"""Run directories: written beside their place and renamed, so that none is ever partial."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

import physid.door as door
from physid import formats
from physid.errors import InputError
from physid.formats import json_bytes, table_bytes
from physid.inference.fit_options import FitOptions
from physid.inference.result import FitResult
from physid.modelling.catalogue import MODELS
from physid.modelling.model import Model, keyword_names
from physid.ode import Integrator
from physid.predict.forecast import forecast
from physid.report.text import Report
from physid.runs import writer
from physid.runs.archive import experiment_files, joined, statistics_files
from physid.runs.codec import encode, integrator_data, unsaid
from physid.runs.origin import options_data
from physid.store import put, whole

FORMAT = 2


def check(folder: Path) -> None:
    """Errors: InputError when no run directory can be made at `folder`: not empty, a file, or not to be written."""
    if (folder.is_symlink() or folder.exists()) and not folder.is_dir():
        raise InputError(f"{folder} is a file. Choose the name of a new folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not empty. Choose another folder or remove it.")
    above = folder.absolute().parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {above} is no folder that can be. Choose another place.")


def check_integrator(integrator: Integrator | None) -> None:
    """Errors: InputError for an integrator with a function of the user's own in it, which no run directory can hold."""
    lost = [] if integrator is None else [*unsaid(integrator_data(integrator))]
    if lost:
        raise InputError(
            f"the integrator's {', '.join(lost)} is code, which a run directory cannot keep: numbers and the parts of "
            "physid.ode are kept. Choose one of these, or fit without a run directory."
        )


def save(fit: FitResult, folder: Path) -> Path:
    """Write the run: all files into a hidden sibling, which then takes the name; InputError when that fails."""
    check(folder)
    check_integrator(fit.integrator)
    content = contents(fit)
    try:
        with whole(folder) as work:
            for name, data in {**content, formats.SUMS: formats.sums_bytes(content), writer.LOCK: b""}.items():
                put(work / name, data)
            if fit.held:
                put(work / writer.CHECKPOINT, fit.held)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}. Choose another place.") from error
    return folder


def replace(fit: FitResult, folder: Path) -> None:
    """Write a fit over the run of the same request in `folder`; what is there is continued if that fails midway.

    Errors: InputError for a run of another request, one that another process fits into, or that cannot be written.
    """
    if fit.origin is None:
        raise InputError(f"{folder} does not say how it began, so nothing can be added to it. Fit again.")
    keeper = writer.Keeper(folder, fit.origin.files, resumed=True)
    try:
        if fit.held:
            put(folder / writer.CHECKPOINT, fit.held)
        keeper.finish(contents(fit))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        keeper.close()


def contents(fit: FitResult) -> dict[str, bytes]:
    """Every file of the run but the sums."""
    model = {name: value.detach().cpu().contiguous().clone() for name, value in fit.model.state_dict().items()}
    report = Report(fit)
    settings = {
        "format": FORMAT,
        "status": fit.status,
        "message": fit.message,
        "evaluations": fit.evaluations,
        "seconds": fit.seconds,
        "engine": fit.engine,
        "scores": fit.scores,
        "scores_of": fit.scores_of,
        "trivial": fit.trivial,
        "likelihood": None if fit.likelihood is None else fit.likelihood.data(),
        "starts": [asdict(one) for one in fit.starts],
        "paper": fit.paper,
        "gradient_error": fit.gradient_error,
        "free": list(fit.model.free()),
        "settings": fit.settings,
        "integrator": integrator_data(fit.integrator),
    }
    names = list(dict.fromkeys(name for row in fit.history for name in row))
    history = table_bytes(names, [[row.get(name, "") for name in names] for row in fit.history])
    found = {
        "settings.json": json_bytes(settings),
        "environment.json": json_bytes(environment()),
        "history.csv": history,
        "model.safetensors": safetensors.torch.save(model),
        "unknowns.json": json_bytes([asdict(one) for one in fit.estimates]),
        "derived.json": json_bytes(
            {
                "derived": [asdict(one) for one in fit.derived],
                "shares": fit.shares,
                "combinations": [asdict(one) for one in fit.combinations],
            }
        ),
        "report.txt": (str(report) + "\n").encode(),
        "report.json": json_bytes(report.json()),
        **(experiment_files(fit.experiments) if fit.origin is None else fit.origin.files),
        **statistics_files(fit),
    }
    if fit.profiles:
        found["profiles.json"] = json_bytes([asdict(one) for one in fit.profiles])
    if fit.status != "diverged":
        ahead = forecast(fit, _end(fit))
        found["forecast.csv"] = joined(
            fit, ahead.columns, lambda one: (ahead if one is fit else forecast(one, _end(one))).rows()
        )
        found["forecast.json"] = json_bytes({k: v for k, v in ahead.json().items() if k not in ("times", "channels")})
    return found


def _end(fit: FitResult) -> float:
    """The last time at which anything was measured."""
    return float((fit.experiment.test or fit.experiment.train).times[-1])


def request(model: Model, options: FitOptions, labels: Mapping[str, Any]) -> dict[str, Any]:
    """What a fit was asked, as data: request.json but for the sums and the free unknowns."""
    like = next(iter(model.parameters()), torch.empty(0, dtype=torch.float64))
    ties = {name: tie.text for name, tie in model.ties.items()}
    known = {**identity(model), "ties": ties, "dtype": str(like.dtype).removeprefix("torch.")}
    return {"format": FORMAT, "asked": options_data(options, ties), "labels": dict(labels), "identity": known}


def environment() -> dict[str, Any]:
    """What the fit ran on."""
    import scipy

    import physid

    return {
        "physid": physid.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def identity(model: Model) -> dict[str, Any]:
    """Where the model's class is found again, and its constants.

    That is a name of the catalogue, with the package that adds it, or a file with its sha256.
    """
    cls = type(model)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    found: dict[str, Any] = {"model": cls.__name__, "model_file": None, "model_sha256": None}
    name = MODELS.name_of(cls)
    if name is not None:
        found["model"] = name
        if MODELS.owner(name) != "physid":
            found["model_package"] = MODELS.owner(name)
    elif cls.__module__.startswith("physid.models"):
        found["model"] = cls.__name__
    elif file is not None and Path(file).is_file():
        path = Path(file).resolve()
        found["model"] = f"{path.name}:{cls.__qualname__}"
        found["model_file"] = str(path)
        found["model_sha256"] = hashlib.sha256(door.read(path, door.SOURCE)).hexdigest()
    found["constants"] = {name: encode(value) for name, value in constants_of(model).items()}
    return found


def constants_of(model: Model) -> dict[str, Any]:
    """What else than its unknowns a model was made with, by the names of its constructor's arguments."""
    names = [name for name in keyword_names(type(model)) if name not in type(model).unknowns]
    given = {} if model._made is None else model._made.arguments
    now = {name: getattr(model, name, None) for name in names}
    plain = {name: value for name, value in now.items() if isinstance(value, bool | int | float | str)}
    return {name: plain.get(name, given.get(name)) for name in names if name in plain or name in given}
