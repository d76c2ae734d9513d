"""The optimizers by name: those of physid, then those of installed packages (entry points "physid.optimizers")."""

from __future__ import annotations

from typing import Any

from physid.catalog import Registry

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
