"""The data sets of physid: `load("threebody", noise=0.01)` gives an Experiment, `collect` what networks train on."""

from __future__ import annotations

from physid.catalog import Entry, Option
from physid.data.catalogue import CATALOG, DataSet, load
from physid.datasets import classics, emps, lynxhare, solarsystem, tanks, threebody
from physid.datasets.fetch import cache_folder
from physid.training.networks import COLLECTIONS, collect

__all__ = ["CATALOG", "COLLECTIONS", "DataSet", "Entry", "Option", "cache_folder", "collect", "load"]

ENTRIES = (threebody.ENTRY, solarsystem.ENTRY, lynxhare.ENTRY, emps.ENTRY, tanks.ENTRY, *classics.ENTRIES)
CATALOG.update({entry.name: entry for entry in ENTRIES})
COLLECTIONS.place(
    {
        "cifar10": "physid.datasets.cifar:TEN",
        "cifar100": "physid.datasets.cifar:HUNDRED",
        "images-toy": "physid.datasets.toyimages:ENTRY",
        "hopper": "physid.datasets.hopper:ENTRY",
        "series": "physid.datasets.irregular:ENTRY",
    }
)
