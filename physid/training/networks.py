"""Networks and collections by name, with their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from physid.catalog import Entry, Registry
from physid.data.catalogue import CATALOG
from physid.data.experiment import Experiment
from physid.errors import InputError, unknown_name
from physid.modelling.catalogue import MODELS
from physid.training.learner import Collection, Learner
from physid.training.recipe import Recipe


@dataclass(frozen=True)
class Network(Entry[Learner]):
    """A network of the catalogue; its loader takes the collection and the options.

    `recipe` trains it where nothing is asked, `protocols` are those of a paper by name. `collections` are those that it
    takes; `collect` makes one from an experiment, for a network that takes those of the other catalogue.
    """

    recipe: Recipe
    collections: tuple[str, ...] = ()
    protocols: Mapping[str, Recipe] = field(default_factory=dict)
    collect: Callable[[Experiment], Collection] | None = None

    def choose(self, protocol: str | None) -> Recipe:
        """The recipe of a protocol; InputError for one that is not there."""
        if protocol in (None, "default"):
            return self.recipe
        if protocol not in self.protocols:
            raise unknown_name(f"protocol of {self.name}", str(protocol), ("default", *self.protocols))
        return self.protocols[str(protocol)]


NETWORKS: Registry[Network] = Registry("network", group="physid.networks", of=Network, filled_by="physid.models")
COLLECTIONS: Registry[Entry[Any]] = Registry(
    "collection", group="physid.collections", of=Entry, filled_by="physid.datasets"
)
NETWORKS.beside(MODELS)  # `--model NAME` is either
COLLECTIONS.beside(CATALOG)  # `physid fit NAME` is on either


def network(name: str, collection: Collection, **options: Any) -> Learner:
    """The network `name` for a collection, with these options; InputError for names and options that cannot be."""
    entry = NETWORKS.lookup(name)
    if entry.collections and collection.name not in entry.collections:
        raise InputError(
            f"{name} is not made for {collection.name}: it takes {', '.join(entry.collections)}. Choose one of them."
        )
    learner = entry.load(collection, **options)
    learner.identity = {"model": name, "options": entry.read(options)}
    return learner


def collect(name: str, **options: Any) -> Collection:
    """The collection `name` of the catalogue with these options; InputError for a name that is not there."""
    found: Collection = COLLECTIONS.lookup(name).load(**options)
    return found
