"""The folder of an exhibit: what was asked, the finished cells, and the exhibit's files.

request.json comes first; cells/KEY.json is written in one step when the cell is finished; work/KEY is the cell's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import physid.door as door
from physid.errors import InputError
from physid.formats import json_bytes, plain
from physid.machine import environment
from physid.reproduce.exhibit import Cell, Exhibit
from physid.store import claim, clear, put

FORMAT = 1
REQUEST = "request.json"


class CellStore:
    """The folder of one exhibit, open for one process at a time; made where there is none.

    Errors: InputError for a folder of another exhibit, of other settings, of something else, or in use.
    """

    def __init__(self, folder: Path, exhibit: Exhibit, quick: bool, cells: Sequence[Cell]) -> None:
        self.folder, self.cells = folder, {cell.key: cell for cell in cells}
        if len(self.cells) < len(cells):
            raise ValueError(f"two cells of {exhibit.name} have one key")
        request = {"format": FORMAT, "exhibit": exhibit.name, "quick": quick}
        if folder.is_dir() and any(folder.iterdir()):
            self._compare(request)
        for part in (folder / "cells", folder / "work"):
            if part.is_symlink():
                raise door.refused(part, "a link")
            part.mkdir(parents=True, exist_ok=True)
        self.lock: IO[bytes] = claim(folder)
        try:
            for part in (folder, folder / "cells"):
                door.check_plain(part)
                clear(part)
            put(folder / REQUEST, json_bytes(request))
            self.kept = finished(folder, self.cells)
            self._adopt(exhibit, quick)
            self.found = frozenset(self.kept)  # not computed here
        except BaseException:
            self.close()
            raise

    def _compare(self, request: Mapping[str, Any]) -> None:
        """Refuse a folder that holds something else."""
        found = request_of(self.folder)
        differs = [name for name in request if found[name] != request[name]]
        if differs:
            told = ", ".join(
                f"{name} {json.dumps(found[name])} and not {json.dumps(request[name])}" for name in differs
            )
            raise InputError(f"{self.folder} was begun with {told}. Choose another folder, or ask for the same.")

    def _adopt(self, exhibit: Exhibit, quick: bool) -> None:
        """Take over finished cells of the same key and settings from folders of other exhibits beside this one."""
        for other in sorted(self.folder.absolute().parent.glob("*/" + REQUEST)) if exhibit.shares else ():
            try:
                about = json.loads(door.inside(other.parent, REQUEST))
                if about["exhibit"] not in exhibit.shares or about["quick"] != quick or about["format"] != FORMAT:
                    continue
                for cell in self.cells.values():
                    place = (other.parent, "cells", f"{cell.key}.json")
                    if cell.key in self.kept or not door.there(*place):
                        continue
                    data = door.inside(*place)
                    found = _cell(data)
                    if found["settings"] == plain(cell.settings):
                        put(_path(self.folder, cell), data)
                        self.kept[cell.key] = found
            except (OSError, ValueError, KeyError, TypeError):
                continue  # what cannot be read there is computed here

    def work(self, cell: Cell) -> Path:
        """The folder that is a cell's own."""
        return self.folder / "work" / cell.key

    def keep(self, cell: Cell, result: Mapping[str, Any], seconds: float) -> None:
        """Write a finished cell in one step."""
        content = {"key": cell.key, "settings": cell.settings, "result": result, "seconds": seconds}
        data = json_bytes({**content, "environment": environment()})
        put(_path(self.folder, cell), data)
        self.kept[cell.key] = json.loads(data)

    @property
    def missing(self) -> list[str]:
        """The keys of the cells that are not finished."""
        return [key for key in self.cells if key not in self.kept]

    def close(self) -> None:
        """Let others in again."""
        self.lock.close()


def request_of(folder: Path) -> dict[str, Any]:
    """The request of a folder. Errors: InputError for a folder that holds something else, and for damage."""
    try:
        found: dict[str, Any] = json.loads(door.inside(folder, REQUEST))
        if not isinstance(found["exhibit"], str):
            raise TypeError("the exhibit has no name")
        return {name: found[name] for name in ("format", "exhibit", "quick")}
    except FileNotFoundError:
        raise InputError(f"{folder} is not empty and holds no exhibit. Choose another folder.") from None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{folder / REQUEST} is damaged. Choose another folder.") from None


def finished(folder: Path, cells: Mapping[str, Cell]) -> dict[str, dict[str, Any]]:
    """The finished cells of a folder by key, in the order of the cells.

    Errors: InputError for one of other settings, or that cannot be read.
    """
    kept = {}
    for cell in cells.values():
        path = _path(folder, cell)
        if not door.there(folder, "cells", path.name):
            continue
        try:
            found = _cell(door.inside(folder, "cells", path.name))
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{path} is damaged. Remove it, and the cell is computed again.") from None
        if found["settings"] != plain(cell.settings):
            raise InputError(
                f"{path} was computed with other settings than this physid has. Choose another folder, or remove "
                "the file."
            )
        kept[cell.key] = found
    return kept


def results_of(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The results of finished cells by key."""
    return {key: one["result"] for key, one in kept.items()}


def _path(folder: Path, cell: Cell) -> Path:
    """The file of a cell."""
    return folder / "cells" / f"{cell.key}.json"


def _cell(data: bytes) -> dict[str, Any]:
    """The content of a cell's file. Errors: ValueError, KeyError, TypeError, RecursionError for anything else."""
    found: dict[str, Any] = json.loads(data)
    if not (isinstance(found["result"], dict) and 0 <= float(found["seconds"]) < float("inf")):
        raise ValueError("no cell")
    return found
