"""Data sets by name: `load("threebody", noise=0.01)` gives an Experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physid.datasets import classics, emps, lynxhare, solarsystem, tanks, threebody
from physid.datasets.catalog import Entry, Option
from physid.datasets.fetch import cache_folder
from physid.errors import unknown_name
from physid.experiment import Experiment

__all__ = ["CATALOG", "Entry", "Option", "cache_folder", "load"]

ENTRIES = (threebody.ENTRY, solarsystem.ENTRY, lynxhare.ENTRY, emps.ENTRY, tanks.ENTRY, *classics.ENTRIES)
CATALOG: Mapping[str, Entry] = {entry.name: entry for entry in ENTRIES}


def load(name: str, **options: Any) -> Experiment:
    """The experiment `name` of the catalogue with these options; InputError for a name that is not there."""
    if name not in CATALOG:
        raise unknown_name("experiment", name, CATALOG)
    return CATALOG[name].load(**options)
