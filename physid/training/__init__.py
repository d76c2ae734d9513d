"""Training of networks by batches: learners, collections, recipes, loop and result."""

from __future__ import annotations

from physid.lazy import names as _names
from physid.training.learner import Batch, Collection, Learner, moved
from physid.training.loop import evaluate
from physid.training.recipe import Rate, Recipe
from physid.training.result import TrainingResult

__all__ = ["Batch", "Collection", "Learner", "Rate", "Recipe", "TrainingResult", "evaluate", "moved"]

__getattr__ = _names(__name__, {})
