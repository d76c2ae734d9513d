"""From the options of a fit to the arguments of `physid.fit`, checked before any data are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from physid import settings
from physid.data.experiment import Experiment
from physid.errors import InputError, MissingError, unknown_name
from physid.inference.assemble import suited
from physid.inference.options import FitPlan, adapted, chooses, default_integrator, resolve
from physid.modelling.address import contained
from physid.modelling.model import Model
from physid.ode import Integrator
from physid.ode.dispatch import check_engine
from physid.ode.methods import catalogue

NAMES = (
    *("optimizer", "strategy", "protocol", "gradient", "epochs", "lr", "seed", "time_limit"),
    *("loss", "loss_scale", "starts", "workers", "holdout", "probes"),
)
UNKNOWNS = ("fix", "free", "tie")
DEFAULTS = {"protocol": "default", "seed": 0, "starts": 1}
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def fit_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `physid.fit`; InputError for unknown names and for options that contradict each other."""
    arguments = {name: options[name] for name in NAMES}
    arguments["noise"], arguments["seeds"] = options["noise_model"], options["ensemble"]
    arguments["integrator"] = _integrator(options)
    plan(arguments)
    return arguments | {name: options[name] for name in UNKNOWNS}


def merged(options: Mapping[str, Any], experiment: str | None = None) -> dict[str, Any]:
    """The options with those of the settings file where nothing was typed, and the defaults where neither says more.

    Data files in the settings, and what they say of its initial state, do not count where an `experiment` was typed.
    """
    path = options["settings_file"]
    given = {} if path is None else settings.load(path)
    data = given.pop("data", [])
    if experiment is None:
        given["data"] = [data] if isinstance(data, str) else data
    elif data:
        given.pop("initial", None)
    found = {**options, "fix": pairs("fix", options["fix"], number=True), "tie": pairs("tie", options["tie"])}
    found["free"] = list(options["free"])
    for name in settings.KEYS:
        if found[name] in (None, [], {}):
            found[name] = given.get(name, DEFAULTS.get(name, found[name]))
        elif isinstance(found[name], dict):
            found[name] = {**given.get(name, {}), **found[name]}
    return found


def pairs(option: str, texts: Sequence[str], number: bool = False) -> dict[str, Any]:
    """NAME=VALUE as a mapping, with numbers for values (a NAME alone: None) or with text; InputError otherwise."""
    found: dict[str, Any] = {}
    for text in texts:
        name, given, value = (part.strip() for part in text.partition("="))
        try:
            numbers = [float(one) for one in value.split(",")] if number and given else []
        except ValueError:
            raise InputError(
                f"--{option} {text}: '{value}' is no number. Write NAME=1.5, or NAME=1,2 for two."
            ) from None
        if not name or (not number and not value):
            raise InputError(f"--{option} {text} is not NAME=VALUE. Write it so.")
        found[name] = value if not number else None if not numbers else numbers[0] if len(numbers) == 1 else numbers
    return found


def plan(arguments: Mapping[str, Any]) -> FitPlan:
    """What a fit with these arguments would do."""
    return resolve(**{name: value for name, value in arguments.items() if name not in UNKNOWNS})


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the integrator that were asked for."""
    names = ("solver", "rtol", "atol", "max_steps", "engine")
    return {name: options[name] for name in names if options[name] is not None}


def _integrator(options: Mapping[str, Any]) -> Integrator | None:
    """The optimizer's or protocol's integrator with what was asked for changed; None if nothing was."""
    changes = _typed(options)
    if not changes:
        return None
    if "solver" in changes:
        catalogue.lookup(changes["solver"])
    check_engine(changes.get("engine", "auto"))
    return adapted(default_integrator(options["optimizer"], options["protocol"]), changes)


def integrator_of(
    options: Mapping[str, Any], arguments: Mapping[str, Any], model: Model, experiment: Experiment
) -> Integrator | None:
    """The integrator that model and experiment would be fitted by, with what was asked for changed; None if nothing."""
    changes = _typed(options)
    if not changes:
        return None
    with contained():
        found: Integrator = suited({**arguments, "integrator": None}, model, experiment, changes)["integrator"]
    return found


def unheeded(options: Mapping[str, Any], integrator: Integrator | None) -> str:
    """What is said of tolerances that were asked for where no step goes by them; else nothing."""
    asked = [f"--{name}" for name in ("rtol", "atol") if options[name] is not None]
    if integrator is None or not asked or chooses(integrator):
        return ""
    solver = integrator.solver if isinstance(integrator.solver, str) else integrator.solver.name
    return (
        f"{' and '.join(asked)} changes no step: {solver}, by which this is solved, takes steps of fixed length. "
        "Add --solver dopri8 for steps that go by it."
    )


def place(model: nn.Module, device: str, dtype: str) -> None:
    """Move `model` to a device and a precision; InputError for names, MissingError for a device that is not there."""
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    try:
        target = torch.device(device)
    except RuntimeError:
        raise InputError(f"unknown device '{device}'. Allowed: cpu, cuda, cuda:N.") from None
    if target.type not in ("cpu", "cuda"):
        raise InputError(f"device '{device}' cannot be used. Allowed: cpu, cuda, cuda:N.")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise MissingError(f"device '{device}' is not there: torch sees {torch.cuda.device_count()}. Use --device cpu.")
    model.to(device=target, dtype=DTYPES[dtype])
