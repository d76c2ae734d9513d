"""Models of runs: how the class is found again, and the model rebuilt with its state."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

import physid.door as door
from physid.errors import InputError
from physid.formats import Folder
from physid.modelling.address import load_model_file
from physid.modelling.catalogue import MODELS
from physid.modelling.model import Model, keyword_names
from physid.runs.codec import decode, encode, unsaid


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module, each tensor on its own."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}


def identity(model: Model) -> dict[str, Any]:
    """Address of the model's class, and the model's constants.

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
    """Constants of a model beside its unknowns, by the names of its constructor's arguments."""
    names = [name for name in keyword_names(type(model)) if name not in type(model).unknowns]
    given = {} if model._made is None else model._made.arguments
    now = {name: getattr(model, name, None) for name in names}
    plain = {name: value for name, value in now.items() if isinstance(value, bool | int | float | str)}
    return {name: plain.get(name, given.get(name)) for name in names if name in plain or name in given}


def restored(
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
    _tie(made, identity.get("ties", {}))
    for name in made.unknowns:
        if name not in made.ties:
            (made.release if name in free else made.fix)(name)
    return made


def _made(run: Folder, identity: dict[str, Any], state: dict[str, Tensor], trust: bool) -> Model:
    """The model, rebuilt from the constants and the unknowns of the run."""
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
