"""The optimizers by name: those of physid, then those of installed packages (entry points "physid.optimizers")."""

from __future__ import annotations

import functools
from typing import Any

from physid.catalog import Registry
from physid.modelling.address import is_file_name, split_file_name

HERE = "physid.inference.search"

OPTIMIZERS: Registry[Any] = Registry(
    "optimizer",
    places={
        "lm": f"{HERE}.levenberg_marquardt:LevenbergMarquardt",
        "adam": f"{HERE}.first_order:Adam",
        "lbfgs": f"{HERE}.first_order:lbfgs",
    },
    group="physid.optimizers",
)
DESCENTS = ("adam", "lbfgs")  # go by the gradient of a solve; all others by residuals and their Jacobian


def name_of(given: Any) -> str:
    """Name of an optimizer: as it was typed, or that of its class or function."""
    if isinstance(given, str):
        return split_file_name(given)[1] if is_file_name(given) else given
    inner = given.func if isinstance(given, functools.partial) else given
    return str(getattr(inner, "__name__", type(inner).__name__))


def chosen(given: Any) -> Any:
    """An optimizer as it was given: a name, `FILE.py:NAME`, a class, a function or an object.

    Errors: InputError for a name that is none, with the nearest one; TypeError for what can be no optimizer.
    """
    if isinstance(given, str):
        if not is_file_name(given) and given not in OPTIMIZERS:
            raise OPTIMIZERS.unknown(given)
        return given
    if not callable(given) and not has(given, "init", "step", "done"):
        raise TypeError
    return given


def has(given: Any, *words: str) -> bool:
    """Whether something has these methods."""
    return all(callable(getattr(given, word, None)) for word in words)
