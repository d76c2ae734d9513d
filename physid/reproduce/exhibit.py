"""Exhibit: cells to compute, and the table and figure made of their results."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from physid.door import there
from physid.errors import Diverged
from physid.formats import text_of
from physid.ode.hearing import TimeUp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

R = TypeVar("R")
KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")

# key of a finished cell -> what it returned, as JSON gives it back
Results = Mapping[str, Any]


def ended(status: str, message: str) -> None:
    """Nothing for a fit or a training that finished. Errors: TimeUp, KeyboardInterrupt, Diverged."""
    if status == "interrupted":
        raise KeyboardInterrupt
    if status == "time limit":
        raise TimeUp
    if status == "diverged":
        raise Diverged(message)


@dataclass(frozen=True)
class Work:
    """Means of a cell beside its settings: a folder of its own, progress, and the time that is left.

    `folder` is not made before the cell makes it, and outlives an interruption, so that a long cell can continue from
    what it keeps there; `of(key)` is that of another cell. `tell` reports progress as fields. `deadline` is on the
    clock of time.monotonic, None without a limit.
    """

    folder: Path
    tell: Callable[[Mapping[str, Any]], object] = lambda fields: None
    deadline: float | None = None

    def of(self, key: str) -> Path:
        """The folder of the cell `key` of the same exhibit."""
        return self.folder.with_name(key)

    @property
    def left(self) -> float | None:
        """Seconds that are left, None without a limit. Errors: TimeUp when there are none."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeUp
        return left

    def run(self, begin: Callable[..., R], out: Path | None = None) -> R:
        """The fit or training that `begin(out=, progress=, time_limit=)` makes, resumed where an earlier one stopped.

        Its run directory is `out`, by default `run` in the cell's folder. Errors: TimeUp, KeyboardInterrupt, Diverged.
        """
        from physid.api.opening import OpenRun

        out = self.folder / "run" if out is None else out
        how: dict[str, Any] = {"progress": self.tell, "time_limit": self.left}
        found: Any = OpenRun.open(out).resume(**how) if there(out, "request.json") else begin(out=out, **how)
        ended(found.status, found.message)
        return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Cell:
    """One piece of an exhibit: `compute(work, **settings)` gives a dict of plain data and depends on nothing else.

    `key` names its file: small letters, digits, points, dashes and underscores. Diverged, raised by a cell, is a
    result: `{"diverged": sentence}`. Other errors end the run. A cell that waits for others stands after them.
    """

    key: str
    compute: Callable[..., Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a key that is no name of a file."""
        if not KEY.fullmatch(self.key):
            raise ValueError(f"the key {self.key!r} of a cell is no plain name: expected letters, digits, . _ -")


@dataclass(frozen=True)
class Table:
    """Rows under columns, numbers as numbers; `notes` are the sentences below it, `digits` those that are printed."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()
    digits: int = 3

    def __post_init__(self) -> None:
        """Refuse rows of another length."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells under {len(self.columns)} columns: {row!r}")

    def text(self, value: Any) -> str:
        """A cell as it is printed."""
        return text_of(value, self.digits, "-")

    def markdown(self) -> str:
        """The table and its notes in Markdown."""
        cells = [[self.text(value).replace("|", r"\|") for value in row] for row in self.rows]
        lines = [f"| {' | '.join(row)} |" for row in (list(self.columns), ["---"] * len(self.columns), *cells)]
        return "\n".join([*lines, *(part for note in self.notes for part in ("", note))]) + "\n"


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper.

    `cells(quick)` are what is computed, in order; `table(results)` and `figure(results)` make of what is finished, all
    of it or a part, a table and a matplotlib figure (None for none). `setting` says in sentences what is computed, with
    what the paper leaves unstated and what was chosen for it; `left_out` what --quick leaves out; `paper` holds what
    the paper printed, as data; `shares` names exhibits that have cells in common, whose finished ones are taken over
    from folders beside this one.
    """

    name: str
    title: str
    setting: str
    left_out: str
    cells: Callable[[bool], Sequence[Cell]]
    table: Callable[[Results], Table]
    figure: Callable[[Results], Figure | None] = lambda results: None
    paper: Mapping[str, Any] = field(default_factory=dict)
    shares: tuple[str, ...] = ()
