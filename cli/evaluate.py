"""`physid compare RUN --solver NAME`: a trained network under other solvers; once `physid evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from physid.cli.console import Console
from physid.cli.files import check_file, write_out
from physid.cli.sections import option

if TYPE_CHECKING:
    from physid.api.opening import OpenRun

PAPER = (
    *((name, {"step": step}) for name in ("euler", "midpoint", "rk4") for step in (1.0, 0.5, 0.2, 0.1)),
    *((name, {"rtol": x, "atol": x}) for name in ("heun_euler", "bosh3", "dopri5") for x in (1e-1, 1e-2, 1e-3)),
)


F = TypeVar("F", bound=Callable[..., Any])
SECTION = "A trained network under other solvers"


OPTIONS: dict[tuple[str, ...], dict[str, Any]] = {
    ("--solver", "solvers"): {"multiple": True, "metavar": "NAME", "help": "A solver; may be repeated."},
    ("--rtol", "rtols"): {
        **{"multiple": True, "type": float, "metavar": "X"},
        "help": "Relative tolerance; may be repeated.",
    },
    ("--atol",): {"type": float, "metavar": "X", "help": "Absolute tolerance. [default: that of --rtol]"},
    ("--step", "steps"): {
        **{"multiple": True, "type": float, "metavar": "H"},
        "help": "Length of fixed steps; may be repeated.",
    },
    ("--paper",): {"is_flag": True, "help": "The 21 solvers of the paper's tables 6 and 7."},
}


def solver_options(command: F) -> F:
    """Add the options of solvers that a trained network is scored under."""
    for names, settings in reversed(OPTIONS.items()):
        command = option(*names, section=SECTION, **settings)(command)
    return command


def compare_solvers(
    console: Console,
    runs: Sequence[OpenRun],
    outs: Sequence[Path],
    solvers: tuple[str, ...],
    rtols: tuple[float, ...],
    atol: float | None,
    steps: tuple[float, ...],
    paper: bool,
) -> int:
    """Score the network of a training on its test set, with its own solver and with every one asked for.

    The weights stay as they are. `change` is the difference from its own solver; an error is a part of 1.
    """
    for out in outs:
        check_file(out, (".csv",))
    if len(runs) > 1:
        raise click.UsageError(f"{len(runs)} runs with solvers: expected one run. Leave the others out.")
    from physid.formats import table_bytes
    from physid.training import evaluate
    from physid.training.classifying import scores_with

    run, trained = runs[0].path, runs[0].trained
    own = evaluate(trained.learner, trained.collection, trained.recipe)
    rows: list[list[Any]] = [["as trained", None, None, *own.values(), *(0.0 for _ in own)]]
    for solver, how in [*PAPER] if paper else list(asked(solvers, rtols, atol, steps)):
        found = scores_with(trained, **({"solver": solver} if solver else {}), **how)
        changes = [found[name] - own[name] for name in own]
        rows.append([solver or "as trained", how.get("step"), how.get("rtol"), *found.values(), *changes])
        console.event("progress", solver=solver, **how, **found)
    columns = ["solver", "step", "rtol", *own, *(f"{name} change" for name in own)]
    for out in outs:
        content = table_bytes(columns, [["" if cell is None else cell for cell in row] for row in rows])
        write_out(out, content)
    console.table(f"{trained.collection.name}, {run}", columns, rows)
    entries = [dict(zip(columns, row, strict=True)) for row in rows]
    console.event("done", status="ok", message=f"{len(rows)} solvers", run=run, rows=entries)
    return 0


def asked(
    solvers: tuple[str, ...], rtols: tuple[float, ...], atol: float | None, steps: tuple[float, ...]
) -> Iterator[tuple[str | None, dict[str, float]]]:
    """Every solver with every step and every tolerance that was asked for."""
    hows: list[dict[str, float]] = [{"step": step} for step in steps]
    hows += [{"rtol": x, "atol": x if atol is None else atol} for x in rtols]
    if atol is not None and not rtols:
        hows.append({"atol": atol})
    if not hows and not solvers:
        return
    for solver in solvers or (None,):
        yield from ((solver, how) for how in hows or [{}])
