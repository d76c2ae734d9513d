"""Results of commands: a fit, a training or an exhibit in words, and as the last line of --json."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physid.api.fit import Fit
from physid.api.train import Trained
from physid.cli.console import Console
from physid.errors import Diverged
from physid.inference.search.one_start import tally

if TYPE_CHECKING:
    from physid.reproduce import Reproduction

ESTIMATE = ("value", "stderr", "plain", "robust", "low", "high", "undetermined", "unit", "start", "truth")
RESIDUALS = ("sentence", "remedies", "others", "each", "floor", "null_directions", "chosen")
SETTINGS = ("experiment", "knowledge", "model", "gradient", "solver")


def show(console: Console, found: Fit | Trained | Reproduction, run: Path, ended: bool = False) -> int:
    """Print a result and its event "done"; the exit code. `ended`: the run directory was written just now.

    Errors: Diverged for a fit or a training that has just done so.
    """
    if isinstance(found, Fit | Trained):
        if ended and os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
            return found.exit_code
        words, fields = (
            (found.report(), done_fields(found, run))
            if isinstance(found, Fit)
            else (found, {"run": run, **found.json()})
        )
        console.say(str(words))
        if ended:
            console.note(f"run directory: {run}")
        console.event("done", **fields)
        if ended and found.status == "diverged":
            raise Diverged(found.message)
        return found.exit_code
    table = found.table
    cells = [[table.text(value) for value in row] for row in table.rows]
    console.table(found.exhibit.title, list(table.columns), cells)
    for note in table.notes:
        console.say(note)
    if found.missing:
        console.note(f"not finished: {len(found.missing)} cells; physid resume {run} computes them")
    for path in found.files if ended else ():
        console.note(f"{path}: written")
    about = {name: getattr(found, name) for name in ("quick", "files", "missing")}
    about |= {name: getattr(table, name) for name in ("columns", "rows", "notes")}
    message = f"{len(found.missing)} cells missing"
    console.event("done", status=found.status, message=message, exhibit=found.exhibit.name, out=run, **about)
    return found.exit_code


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
    """Statistics of the residuals as data; `hidden` is the former name of null_directions."""
    if fit.statistics is None:
        return {}
    found = {name: getattr(fit.statistics, name) for name in RESIDUALS}
    return found | {"hidden": fit.statistics.null_directions}
