"""Run directories: written beside their place and renamed, so that none is ever partial; read without unpickling."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch

from physid.errors import InputError
from physid.fitting import files
from physid.fitting.files import Folder, json_bytes, table_bytes
from physid.modelfile import load_model_file
from physid.spec import Model, keyword_names

if TYPE_CHECKING:
    from physid.fitting.result import Fit

FORMAT = 1


def check(folder: Path) -> None:
    """Errors: InputError when no run directory can be made at `folder`: not empty, a file, or not to be written."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is a file. Choose the name of a new folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not empty. Choose another folder or remove it.")
    above = folder.absolute().parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {above} is no folder that can be. Choose another place.")


def save(fit: Fit, folder: Path) -> Path:
    """Write the run: all files into a hidden sibling, which then takes the name; InputError when that fails."""
    check(folder)
    content = contents(fit)
    content[files.SUMS] = files.sums_bytes(content)
    work: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        for name, data in content.items():
            _write(work / name, data)
        os.chmod(work, 0o755)
        os.rename(work, folder)  # onto nothing or an empty folder; fails where another run came first
        work = None
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}. Choose another place.") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _write(path: Path, data: bytes) -> None:
    """Write a file and see that it reached the disk before the folder takes its name."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def contents(fit: Fit) -> dict[str, bytes]:
    """Every file of the run but the sums."""
    from physid.fitting.archive import experiment_files, statistics_files

    model = {name: value.detach().cpu().contiguous().clone() for name, value in fit.model.state_dict().items()}
    report = fit.report()
    settings = {
        "format": FORMAT,
        "status": fit.status,
        "message": fit.message,
        "evaluations": fit.evaluations,
        "seconds": fit.seconds,
        "engine": fit.engine,
        "scores": fit.scores,
        "paper": fit.paper,
        "free": list(fit.model.free()),
        "settings": fit.settings,
    }
    names = list(dict.fromkeys(name for row in fit.history for name in row))
    history = table_bytes(names, [[row.get(name, "") for name in names] for row in fit.history])
    found = {
        "settings.json": json_bytes(settings),
        "environment.json": json_bytes(environment()),
        "history.csv": history,
        "model.safetensors": safetensors.torch.save(model),
        "unknowns.json": json_bytes([asdict(one) for one in fit.estimates]),
        "report.txt": (str(report) + "\n").encode(),
        "report.json": json_bytes(report.json()),
        **experiment_files(fit.experiment),
        **statistics_files(fit),
    }
    if fit.status != "diverged":
        last = fit.experiment.test or fit.experiment.train
        forecast = fit.forecast(float(last.times[-1]))
        found["forecast.csv"] = table_bytes(forecast.columns, forecast.rows().tolist())
    return found


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
    """Where the model's class is found again: a name of the catalogue, or a file with its sha256; and its constants."""
    cls = type(model)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    found: dict[str, Any] = {"model": cls.__name__, "model_file": None, "model_sha256": None}
    if cls.__module__.startswith("physid.models"):
        from physid.models import MODELS

        names = [name for name, known in MODELS.items() if known is cls]
        found["model"] = names[0] if names else cls.__name__
    elif file is not None and Path(file).is_file():
        path = Path(file).resolve()
        found["model"] = f"{path.name}:{cls.__qualname__}"
        found["model_file"] = str(path)
        found["model_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    attributes = {name: getattr(model, name, None) for name in keyword_names(cls) if name not in model.unknowns}
    found["constants"] = {k: v for k, v in attributes.items() if isinstance(v, bool | int | float | str)}
    return found


def load(folder: Path, model: Model | None, trust: bool) -> Fit:
    """The run at `folder`; see Fit.load."""
    from physid.fitting.archive import compare, read_estimates, read_experiment, read_integrator, read_statistics
    from physid.fitting.result import Fit

    run = Folder(folder)
    about = run.json("settings.json")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{folder} has another format than {FORMAT}, the one this physid reads. Use its own version.")
    try:
        settings = about["settings"]
        experiment = read_experiment(run)
        model = _restore(run, about, model, trust)
        statistics, x = read_statistics(run)
        fit = Fit(
            model=model,
            experiment=experiment,
            integrator=read_integrator(settings),
            settings=settings,
            history=_history(run),
            status=about["status"],
            message=about["message"],
            x=x,
            estimates=read_estimates(run),
            statistics=statistics,
            scores=about["scores"],
            evaluations=about["evaluations"],
            seconds=about["seconds"],
            engine=about["engine"],
            paper=about["paper"],
        )
        fit.exit_code, fit.vector.put(x)  # a status or a vector that cannot be
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {error}. Use a copy.") from error
    compare(run, fit)
    return fit


def _restore(run: Folder, about: dict[str, Any], model: Model | None, trust: bool) -> Model:
    """The model with the saved state: the one given, or one of the saved class."""
    settings = about["settings"]
    try:
        state = safetensors.torch.load(run.read("model.safetensors"))
    except (safetensors.SafetensorError, ValueError):
        raise run.strange("model.safetensors", "a safetensors file") from None
    if model is None:
        cls = _find(settings, trust)
        natural = {name.removeprefix("natural."): value for name, value in state.items() if "natural." in name}
        offered = {**run.json("data.json")["constants"], **settings["constants"], **natural}
        model = cls(**{name: offered[name] for name in keyword_names(cls) if name in offered})
    model.to(dtype=getattr(torch, settings["dtype"]))
    model.load_state_dict(state)
    for name in model.unknowns:
        if name not in model.ties:
            (model.release if name in about["free"] else model.fix)(name)
    for name, text in settings.get("ties", {}).items():
        if text is not None:
            model.tie(name, text)
    return model


def _find(settings: dict[str, Any], trust: bool) -> type[Model]:
    """The saved class: of the catalogue, or of an unchanged file that is trusted."""
    name, file = settings["model"], settings["model_file"]
    if file is None:
        from physid.models import MODELS

        if name in MODELS:
            return MODELS[name]
        raise InputError(
            f"the model {name} of the run is in no file and no catalogue. Give it, Fit.load(folder, model=...)."
        )
    path = Path(file)
    if not trust:
        raise InputError(
            f"the run's model is in {path}, which would have to be executed. If you trust that file, say so: --trust, "
            "or Fit.load(folder, trust=True)."
        )
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != settings["model_sha256"]:
        raise InputError(
            f"{path} is missing or has changed since the fit. Give the model, Fit.load(folder, model=...)."
        )
    return load_model_file(path, name.rpartition(":")[2])


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
