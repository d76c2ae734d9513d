"""Machine: the user's private cache folder, a C compiler, and installed packages."""

from __future__ import annotations

import atexit
import os
import platform
import shlex
import shutil
import stat
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from physid.errors import InputError

SHARED = "PHYSID_CACHE_SHARED"


def wished_folder() -> Path:
    """The cache folder that is asked for: PHYSID_CACHE, or `physid` in the platform's place for caches.

    A relative XDG_CACHE_HOME counts as none, as its specification says. Errors: InputError for a relative PHYSID_CACHE.
    """
    if named := os.environ.get("PHYSID_CACHE"):
        found = Path(named).expanduser()
        if not found.is_absolute():
            raise InputError(
                f"PHYSID_CACHE is {named}, but an absolute path is expected. Begin it with /, or unset it."
            )
        return found
    home = Path(os.environ.get("XDG_CACHE_HOME") or "").expanduser()
    if home.is_absolute():
        return home / "physid"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "physid"
    return Path.home() / ".cache" / "physid"


def cache_folder() -> Path:
    """The user's cache of physid, mode 0700, or a private folder in its place where others could write into it.

    Errors: InputError for a relative PHYSID_CACHE.
    """
    return private(wished_folder())[0]


def private(wished: Path) -> tuple[Path, str]:
    """A folder of mode 0700 that only the user can write, and why it is not the wished one; empty where it is.

    The folder is made. In the place of one that others can write stands that of the user in the temporary folder, and
    where even that one is another's, one of this process, which goes with it.
    """
    reason = _made(wished)
    if not reason:
        return wished, ""
    stand_in = Path(tempfile.gettempdir()).absolute() / f"physid-{os.geteuid()}"
    if not _made(stand_in):
        return stand_in, reason
    return _of_this_process(), reason


def shared_folder() -> Path | None:
    """The cache of others that PHYSID_CACHE_SHARED names, and so trusts; None without one. Errors: InputError."""
    named = os.environ.get(SHARED)
    if not named:
        return None
    if not Path(named).is_absolute() or not Path(named).is_dir():
        raise InputError(f"{SHARED} is {named}, but an absolute path of a folder is expected. Correct it, or unset it.")
    return Path(named)


def _made(folder: Path) -> str:
    """Why a folder is not the user's alone, or cannot be made; empty where it is, or now is."""
    try:
        missing = [part for part in (folder, *folder.parents) if not part.exists()]
        for part in reversed(missing):
            part.mkdir(mode=0o700, exist_ok=True)
        why = distrust(folder)
        if not why and stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)
        if not why and not os.access(folder, os.W_OK | os.X_OK):
            return f"{folder} cannot be written"
    except OSError as error:
        return f"{folder} cannot be made: {error.strerror}"
    return why


def distrust(folder: Path) -> str:
    """Why others could change what is in a folder: its owner and mode, and those of every folder on the way down.

    A folder on the way is the user's or the system's, and not for others to write, unless what stands in it belongs to
    who made it (the sticky bit, as /tmp has it). Empty where nothing is wrong. Errors: OSError.
    """
    me, real = os.geteuid(), Path(os.path.realpath(folder))
    for part in (real, *real.parents):
        about = os.lstat(part)
        last, mode = part == real, about.st_mode
        if not stat.S_ISDIR(mode):
            return f"{part} is no folder"
        if about.st_uid != me and (last or about.st_uid not in _system()):
            return f"{part} belongs to the user {about.st_uid}"
        if mode & 0o002 and (last or not mode & stat.S_ISVTX):
            return f"everyone can write into {part}"
        if mode & 0o020 and (last or not mode & stat.S_ISVTX) and not _own_group(about.st_gid):
            return f"the group {about.st_gid} can write into {part}"
    return ""


@cache
def _system() -> frozenset[int]:
    """The users whose folders are the system's: root, and in a container the one that all users outside map to."""
    try:
        whole = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
        outside = int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return frozenset({0})
    return frozenset({0} if whole else {0, outside})


@cache
def _own_group(group: int) -> bool:
    """Whether a group is the user's private one: of the user's name, with nobody else in it."""
    import grp
    import pwd

    try:
        me, found = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == me and set(found.gr_mem) <= {me}


@cache
def _of_this_process() -> Path:
    """A folder that is removed at the end of the process."""
    folder = Path(tempfile.mkdtemp(prefix="physid-cache-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, unless this is a copy of the process that made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def compiler_command() -> list[str] | None:
    """The C compiler with its options, as in CC="ccache gcc -O2": $CC if set, else the first of cc, gcc and clang.

    None where there is none on the path. Errors: InputError for a CC that cannot be split into words.
    """
    named = os.environ.get("CC", "").strip()
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise InputError(
            f"CC is {named}, which cannot be split into words ({error}). Correct it, or unset it."
        ) from None
    for command in [words] if words else [["cc"], ["gcc"], ["clang"]]:
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    return None


def environment() -> dict[str, Any]:
    """Environment of results: versions of physid, Python and packages, the platform, torch's threads."""
    modules = {name: import_module(name) for name in ("physid", "torch", "numpy", "scipy")}
    return {
        "python": sys.version.split()[0],
        **{name: module.__version__ for name, module in modules.items()},
        "platform": platform.platform(),
        "threads": modules["torch"].get_num_threads(),
    }
