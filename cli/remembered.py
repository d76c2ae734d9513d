"""Listings as they were last read, so that `physid list` need not import what it lists.

They hold as long as no module that they were read from has changed, and nothing was installed or removed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import physid
from physid import door
from physid.errors import InputError
from physid.machine import cache_folder
from physid.store import put

FILE = "listings.json"
OURS = ("physid", "models", "datasets")


def remembered(kinds: Iterable[str]) -> dict[str, Any] | None:
    """The listings of these kinds; None where they have to be read, as in a process that may have parts of its own."""
    if "torch" in sys.modules:
        return None
    try:
        found = json.loads(door.inside(cache_folder(), FILE))
        if found["of"] != _of() or any(_state(path) != state for path, state in found["state"].items()):
            return None
        return {kind: found["listings"][kind] for kind in kinds}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError):
        return None


def remember(listings: dict[str, Any]) -> None:
    """Keep listings that were just read, in the place of those before."""
    with suppress(OSError, InputError):
        folder = cache_folder()
        state = {path: _state(path) for path in [*map(str, _modules()), *filter(os.path.isdir, map(str, sys.path))]}
        put(folder / FILE, json.dumps({"of": _of(), "state": state, "listings": listings}).encode())


def _of() -> list[str]:
    return [physid.__version__, sys.version, *map(str, sys.path)]


def _modules() -> list[Path]:
    """The files of physid, and of the packages that add parts, that this process has imported; with their metadata."""
    from physid.catalog import entry_points

    offered = entry_points()
    packages = {*OURS, *(one.value.partition(":")[0].partition(".")[0] for one in offered)}
    loaded = [
        Path(file)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in packages and (file := getattr(module, "__file__", None))
    ]
    files = (one.dist.locate_file(file) for one in offered if one.dist for file in one.dist.files or ())
    return [*loaded, *(Path(str(file)) for file in files if Path(str(file)).name == "entry_points.txt")]


def _state(path: str) -> list[int] | None:
    """When and how large the file or folder is; None where it is not there."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return [about.st_mtime_ns, about.st_size]
