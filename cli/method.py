"""From the options of a fit to the arguments of `physid.fit`, checked before any data are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from physid.errors import InputError, MissingError, unknown_name
from physid.fitting.plan import Plan, default_integrator, resolve
from physid.ode import Integrator, tableaus
from physid.ode.engines import check_engine

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def fit_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `physid.fit`; InputError for unknown names and for options that contradict each other."""
    names = ("optimizer", "strategy", "protocol", "gradient", "epochs", "seed", "time_limit")
    arguments = {name: options[name] for name in names}
    arguments["integrator"] = _integrator(options)
    plan(arguments)
    return arguments


def plan(arguments: Mapping[str, Any]) -> Plan:
    """What a fit with these arguments would do."""
    return resolve(**{"lr": None, **arguments})


def _integrator(options: Mapping[str, Any]) -> Integrator | None:
    """The optimizer's or protocol's integrator with what was asked for changed; None if nothing was."""
    changes = {name: options[name] for name in ("solver", "rtol", "atol", "engine") if options[name] is not None}
    if not changes:
        return None
    if "solver" in changes:
        tableaus.lookup(changes["solver"])
    check_engine(changes.get("engine", "auto"))
    return replace(default_integrator(options["optimizer"], options["protocol"]), **changes)


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
