"""Data sets by name: `load("threebody", noise=0.01)` gives an Experiment, `collect` what networks are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physid.catalog import Entry, Option
from physid.data.experiment import Experiment
from physid.datasets import (
    cifar,
    classics,
    emps,
    hopper,
    irregular,
    lynxhare,
    solarsystem,
    tanks,
    threebody,
    toyimages,
)
from physid.datasets.fetch import cache_folder
from physid.errors import unknown_name
from physid.training import Collection

__all__ = ["CATALOG", "COLLECTIONS", "Entry", "Option", "cache_folder", "collect", "load"]

ENTRIES = (threebody.ENTRY, solarsystem.ENTRY, lynxhare.ENTRY, emps.ENTRY, tanks.ENTRY, *classics.ENTRIES)
CATALOG: Mapping[str, Entry[Experiment]] = {entry.name: entry for entry in ENTRIES}
MADE: tuple[Entry[Any], ...] = (*cifar.ENTRIES, toyimages.ENTRY, hopper.ENTRY, irregular.ENTRY)
COLLECTIONS: Mapping[str, Entry[Any]] = {entry.name: entry for entry in MADE}


def load(name: str, **options: Any) -> Experiment:
    """The experiment `name` of the catalogue with these options; InputError for a name that is not there."""
    if name not in CATALOG:
        raise unknown_name("experiment", name, CATALOG)
    return CATALOG[name].load(**options)


def collect(name: str, **options: Any) -> Collection:
    """The collection `name` of the catalogue with these options; InputError for a name that is not there."""
    if name not in COLLECTIONS:
        raise unknown_name("collection", name, COLLECTIONS)
    found: Collection = COLLECTIONS[name].load(**options)
    return found
