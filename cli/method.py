"""From the options of a fit to the arguments of `physid.fit`, checked before any data are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from physid.errors import InputError, MissingError, unknown_name
from physid.experiment import Experiment
from physid.fitting import settings
from physid.fitting.plan import Plan, adapted, default_integrator, number_of, resolve
from physid.fitting.probing import worth_probing
from physid.modelfile import contained
from physid.ode import Integrator, tableaus
from physid.ode.engines import check_engine
from physid.spec import Model

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


def plan(arguments: Mapping[str, Any]) -> Plan:
    """What a fit with these arguments would do."""
    return resolve(**{name: value for name, value in arguments.items() if name not in UNKNOWNS})


def _integrator(options: Mapping[str, Any]) -> Integrator | None:
    """The optimizer's or protocol's integrator with what was asked for changed; None if nothing was."""
    changes = {
        name: options[name] for name in ("solver", "rtol", "atol", "max_steps", "engine") if options[name] is not None
    }
    if not changes:
        return None
    if "solver" in changes:
        tableaus.lookup(changes["solver"])
    check_engine(changes.get("engine", "auto"))
    return adapted(default_integrator(options["optimizer"], options["protocol"]), changes)


def probes_of(arguments: Mapping[str, Any], model: Model, experiment: Experiment) -> int | None:
    """The probes that were asked for; 0 where the integrator has them from its defaults and they do not pay."""
    probes: int | None = arguments["probes"]
    integrator: Integrator | None = arguments["integrator"]
    if probes is None and integrator is not None and number_of(integrator):
        changes = {one.name: getattr(integrator, one.name) for one in fields(integrator)}
        with contained():
            return None if worth_probing(model, experiment, changes) else 0
    return probes


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
