"""JSON result of a fit: the last line of `physid fit --json` and `physid report --json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from physid.api.fit import Fit
from physid.inference.search.one_start import tally

ESTIMATE = ("value", "stderr", "plain", "robust", "low", "high", "undetermined", "unit", "start", "truth")
RESIDUALS = ("sentence", "remedies", "others", "each", "floor", "null_directions", "chosen")
SETTINGS = ("experiment", "knowledge", "model", "gradient", "solver")


def done_fields(fit: Fit, run: Path | None) -> dict[str, Any]:
    """The fields of the event "done"; vectors as `mass[0]`, `recovered` only under a protocol of the paper."""
    settings = {name: fit.settings.get(name) for name in SETTINGS}
    unknowns = {estimate.name: {key: getattr(estimate, key) for key in ESTIMATE} for estimate in fit.listed}
    derived = {one.name: {key: getattr(one, key) for key in ESTIMATE} for one in fit.derived}
    more: dict[str, Any] = {"derived": derived} if derived else {}
    more |= {"shares": fit.shares} if fit.shares else {}
    combined = {one.name: {key: getattr(one, key) for key in ESTIMATE} for one in fit.combinations}
    more |= {"combinations": combined} if combined else {}
    found = tally(fit.starts)
    paper = {} if fit.paper is None else {"recovered": fit.paper["recovered"]}
    return {
        "status": fit.status,
        "verdict": fit.verdict,
        "message": fit.message,
        "run": run,
        **settings,
        "engine": fit.engine,
        "engine_note": fit.settings.get("engine_note", ""),
        "optimizer": fit.settings.get("optimizer"),
        "unknowns": unknowns,
        "scores": fit.scores,
        "trivial": fit.trivial,
        "residuals": _residuals(fit),
        "evaluations": fit.evaluations,
        "seconds": fit.seconds,
        **({} if found is None else {"starts": asdict(found)}),
        **more,
        **paper,
    }


def _residuals(fit: Fit) -> dict[str, Any]:
    """What the statistics say of the residuals; `hidden` is the former name of null_directions."""
    if fit.statistics is None:
        return {}
    found = {name: getattr(fit.statistics, name) for name in RESIDUALS}
    return found | {"hidden": fit.statistics.null_directions}
