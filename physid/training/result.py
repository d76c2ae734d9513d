"""TrainingResult: weights, scores and history of a training, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from physid.exits import EXIT_CODES
from physid.lazy import names as _names
from physid.training.learner import Collection, Learner
from physid.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

FINISHED = "finished"

__getattr__ = _names(__name__, {})


@dataclass
class TrainingResult:
    """The result of a training: the learner as it is at the end, a row of `history` for each epoch, and its settings.

    `status` is "finished", "diverged", "interrupted" or "time limit", `message` a sentence. `scores` are the last ones
    of the test set, by name. `labels` are what the caller added to the settings. `data` describes the collection.
    """

    learner: Learner
    collection: Collection
    recipe: Recipe
    history: list[dict[str, Any]]
    status: str
    message: str
    seconds: float
    labels: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        return 0 if self.status == FINISHED else EXIT_CODES[self.status]

    @property
    def scores(self) -> dict[str, float]:
        """The last scores of the test set, by name."""
        rows = [row for row in self.history if any(name.startswith("test_") for name in row)]
        return {n.removeprefix("test_"): v for n, v in rows[-1].items() if n.startswith("test_")} if rows else {}

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(parameter.numel() for parameter in self.learner.parameters())

    def frame(self) -> pd.DataFrame:
        """The history as a table, a row for each epoch."""
        import pandas as pd

        return pd.DataFrame(self.history)

    def json(self) -> dict[str, Any]:
        """The result as data."""
        return {
            "status": self.status,
            "message": self.message,
            "model": self.learner.identity.get("model", type(self.learner).__name__),
            "weights": self.size,
            "collection": self.collection.name,
            "data": dict(self.data),
            "recipe": self.recipe.data(),
            "labels": dict(self.labels),
            "epochs": len(self.history),
            "scores": self.scores,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        """The report as text."""
        name = self.learner.identity.get("model", type(self.learner).__name__)
        rows = [
            ("weights", f"{self.size:,}"),
            ("epochs", f"{len(self.history)} of {self.recipe.epochs}"),
            *((f"test {name}", f"{value:.6g}") for name, value in self.scores.items()),
            *((k, f"{v:.6g}" if isinstance(v, float) else str(v)) for k, v in self._last().items()),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name.ljust(width)}  {value}" for name, value in rows]
        title = f"{self.collection.name} with model {name}: {self.status}. {self.message}"
        return "\n".join([title, "", *lines])

    def _last(self) -> dict[str, Any]:
        """The other numbers of the last epoch."""
        last = self.history[-1] if self.history else {}
        return {name: value for name, value in last.items() if name != "epoch" and not name.startswith("test_")}
