"""`physid list`: what the catalogues hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console, Row
from physid.cli.options import json_option

if TYPE_CHECKING:
    from physid.catalog import Entry

KINDS = ("experiments", "collections", "options", "models", "networks", "solvers", "gradients")

DEFAULT = ("experiments", "collections", "models", "networks", "solvers", "gradients")


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

    KIND is experiments, collections (data sets that networks are trained on), options (of both and of the networks,
    with their meaning), models, networks, solvers or gradients.
    """
    console = Console(json=json)
    readers = {
        "experiments": experiments,
        "collections": collections,
        "options": options,
        "models": models,
        "networks": networks,
        "solvers": solvers,
        "gradients": gradients,
    }
    listings = {name: readers[name]() for name in ([kind] if kind else DEFAULT)}
    for name, listing in listings.items():
        if not listing.rows and not kind:
            continue
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


def collections() -> Listing:
    """The data sets that networks are trained on: name, what it is, the networks that take it, its options."""
    from physid.datasets import COLLECTIONS
    from physid.models import NETWORKS

    rows: list[Row] = []
    for name, entry in COLLECTIONS.items():
        takers = [network.name for network in NETWORKS.values() if name in network.collections]
        rows.append((name, entry.summary, takers, list(entry.options)))
    return Listing(("name", "summary", "networks", "options"), rows)


def networks() -> Listing:
    """The networks: name, what it is, its options, its protocols."""
    from physid.models import NETWORKS

    rows: list[Row] = [(n.name, n.summary, list(n.options), list(n.protocols)) for n in NETWORKS.values()]
    return Listing(("name", "summary", "options", "protocols"), rows)


def options() -> Listing:
    """The options of data sets and networks: whose, name, default, what it means."""
    from physid.datasets import CATALOG, COLLECTIONS
    from physid.models import NETWORKS

    entries: list[Entry[Any]] = [*CATALOG.values(), *COLLECTIONS.values(), *NETWORKS.values()]
    rows: list[Row] = [
        (entry.name, name, option.default, option.help) for entry in entries for name, option in entry.options.items()
    ]
    return Listing(("of", "option", "default", "meaning"), rows)


def models() -> Listing:
    """The models: name, the first sentence of its docstring, its unknowns."""
    from physid.models import MODELS

    rows: list[Row] = [(name, first_line(model), list(model.unknowns)) for name, model in MODELS.items()]
    return Listing(("name", "summary", "unknowns"), rows)


def solvers() -> Listing:
    """The solvers: name, other names, order, evaluations per step, source."""
    from physid.ode.methods.catalogue import ALIASES, METHODS

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
