"""Runs an exhibit: saves cells as they finish, then makes the table, the figure and the data."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from physid.errors import Diverged, InputError
from physid.formats import json_bytes, sound, table_bytes
from physid.inference.search.monitor import Progress
from physid.machine import environment
from physid.ode.hearing import TimeUp
from physid.reproduce.catalog import exhibit as find
from physid.reproduce.cell_store import CellStore, finished, request_of, results_of
from physid.reproduce.exhibit import Cell, Exhibit, Table, Work
from physid.runs.format import Run, RunFormat
from physid.store import check_writable, put

EXIT_CODES = {"complete": 0, "partial": 0, "interrupted": 130, "time limit": 124}


@dataclass(frozen=True)
class Reproduction:
    """An exhibit as far as it has been computed: its finished `cells` by key, in their order, and the table of them.

    `status` is complete, partial (cells were not asked for), interrupted or time limit; `files` are those written.
    """

    exhibit: Exhibit
    folder: Path
    quick: bool
    status: str
    cells: Mapping[str, Mapping[str, Any]]
    missing: list[str]
    table: Table
    files: list[Path]

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        return EXIT_CODES[self.status]

    def __str__(self) -> str:
        """The table and its notes in Markdown."""
        return page(self)

    def json(self) -> dict[str, Any]:
        """Settings, machine, the paper's figures, cells and table, as data."""
        chosen, table = self.exhibit, self.table
        return {
            "exhibit": chosen.name,
            "title": chosen.title,
            "setting": chosen.setting,
            "quick": self.quick,
            "left_out": chosen.left_out if self.quick else "",
            "machine": environment(),
            "paper": chosen.paper,
            "missing": self.missing,
            "columns": table.columns,
            "rows": table.rows,
            "notes": table.notes,
            "cells": self.cells,
        }


class ReproductionFormat(RunFormat[Reproduction]):
    """Exhibits of the paper: request.json, a file for every finished cell, and the table, figure and data of them."""

    kind = "reproduction"
    noun = "an exhibit of the paper"
    ended = ()

    def encode(self, result: Reproduction) -> dict[str, bytes]:
        """NAME.csv, NAME.md, NAME.json and NAME.png."""
        from physid.plots import png

        table, name = result.table, result.exhibit.name
        figure = result.exhibit.figure(results_of(result.cells))
        content = {
            "csv": table_bytes(table.columns, [["" if cell is None else cell for cell in row] for row in table.rows]),
            "md": page(result, figure is not None).encode(),
            "json": json_bytes(result.json()),
            **({} if figure is None else {"png": png(figure)}),
        }
        return {f"{name}.{kind}": text for kind, text in content.items()}

    def decode(self, run: Run) -> Reproduction:
        """The finished cells of an exhibit."""
        chosen, quick = _asked(run)
        cells = {cell.key: cell for cell in chosen.cells(quick)}
        kept = finished(run.path, cells)
        with sound(run.path / "cells"):
            table = chosen.table(results_of(kept))
        missing = [key for key in cells if key not in kept]
        written = [path for path in sorted(run.path.glob(f"{chosen.name}.*")) if path.is_file()]
        status = "partial" if missing else "complete"
        return Reproduction(chosen, run.path, quick, status, kept, missing, table, written)

    def resume(self, run: Run, progress: Progress | None, limit: float | None) -> Reproduction:
        """Compute the cells that are missing."""
        chosen, quick = _asked(run)
        return reproduce(chosen, run.path, quick=quick, progress=progress, time_limit=limit)


REPRODUCTIONS = ReproductionFormat()


def _asked(run: Run) -> tuple[Exhibit, bool]:
    """The exhibit that a folder holds, and whether it is a quick one. Errors: InputError for damage."""
    about = request_of(run.path)
    return find(about["exhibit"]) if run.part is None else run.part, bool(about["quick"])


def reproduce(
    name: str | Exhibit,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    only: str | None = None,
    progress: Progress | None = None,
    time_limit: float | None = None,
) -> Reproduction:
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
    check_writable(folder)
    store = CellStore(folder, chosen, quick, cells)
    try:
        deadline = None if time_limit is None else time.monotonic() + time_limit
        status = _compute(store, asked, progress or (lambda fields: None), deadline)
        status = "partial" if status == "complete" and store.missing else status
        kept = {key: store.kept[key] for key in store.cells if key in store.kept}
        with sound(folder / "cells") if store.found else nullcontext():
            table = chosen.table(results_of(kept))
            found = Reproduction(chosen, folder, quick, status, kept, store.missing, table, [])
            files = REPRODUCTIONS.encode(found)
        for name, content in files.items():
            put(folder / name, content)
    finally:
        store.close()
    return replace(found, files=[folder / name for name in files])


def default_folder(name: str, quick: bool) -> Path:
    """reproduced/NAME or reproduced/NAME-quick."""
    return Path("reproduced") / (f"{name}-quick" if quick else name)


def _compute(store: CellStore, asked: list[Cell], progress: Progress, deadline: float | None) -> str:
    """Compute what is asked and not there; complete, interrupted or time limit."""
    try:
        for cell in asked:
            if cell.key in store.kept:
                continue
            head = {"cell": cell.key, "finished": len(store.kept), "of": len(store.cells)}
            work = Work(store.work(cell), partial(_tell, progress, head), deadline)
            work.tell({})
            began = time.perf_counter()
            work.left  # noqa: B018 (raises when there is no time left)
            try:
                result = dict(cell.compute(work, **cell.settings))
            except Diverged as error:
                result = {"diverged": str(error)}
            store.keep(cell, result, time.perf_counter() - began)
    except KeyboardInterrupt:
        return "interrupted"
    except TimeUp:
        return "time limit"
    return "complete"


def _tell(progress: Progress, head: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    progress({**head, **fields})


def page(found: Reproduction, pictured: bool = False) -> str:
    """The exhibit as a page of Markdown."""
    chosen, seconds = found.exhibit, sum(one["seconds"] for one in found.cells.values())
    parts = [f"# {chosen.title}", chosen.setting]
    if found.quick:
        parts.append(f"**Quick:** {chosen.left_out}")
    if found.missing:
        count = len(found.missing) + len(found.cells)
        parts.append(f"**Not finished:** {len(found.missing)} of {count}: {', '.join(found.missing)}.")
    parts.append(found.table.markdown())
    if pictured:
        parts.append(f"![{chosen.title}]({chosen.name}.png)")
    parts.append(f"{len(found.cells)} cells in {seconds:.3g} s.")
    return "\n\n".join(part.strip() for part in parts) + "\n"
