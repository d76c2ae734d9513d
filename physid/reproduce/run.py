"""Running an exhibit: cell after cell, kept as they finish, then the table, the figure and the data."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from physid.errors import Diverged, InputError
from physid.formats import json_bytes, sound, table_bytes
from physid.ode.hearing import TimeUp
from physid.reproduce.catalog import exhibit as find
from physid.reproduce.exhibit import Cell, Exhibit, Table, Work
from physid.reproduce.shelf import Shelf
from physid.runs.fits import environment
from physid.store import put

Progress = Callable[[Mapping[str, Any]], object]
EXIT_CODES = {"complete": 0, "partial": 0, "interrupted": 130, "time limit": 124}


@dataclass(frozen=True)
class Outcome:
    """What a run left: `status` is complete, partial (cells were not asked for), interrupted or time limit."""

    exhibit: Exhibit
    folder: Path
    status: str
    table: Table
    missing: list[str]
    files: list[Path]

    @property
    def exit_code(self) -> int:
        """What the command line ends with."""
        return EXIT_CODES[self.status]


def reproduce(
    name: str | Exhibit,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    only: str | None = None,
    progress: Progress | None = None,
    time_limit: float | None = None,
) -> Outcome:
    """Compute the exhibit's cells that `out` does not hold yet, and write its table, figure and data there.

    `out` is new, empty, or holds what an earlier run of the same exhibit left; by default reproduced/NAME, with -quick
    behind it for a quick one. `only` is a pattern of keys, as in "ode-*": other cells are not computed now. Ctrl-C and
    the time limit (seconds) keep every finished cell and write what they give.

    Errors: InputError for names that are none and for folders that hold something else; those of the cells.
    """
    chosen = find(name) if isinstance(name, str) else name
    cells = list(chosen.cells(quick))
    asked = [cell for cell in cells if only is None or fnmatch.fnmatchcase(cell.key, only)]
    if not asked:
        some = ", ".join(cell.key for cell in cells[:5])
        raise InputError(f"no cell of {chosen.name} is called {only}. Keys are {some}{' ...' * (len(cells) > 5)}.")
    folder = Path(out) if out is not None else default_folder(chosen.name, quick)
    writable(folder)
    shelf = Shelf(folder, chosen, quick, cells)
    try:
        deadline = None if time_limit is None else time.monotonic() + time_limit
        status = _compute(shelf, asked, progress or (lambda fields: None), deadline)
        status = "partial" if status == "complete" and shelf.missing else status
        with sound(folder / "cells") if shelf.found else nullcontext():
            table = chosen.table(shelf.results)
            files = write(chosen, shelf, table, quick)
    finally:
        shelf.close()
    return Outcome(chosen, folder, status, table, shelf.missing, files)


def default_folder(name: str, quick: bool) -> Path:
    """reproduced/NAME or reproduced/NAME-quick."""
    return Path("reproduced") / (f"{name}-quick" if quick else name)


def writable(folder: Path) -> None:
    """Errors: InputError when no folder can be made or written there."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Choose the name of a folder.")
    above = folder.absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {above} is no folder that can be. Choose another place.")


def _compute(shelf: Shelf, asked: list[Cell], progress: Progress, deadline: float | None) -> str:
    """Compute what is asked and not there; complete, interrupted or time limit."""
    try:
        for cell in asked:
            if cell.key in shelf.kept:
                continue
            head = {"cell": cell.key, "finished": len(shelf.kept), "of": len(shelf.cells)}
            work = Work(shelf.work(cell), partial(_tell, progress, head), deadline)
            work.tell({})
            began = time.perf_counter()
            work.left  # noqa: B018 (raises when there is no time left)
            try:
                result = dict(cell.compute(work, **cell.settings))
            except Diverged as error:
                result = {"diverged": str(error)}
            shelf.keep(cell, result, time.perf_counter() - began)
    except KeyboardInterrupt:
        return "interrupted"
    except TimeUp:
        return "time limit"
    return "complete"


def _tell(progress: Progress, head: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    progress({**head, **fields})


def write(chosen: Exhibit, shelf: Shelf, table: Table, quick: bool) -> list[Path]:
    """Write NAME.csv, NAME.md, NAME.json and NAME.png, each in one step; the paths."""
    from physid.plots import png

    figure = chosen.figure(shelf.results)
    content = {
        "csv": table_bytes(table.columns, [["" if cell is None else cell for cell in row] for row in table.rows]),
        "md": page(chosen, shelf, table, quick, figure is not None).encode(),
        "json": json_bytes(data(chosen, shelf, table, quick)),
        **({} if figure is None else {"png": png(figure)}),
    }
    paths = []
    for kind, text in content.items():
        paths.append(shelf.folder / f"{chosen.name}.{kind}")
        put(paths[-1], text)
    return paths


def page(chosen: Exhibit, shelf: Shelf, table: Table, quick: bool, pictured: bool) -> str:
    """The exhibit as a page of Markdown."""
    seconds = sum(kept["seconds"] for kept in shelf.kept.values())
    parts = [f"# {chosen.title}", chosen.setting]
    if quick:
        parts.append(f"**Quick:** {chosen.left_out}")
    if shelf.missing:
        parts.append(f"**Not finished:** {len(shelf.missing)} of {len(shelf.cells)}: {', '.join(shelf.missing)}.")
    parts.append(table.markdown())
    if pictured:
        parts.append(f"![{chosen.title}]({chosen.name}.png)")
    parts.append(f"{len(shelf.kept)} cells in {seconds:.3g} s.")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def data(chosen: Exhibit, shelf: Shelf, table: Table, quick: bool) -> dict[str, Any]:
    """Everything as data: settings, machine, what the paper printed, the cells, the table."""
    return {
        "exhibit": chosen.name,
        "title": chosen.title,
        "setting": chosen.setting,
        "quick": quick,
        "left_out": chosen.left_out if quick else "",
        "machine": environment(),
        "paper": chosen.paper,
        "missing": shelf.missing,
        "columns": table.columns,
        "rows": table.rows,
        "notes": table.notes,
        "cells": {key: shelf.kept[key] for key in shelf.cells if key in shelf.kept},
    }
