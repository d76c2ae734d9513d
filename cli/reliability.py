"""`physid compare RUN...` of classifiers: how far they agree; once `physid reliability`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.options import json_option
from physid.errors import InputError


@click.command(hidden=True)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def command(runs: tuple[Path, ...], json: bool) -> int:
    """Agreement of the trainings RUN... on the classes of one test set: now `physid compare RUN...`."""
    if len(runs) < 2:
        raise click.UsageError("one run has nothing to agree with. Give two at least.")
    return compare_classes(Console(json=json), runs)


def compare_classes(console: Console, runs: Sequence[Path], outs: Sequence[Path] = ()) -> int:
    """Test-retest reliability of the classes that trainings give to one test set.

    Intraclass correlation with its 95 % interval, of a single run (ICC1) and of the mean of all (ICC1k), on the whole
    test set and on the images that any of the runs got wrong. Errors: InputError for runs with other test sets.
    """
    for out in outs:
        check_file(out, (".csv",))
    from physid.api.train import Trained
    from physid.formats import table_bytes
    from physid.training.classifying import predicted, reliability

    answers, truth, first = [], None, None
    for run in runs:
        trained = Trained.load(run)
        found, labels = predicted(trained)
        if truth is not None and (len(labels) != len(truth) or (labels != truth).any()):
            raise InputError(f"{run} was tested on other images than {first}. Give runs with one test set.")
        answers.append(found)
        truth, first = labels, first or run
    if truth is None:
        raise InputError("no run was given. Give two at least.")
    errors = [float((found != truth).mean()) for found in answers]
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
    console.event("done", status="ok", message=f"{len(runs)} runs", runs=list(runs), errors=errors, **data)
    return 0


def ends(agreement: Any) -> tuple[float, float, float]:
    """Value, low and high."""
    return agreement.value, agreement.low, agreement.high
