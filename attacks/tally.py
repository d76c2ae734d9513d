"""What came of an attack: how many inputs, and which of them led to what must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("attack", "inputs", "refused", "tracebacks", "crashes", "hangs", "losses", "s")
KINDS = {"traceback": "tracebacks", "crash": "crashes", "hang": "hangs", "loss": "losses"}


@dataclass(frozen=True)
class Failure:
    """One input that led to a traceback, a crash, a hang or a loss: what was told, and its files."""

    what: str
    told: str
    paths: tuple[Path, ...] = ()


@dataclass
class Tally:
    """Counts of one attack; `notes` say what is particular to it."""

    name: str = ""
    seconds: float = 0.0
    inputs: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def fail(self, what: str, told: str, *paths: Path) -> None:
        """Note what must not be; of many failures the first hundred are kept."""
        if len(self.failures) < 100:
            self.failures.append(Failure(what, told[-2000:], paths))

    def row(self) -> list[str]:
        """The row of the table."""
        counts = Counter(KINDS[one.what] for one in self.failures)
        numbers = [self.inputs, self.refused, *(counts[name] for name in KINDS.values())]
        return [self.name, *map(str, numbers), f"{self.seconds:.0f}"]


def table(found: Sequence[Tally]) -> str:
    """A table in Markdown, and a line for every note."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(one.row() for one in found)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    notes = [f"{one.name}: {', '.join(f'{k} {v}' for k, v in one.notes.items())}" for one in found if one.notes]
    return "\n".join([*lines, "", *notes])
