"""`physid compare RUN...` of classifiers: how far they agree; once `physid reliability`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.errors import InputError

if TYPE_CHECKING:
    from physid.api.opening import OpenRun


def compare_classes(console: Console, runs: Sequence[OpenRun], outs: Sequence[Path] = ()) -> int:
    """Test-retest reliability of the classes that trainings give to one test set.

    Intraclass correlation with its 95 % interval, of a single run (ICC1) and of the mean of all (ICC1k), on the whole
    test set and on the images that any of the runs got wrong. Errors: InputError for runs with other test sets.
    """
    for out in outs:
        check_file(out, (".csv",))
    from physid.formats import table_bytes
    from physid.training.classifying import predicted, reliability

    found = [predicted(run.trained) for run in runs]
    answers, truth = [each for each, _ in found], found[0][1]
    for run, (_, labels) in zip(runs, found, strict=True):
        if len(labels) != len(truth) or (labels != truth).any():
            raise InputError(f"{run.path} was tested on other images than {runs[0].path}. Give runs with one test set.")
    errors = [float((each != truth).mean()) for each in answers]
    found_all = reliability(answers, truth)
    columns = ("images", "number", "ICC1", "low", "high", "ICC1k", "low", "high")
    rows = [(name, part["images"], *ends(part["icc1"]), *ends(part["icc1k"])) for name, part in found_all.items()]
    console.table(f"agreement of {len(runs)} runs, mean error {100 * sum(errors) / len(errors):.4g} %", columns, rows)
    content = table_bytes(columns, rows)
    for out in outs:
        write_out(out, content)
    data = {
        name: {"images": part["images"], "icc1": ends(part["icc1"]), "icc1k": ends(part["icc1k"])}
        for name, part in found_all.items()
    }
    paths = [run.path for run in runs]
    console.event("done", status="ok", message=f"{len(runs)} runs", runs=paths, errors=errors, **data)
    return 0


def ends(agreement: Any) -> tuple[float, float, float]:
    """Value, low and high."""
    return agreement.value, agreement.low, agreement.high
