"""Training of networks by batches: learners, collections, recipes, and runs that survive and resume bit for bit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from physid.training.learner import Batch, Collection, Learner, moved
from physid.training.loop import evaluate
from physid.training.recipe import Rate, Recipe
from physid.training.result import Trained

if TYPE_CHECKING:
    from physid.api.train import train as train
    from physid.runs.trainings import is_training as is_training

# name -> the module it lives in
_HOMES = {"is_training": "physid.runs.trainings", "train": "physid.api.train"}

__all__ = ["Batch", "Collection", "Learner", "Rate", "Recipe", "Trained", "evaluate", "is_training", "moved", "train"]


def __getattr__(name: str) -> Any:
    """The object `name`, imported from its home at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
