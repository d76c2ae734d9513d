"""Weight groups: the weights of a model by module or table, for reports."""

from __future__ import annotations

import math
from typing import Any

from physid.inference.result import FitResult
from physid.modelling.modules import trained


def groups(fit: FitResult) -> list[dict[str, Any]]:
    """Every module or table of weights: name, count, shapes of its tables, rms of the weights now and at the start."""
    found: list[dict[str, Any]] = []
    known, model = fit.model.unknowns, fit.model
    rest = [one for one in fit.estimates if not one.listed]
    for name in dict.fromkeys(one.of.partition(".")[0] for one in rest):
        own = [one for one in rest if one.of.partition(".")[0] == name]
        shapes = {table: list(known[table].raw_of(model).shape) for table in dict.fromkeys(one.of for one in own)}
        rms, begun = (
            math.sqrt(sum(v * v for v in values) / len(own))
            for values in ([one.value for one in own], [one.start for one in own])
        )
        found.append({"name": name, "count": len(own), "rms": rms, "start_rms": begun, "shapes": shapes})
    return found


def group_lines(fit: FitResult) -> list[str]:
    """A line on every group of weights of a user's own modules, and one on what is held."""
    lines = []
    for one in groups(fit):
        what = f"{one['count']} weight{'s' if one['count'] > 1 else ''} of {one['name']}"
        tables = f" in {len(one['shapes'])} tables" if len(one["shapes"]) > 1 else ""
        lines.append(f"{what}{tables}, trained: rms {one['rms']:.3g}, {one['start_rms']:.3g} at the start")
    held = [part for part in trained(fit.model).split("; ") if part.endswith(" held")]
    return [*lines, *held, "(every weight is in report.json())"]
