"""Training of networks by batches: learners, collections, recipes, the loop, and what it found."""

from __future__ import annotations

from typing import Any

from physid import moved as places
from physid.training.learner import Batch, Collection, Learner, moved
from physid.training.loop import evaluate
from physid.training.recipe import Rate, Recipe
from physid.training.result import TrainingResult

__all__ = ["Batch", "Collection", "Learner", "Rate", "Recipe", "TrainingResult", "evaluate", "moved"]


def __getattr__(name: str) -> Any:
    """What stood here once, such as `train`, from where it is now (PEP 562)."""
    return places.named(__name__, name)
