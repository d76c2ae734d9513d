"""What the machine offers to physid: a folder for caches and a C compiler."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache of physid, not made yet: PHYSID_CACHE, or `physid` in the platform's place for caches."""
    if os.environ.get("PHYSID_CACHE"):
        return Path(os.environ["PHYSID_CACHE"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]).expanduser() / "physid"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "physid"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "physid"
    return Path.home() / ".cache" / "physid"


def find_compiler() -> str | None:
    """The C compiler: $CC if set, else the first of cc, gcc and clang on the path."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((path for path in map(shutil.which, names) if path), None)
