"""Training of networks by batches: learners, collections, recipes, and runs that survive and resume bit for bit."""

from physid.training.learner import Batch, Collection, Learner, moved
from physid.training.loop import evaluate
from physid.training.recipe import Rate, Recipe
from physid.training.result import Trained
from physid.training.runs import is_training
from physid.training.train import train

__all__ = ["Batch", "Collection", "Learner", "Rate", "Recipe", "Trained", "evaluate", "is_training", "moved", "train"]
