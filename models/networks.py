"""Networks by name: what is trained by batches on a collection, each with its options and its recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from physid.catalog import Entry
from physid.data.experiment import Experiment
from physid.errors import InputError, unknown_name
from physid.training import Collection, Learner, Recipe


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


NETWORKS: dict[str, Network] = {}  # filled by physid.models


def network(name: str, collection: Collection, **options: Any) -> Learner:
    """The network `name` for a collection, with these options; InputError for names and options that cannot be."""
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    entry = NETWORKS[name]
    if entry.collections and collection.name not in entry.collections:
        raise InputError(
            f"{name} is not made for {collection.name}: it takes {', '.join(entry.collections)}. Choose one of them."
        )
    learner = entry.load(collection, **options)
    learner.identity = {"model": name, "options": entry.read(options)}
    return learner
