"""`physid list`: what the catalogues hold."""

from __future__ import annotations

from dataclasses import dataclass

import click

from physid.cli.console import Console, Row
from physid.cli.options import json_option

KINDS = ("experiments", "options", "models", "solvers", "gradients")

DEFAULT = ("experiments", "models", "solvers", "gradients")


@dataclass(frozen=True)
class Listing:
    """One catalogue as a table."""

    columns: tuple[str, ...]
    rows: list[Row]


@click.command(
    short_help="List experiments, models, solvers and gradient methods.",
    epilog="""\b
Examples:
  physid list
  physid list options
  physid list solvers
  physid list --json | tail -n 1""",
)
@click.argument("kind", metavar="[KIND]", type=click.Choice(KINDS), required=False)
@json_option
def command(kind: str | None, json: bool) -> int:
    """List experiments, models, solvers and gradient methods; or only one KIND of them.

    KIND is experiments, options (of the experiments, with their meaning), models, solvers or gradients.
    """
    console = Console(json=json)
    readers = {
        "experiments": experiments,
        "options": options,
        "models": models,
        "solvers": solvers,
        "gradients": gradients,
    }
    listings = {name: readers[name]() for name in ([kind] if kind else DEFAULT)}
    for name, listing in listings.items():
        console.table(name, listing.columns, listing.rows)
        console.say()
    found = {
        name: [dict(zip(listing.columns, row, strict=True)) for row in listing.rows]
        for name, listing in listings.items()
    }
    console.event(
        "done", status="ok", message=", ".join(f"{len(rows)} {name}" for name, rows in found.items()), **found
    )
    return 0


def experiments() -> Listing:
    """The data sets: name, what it is, the levels of knowledge there are models for, the options it takes."""
    from physid.datasets import CATALOG
    from physid.models import LADDER

    rows: list[Row] = []
    for name, entry in CATALOG.items():
        knowledge = [level for experiment, level in LADDER if experiment == name]
        rows.append((name, entry.summary, knowledge, list(entry.options)))
    return Listing(("name", "summary", "knowledge", "options"), rows)


def options() -> Listing:
    """The options of the data sets: experiment, name, default, what it means."""
    from physid.datasets import CATALOG

    rows: list[Row] = [
        (entry.name, name, option.default, option.help)
        for entry in CATALOG.values()
        for name, option in entry.options.items()
    ]
    return Listing(("experiment", "option", "default", "meaning"), rows)


def models() -> Listing:
    """The models: name, the first sentence of its docstring, its unknowns."""
    from physid.models import MODELS

    rows: list[Row] = [(name, first_line(model), list(model.unknowns)) for name, model in MODELS.items()]
    return Listing(("name", "summary", "unknowns"), rows)


def solvers() -> Listing:
    """The solvers: name, other names, order, evaluations per step, source."""
    from physid.ode.tableaus import ALIASES, METHODS

    rows: list[Row] = []
    for name, tableau in METHODS.items():
        others = [alias for alias, target in ALIASES.items() if target == name]
        kind = "adaptive" if tableau.adaptive else "fixed"
        rows.append((name, others, tableau.order, len(tableau.b), kind, tableau.source))
    return Listing(("name", "also", "order", "stages", "steps", "source"), rows)


def gradients() -> Listing:
    """The gradient methods: name and the first sentence of its docstring."""
    from physid.ode import GRADIENTS

    return Listing(("name", "summary"), [(name, first_line(method)) for name, method in GRADIENTS.items()])


def first_line(thing: object) -> str:
    """The first line of the docstring of a class, or of a value's class."""
    text = (thing if isinstance(thing, type) else type(thing)).__doc__ or ""
    return text.strip().splitlines()[0] if text.strip() else ""
