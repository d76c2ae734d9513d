"""`physid list`: what the catalogues hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from inspect import isroutine
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console, Row
from physid.cli.options import json_option
from physid.cli.remembered import remember, remembered

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
    """One catalogue as a table: `packages` add some of its rows, `faults` are offers that cannot be taken."""

    columns: tuple[str, ...]
    rows: list[Row]
    packages: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @staticmethod
    def of(columns: tuple[str, ...], rows: list[Row], registry: Registry[Any] | None = None) -> Listing:
        """The listing of these rows, whose first cells are names in a registry; as JSON can say it."""
        from physid.formats import plain

        owners = [] if registry is None else [registry.owner(str(row[0])) for row in rows]
        packages = ["" if owner == "physid" else owner for owner in owners]
        return Listing(columns, plain(rows), packages if any(packages) else [], registry.faults() if registry else [])

    def data(self) -> list[dict[str, Any]]:
        """The rows by column; a part that an installed package adds names it."""
        found = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        for row, package in zip(found, self.packages, strict=False):
            row |= {"package": package} if package else {}
        return found

    def shown(self) -> tuple[tuple[str, ...], list[Row]]:
        """Columns and rows, with a column of packages where an installed one adds a part."""
        if not self.packages:
            return self.columns, self.rows
        pairs = zip(self.rows, self.packages, strict=True)
        return (*self.columns, "package"), [(*row, package) for row, package in pairs]


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
    wanted = (kind,) if kind else DEFAULT
    known = remembered(wanted)
    listings = {name: readers[name]() if known is None else Listing(**known[name]) for name in wanted}
    faults = [fault for listing in listings.values() for fault in listing.faults]
    if known is None and wanted == DEFAULT and not faults:
        remember({name: asdict(listing) for name, listing in listings.items()})
    for name, listing in listings.items():
        if not listing.rows and not kind:
            continue
        console.table(name, *listing.shown())
        console.say()
    found = {name: listing.data() for name, listing in listings.items()}
    message = ", ".join(f"{len(rows)} {name}" for name, rows in found.items())
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
    return Listing.of(("name", "summary", "knowledge", "options"), rows, CATALOG)


def collections() -> Listing:
    """The data sets that networks are trained on: name, what it is, the networks that take it, its options."""
    from physid.training.networks import COLLECTIONS, NETWORKS

    rows: list[Row] = []
    for name, entry in COLLECTIONS.each():
        takers = [network.name for _, network in NETWORKS.each() if name in network.collections]
        rows.append((name, entry.summary, takers, list(entry.options)))
    return Listing.of(("name", "summary", "networks", "options"), rows, COLLECTIONS)


def networks() -> Listing:
    """The networks: name, what it is, its options, its protocols."""
    from physid.training.networks import NETWORKS

    rows: list[Row] = [(n.name, n.summary, list(n.options), list(n.protocols)) for _, n in NETWORKS.each()]
    return Listing.of(("name", "summary", "options", "protocols"), rows, NETWORKS)


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
    return Listing.of(("of", "option", "default", "meaning"), rows)


def models() -> Listing:
    """The models: name, the first sentence of its docstring, its unknowns."""
    from physid.modelling.catalogue import MODELS

    rows: list[Row] = [(name, first_line(model), list(model.unknowns)) for name, model in MODELS.each()]
    return Listing.of(("name", "summary", "unknowns"), rows, MODELS)


def solvers() -> Listing:
    """The solvers: name, other names, order, evaluations per step, source."""
    from physid.ode.methods.catalogue import ALIASES, METHODS

    rows: list[Row] = []
    for name, tableau in METHODS.each():
        others = [alias for alias, target in ALIASES.items() if target == name]
        kind = "adaptive" if tableau.adaptive else "fixed"
        rows.append((name, others, tableau.order, len(tableau.b), kind, tableau.source))
    return Listing.of(("name", "also", "order", "stages", "steps", "source"), rows, METHODS)


def described(place: str) -> Listing:
    """The parts of the registry at `place`: name and the first line of its docstring."""
    registry: Registry[Any] = resolve_name(place)
    return Listing.of(("name", "summary"), [(name, first_line(one)) for name, one in registry.each()], registry)


def exporters() -> Listing:
    """The formats in which a run is written: name, other names, the end of the file's name, what it holds."""
    from physid.api.export import EXPORTERS

    others = {name: [alias for alias, target in EXPORTERS.aliases.items() if target == name] for name in EXPORTERS}
    rows: list[Row] = [(name, others[name], one.suffix, one.summary) for name, one in EXPORTERS.each()]
    return Listing.of(("name", "also", "suffix", "summary"), rows, EXPORTERS)


def commands() -> Listing:
    """The commands that installed packages add: name and summary."""
    from physid.cli.app import installed

    known = installed()
    rows: list[Row] = [
        (name, command.get_short_help_str(70)) for name, command in known.each() if known.owner(name) != "physid"
    ]
    return Listing.of(("name", "summary"), rows, known)


def first_line(thing: object) -> str:
    """The first line of the docstring of a class or a function, or of a value's class."""
    text = (thing if isinstance(thing, type) or isroutine(thing) else type(thing)).__doc__ or ""
    return text.strip().splitlines()[0] if text.strip() else ""
