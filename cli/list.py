"""`physid list`: what the catalogues hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import isroutine
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console, Row
from physid.cli.options import json_option

if TYPE_CHECKING:
    from physid.catalog import Registry

PARTS = ("models", "networks", "solvers", "gradients", "noise", "optimizers", "exporters")
KINDS = ("experiments", "collections", "options", *PARTS, "commands")
# those of which a name and a line are shown, and their registries
DESCRIBED = {
    "gradients": "physid.ode:GRADIENTS",
    "noise": "physid.inference.noise:NOISE",
    "optimizers": "physid.inference:OPTIMIZERS",
}
DEFAULT = ("experiments", "collections", *PARTS)


@dataclass(frozen=True)
class Listing:
    """One catalogue as a table, and the registry that it lists."""

    columns: tuple[str, ...]
    rows: list[Row]
    registry: Registry[Any] | None = None

    def data(self) -> list[dict[str, Any]]:
        """The rows by column; a part that an installed package adds names it."""
        found = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        if self.registry is None:
            return found
        for row in found:
            owner = self.registry.owner(str(row["name"]))
            row |= {} if owner == "physid" else {"package": owner}
        return found

    def shown(self) -> Listing:
        """The same with a column of packages, where an installed one adds a part."""
        packages = [row.get("package", "") for row in self.data()]
        if not any(packages):
            return self
        rows: list[Row] = [(*row, package) for row, package in zip(self.rows, packages, strict=True)]
        return Listing((*self.columns, "package"), rows)

    def faults(self) -> list[str]:
        """Offers of installed packages that cannot be taken, a line each."""
        return [] if self.registry is None else self.registry.faults()


@click.command(
    epilog="""\b
Examples:
  physid list
  physid list options
  physid list solvers
  physid list --json | tail -n 1"""
)
@click.argument("kind", metavar="[KIND]", type=click.Choice(KINDS), required=False)
@json_option
def command(kind: str | None, json: bool) -> int:
    """List experiments, models, solvers, formats and the other parts; or only one KIND of them.

    KIND is experiments, collections (data sets that networks are trained on), options (of both and of the networks,
    with their meaning), models, networks, solvers, gradients, noise (noise models), optimizers, exporters (formats of
    `physid export`) or commands (those of installed packages). Parts that installed packages add name their package.
    """
    console = Console(json=json)
    readers: dict[str, Callable[[], Listing]] = {
        "experiments": experiments,
        "collections": collections,
        "options": options,
        "models": models,
        "networks": networks,
        "solvers": solvers,
        "exporters": exporters,
        "commands": commands,
        **{name: partial(described, place) for name, place in DESCRIBED.items()},
    }
    listings = {name: readers[name]() for name in ([kind] if kind else DEFAULT)}
    for name, listing in listings.items():
        if not listing.rows and not kind:
            continue
        shown = listing.shown()
        console.table(name, shown.columns, shown.rows)
        console.say()
    found = {name: listing.data() for name, listing in listings.items()}
    message = ", ".join(f"{len(rows)} {name}" for name, rows in found.items())
    faults = [fault for listing in listings.values() for fault in listing.faults()]
    for fault in faults:
        console.note(f"warning: {fault}")
    console.event("done", status="ok", message=message, **({"faults": faults} if faults else {}), **found)
    return 0


def experiments() -> Listing:
    """The data sets: name, what it is, the levels of knowledge there are models for, the options it takes."""
    from physid.data.catalogue import CATALOG

    rows: list[Row] = [
        (name, entry.summary, list(entry.knowledge), list(entry.options)) for name, entry in CATALOG.each()
    ]
    return Listing(("name", "summary", "knowledge", "options"), rows, CATALOG)


def collections() -> Listing:
    """The data sets that networks are trained on: name, what it is, the networks that take it, its options."""
    from physid.training.networks import COLLECTIONS, NETWORKS

    rows: list[Row] = []
    for name, entry in COLLECTIONS.each():
        takers = [network.name for _, network in NETWORKS.each() if name in network.collections]
        rows.append((name, entry.summary, takers, list(entry.options)))
    return Listing(("name", "summary", "networks", "options"), rows, COLLECTIONS)


def networks() -> Listing:
    """The networks: name, what it is, its options, its protocols."""
    from physid.training.networks import NETWORKS

    rows: list[Row] = [(n.name, n.summary, list(n.options), list(n.protocols)) for _, n in NETWORKS.each()]
    return Listing(("name", "summary", "options", "protocols"), rows, NETWORKS)


def options() -> Listing:
    """The options of data sets and networks: whose, name, default, what it means."""
    from physid.data.catalogue import CATALOG
    from physid.training.networks import COLLECTIONS, NETWORKS

    registries: list[Registry[Any]] = [CATALOG, COLLECTIONS, NETWORKS]
    rows: list[Row] = [
        (entry.name, name, option.default, option.help)
        for registry in registries
        for _, entry in registry.each()
        for name, option in entry.options.items()
    ]
    return Listing(("of", "option", "default", "meaning"), rows)


def models() -> Listing:
    """The models: name, the first sentence of its docstring, its unknowns."""
    from physid.modelling.catalogue import MODELS

    rows: list[Row] = [(name, first_line(model), list(model.unknowns)) for name, model in MODELS.each()]
    return Listing(("name", "summary", "unknowns"), rows, MODELS)


def solvers() -> Listing:
    """The solvers: name, other names, order, evaluations per step, source."""
    from physid.ode.methods.catalogue import ALIASES, METHODS

    rows: list[Row] = []
    for name, tableau in METHODS.each():
        others = [alias for alias, target in ALIASES.items() if target == name]
        kind = "adaptive" if tableau.adaptive else "fixed"
        rows.append((name, others, tableau.order, len(tableau.b), kind, tableau.source))
    return Listing(("name", "also", "order", "stages", "steps", "source"), rows, METHODS)


def described(place: str) -> Listing:
    """The parts of the registry at `place`: name and the first line of its docstring."""
    registry: Registry[Any] = resolve_name(place)
    return Listing(("name", "summary"), [(name, first_line(one)) for name, one in registry.each()], registry)


def exporters() -> Listing:
    """The formats in which a run is written: name, other names, the end of the file's name, what it holds."""
    from physid.api.export import EXPORTERS

    others = {name: [alias for alias, target in EXPORTERS.aliases.items() if target == name] for name in EXPORTERS}
    rows: list[Row] = [(name, others[name], one.suffix, one.summary) for name, one in EXPORTERS.each()]
    return Listing(("name", "also", "suffix", "summary"), rows, EXPORTERS)


def commands() -> Listing:
    """The commands that installed packages add: name and summary."""
    from physid.cli.app import installed

    known = installed()
    rows: list[Row] = [
        (name, command.get_short_help_str(70)) for name, command in known.each() if known.owner(name) != "physid"
    ]
    return Listing(("name", "summary"), rows, known)


def first_line(thing: object) -> str:
    """The first line of the docstring of a class or a function, or of a value's class."""
    text = (thing if isinstance(thing, type) or isroutine(thing) else type(thing)).__doc__ or ""
    return text.strip().splitlines()[0] if text.strip() else ""
