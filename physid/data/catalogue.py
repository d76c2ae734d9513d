"""Data sets by name: `load("threebody", noise=0.01)` gives an Experiment; of physid, or of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from physid.catalog import Entry, Registry
from physid.data.experiment import Experiment
from physid.errors import InputError


@dataclass(frozen=True)
class DataSet(Entry[Experiment]):
    """A data set: what makes an Experiment of its options, and the names of models that describe it.

    `knowledge` is the ladder of how much of its physics a model has: "full", "partial", "none" -> a model's name.
    """

    knowledge: Mapping[str, str] = field(default_factory=dict)

    def load(self, *given: Any, **options: Any) -> Experiment:
        """The experiment with these options, given as values or as text; InputError for one that cannot be."""
        found = super().load(*given, **options)
        if not isinstance(found, Experiment):
            raise InputError(
                f"data set {self.name} gave {type(found).__name__}: expected a physid.Experiment. Correct its loader."
            )
        return found


# filled by physid.datasets
CATALOG: Registry[DataSet] = Registry("experiment", group="physid.datasets", of=DataSet, filled_by="physid.datasets")


def load(name: str, **options: Any) -> Experiment:
    """The experiment `name` of the catalogue with these options; InputError for a name that is not there."""
    return CATALOG.lookup(name).load(**options)
