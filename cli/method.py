"""Typed flags and a settings file as the options of a fit, checked before any data are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from physid import settings
from physid.cli.options import dest_of, flag_of
from physid.cli.typed import number, pair
from physid.errors import InputError, MissingError, unknown_name
from physid.inference.fit_options import TYPED, FitOptions, read
from physid.inference.options import chooses
from physid.ode import Integrator

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def asked_for(options: Mapping[str, Any], experiment: str | None = None) -> tuple[FitOptions, dict[str, Any]]:
    """The options of the fit, typed or else of the settings file, and the command's others, with the file's of these.

    Data files in the settings, and what they say of its initial state, do not count where an `experiment` was typed.
    """
    path = options.get("settings_file")
    given = {} if path is None else settings.load(path)
    files = given.pop("data", [])
    if experiment is not None and files:
        given.pop("initial", None)
        files = []
    rest = {**options, "data": [*options.get("data", ())] or files}
    for name in ("model", "initial"):
        said = given.pop(name, None)
        rest[name] = said if rest.get(name) is None else rest[name]
    for name in TYPED:
        value = rest.pop(dest_of(name), None)
        if value in (None, ()):
            continue
        if name in ("fix", "tie"):
            typed = map(held, value) if name == "fix" else (pair(name, text) for text in value)
            given[name] = {**given.get(name, {}), **dict(typed)}
        else:
            given[name] = read(name, value, flag_of(name))
    return FitOptions(**given), rest


def held(text: str) -> tuple[str, Any]:
    """--fix NAME=VALUE as a name and a number, or a list of several; None for a NAME alone. Errors: InputError."""
    if "=" not in text and text.strip():
        return text.strip(), None
    name, value = pair("fix", text, hint="Write NAME=1.5, or NAME=1,2 for two.")
    numbers = [number("fix", f"{name}={one}", "Write NAME=1.5, or NAME=1,2 for two.") for one in value.split(",")]
    return name, numbers[0] if len(numbers) == 1 else numbers


def unheeded(options: FitOptions, integrator: Integrator) -> str:
    """The note on tolerances that change no step, since steps are of fixed length; else nothing."""
    asked = [flag_of(name) for name in ("rtol", "atol") if getattr(options, name) is not None]
    if not asked or chooses(integrator):
        return ""
    solver = integrator.solver if isinstance(integrator.solver, str) else integrator.solver.name
    return (
        f"{' and '.join(asked)} changes no step: {solver}, by which this is solved, takes steps of fixed length. "
        "Add --solver dopri8 for steps that the tolerance controls."
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
