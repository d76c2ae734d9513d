"""Bounded reading: every file of a user is opened here, with limits on its size and time, and read once.

A file that the user names may be a link, a pipe or a FIFO. Inside a run directory or a cache, which others may have
filled, every part is opened by its own name without following a link, and nothing but regular files is read.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from contextlib import suppress
from pathlib import Path

from physid.errors import InputError

LARGEST = 2**30  # bytes of a file
SOURCE = 2**24  # bytes of a file of Python
QUIET = 60.0  # seconds for which a pipe may say nothing
TOTAL = 1800.0  # seconds until a pipe or a download has to be at its end
VARIABLE = "PHYSID_LIMITS"
BLOCK = 1 << 20
KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def factor() -> float:
    """By how much the user has raised every limit: the number in PHYSID_LIMITS, which --limits sets; 1 without one."""
    text = os.environ.get(VARIABLE, "")
    try:
        found = float(text or 1)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise InputError(f"{VARIABLE} is '{text}', but a positive number is expected. Give one, as in --limits 10.")
    return found


def most(limit: float) -> int:
    """A limit of size, number or seconds as the user has raised it."""
    return int(limit * factor())


def bounded(name: str, number: float, limit: float, low: float = 1) -> None:
    """Errors: InputError for a number below `low`, or beyond a limit that keeps a slip from costing hours or memory."""
    if not low <= number <= most(limit):
        raise InputError(
            f"{name}={number:.10g}: expected {low:g} to {most(limit)}. Give another number, or raise the "
            "limits, as in --limits 10."
        )


def told(size: float) -> str:
    """A number of bytes as people read it."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 2**power:
            return f"{size / 2**power:.3g} {unit}"
    return f"{size:.0f} bytes"


def too_large(path: Path, size: float, limit: float, advice: str = "") -> InputError:
    """The error for a file that holds, or unpacks to, more than is read."""
    return InputError(
        f"{path} holds {'more than ' * (told(size) == told(limit))}{told(size)}: expected up to {told(limit)}. "
        f"{advice}{'Or raise' if advice else 'Raise'} the limits, as in --limits 10."
    )


def read(path: Path, largest: int = LARGEST, advice: str = "") -> bytes:
    """The bytes of a file that the user names, read once; it may be a link or a pipe, as in <(zcat x.csv.gz).

    Errors: InputError for what is missing, a folder, a device, or not to be read; for more than `largest` bytes, with
    the `advice`; for a pipe that sends nothing for QUIET seconds, or sends for TOTAL.
    """
    about = _about(path)
    if stat.S_ISDIR(about.st_mode):
        raise InputError(f"{path} is a folder. Name the files in it.")
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISFIFO(about.st_mode):
        raise InputError(
            f"{path} is no regular file or pipe but {KINDS[stat.S_IFMT(about.st_mode)]}. Save the data in a file."
        )
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return contents(descriptor, path, largest, advice)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error


def _about(path: Path) -> os.stat_result:
    """The status of a path, through links. Errors: InputError where nothing is."""
    try:
        return path.stat()
    except FileNotFoundError:
        where = f"the link {path} points nowhere" if path.is_symlink() else f"the file {path} does not exist"
        raise InputError(f"{where}. Check its name and folder.") from None
    except (OSError, ValueError) as error:  # ValueError: a byte zero in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}. Give the path of a file.") from error


def contents(descriptor: int, path: Path, largest: int = LARGEST, advice: str = "") -> bytes:
    """The bytes behind an open descriptor, of a regular file or a pipe; errors as for `read`."""
    limit, about = most(largest), os.fstat(descriptor)
    pipe = stat.S_ISFIFO(about.st_mode)
    if not pipe and about.st_size > limit:
        raise too_large(path, about.st_size, limit, advice)
    parts: list[bytes] = []
    size, began = 0, time.monotonic()
    while True:
        if pipe:
            _wait(descriptor, path, began)
        try:
            part = os.read(descriptor, BLOCK)
        except BlockingIOError:  # another reader was faster
            continue
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > limit:
            raise too_large(path, limit, limit, advice)


def _wait(descriptor: int, path: Path, began: float) -> None:
    """Wait until a pipe has something to say, or its end."""
    quiet, total = QUIET * factor(), TOTAL * factor()
    left = min(quiet, began + total - time.monotonic())
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    if left <= 0 or not waiting.poll(1e3 * left):
        what = f"nothing came out of it for {quiet:g} s" if left == quiet else f"it goes on after {total:g} s"
        raise InputError(
            f"{path} is a pipe, and {what}. Look at what writes into it, or raise the limits, as in --limits 10."
        )


def inside(folder: Path, *names: str, largest: int = LARGEST) -> bytes:
    """The bytes of the regular file `names` inside a folder that others may have filled; the folder may be a link.

    Errors: InputError for links, devices, pipes, folders and what is too large; OSError for what cannot be opened.
    """
    descriptor = opened(folder, *names)
    try:
        return contents(descriptor, folder.joinpath(*names), largest)
    finally:
        os.close(descriptor)


def there(folder: Path, *names: str) -> bool:
    """Whether the regular file `names` is inside a folder. Errors: InputError for a link, a device or a pipe there."""
    try:
        os.close(opened(folder, *names))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{folder.joinpath(*names)} cannot be read: {error.strerror}. Use a copy.") from None
    return True


def opened(folder: Path, *names: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """A descriptor of the regular file `names` inside a folder, each part opened without following a link."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, name in enumerate(names, 1):
            path = folder.joinpath(*names[:depth])
            last = depth == len(names)
            _plain(name, at, path, stat.S_IFREG if last else stat.S_IFDIR)
            how = flags | os.O_NONBLOCK | os.O_NOCTTY if last else os.O_RDONLY | os.O_DIRECTORY
            try:
                found = os.open(name, how | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=at)
            except OSError as error:
                if error.errno == errno.ELOOP:  # it became a link in between
                    raise refused(path, "a link") from None
                raise
            os.close(at)
            at = found
        if not stat.S_ISREG(kind := os.fstat(at).st_mode):
            raise refused(path, KINDS[stat.S_IFMT(kind)])
        return at
    except BaseException:
        os.close(at)
        raise


def _plain(name: str, at: int, path: Path, kind: int) -> None:
    """Errors: InputError for a name that leads elsewhere, or has something else than a file or folder behind it."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InputError(f"{path} leads out of its folder. Use a copy from someone you trust.")
    with suppress(FileNotFoundError):
        found = stat.S_IFMT(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        if found != kind:
            raise refused(path, KINDS.get(found, "a file"))


def refused(path: Path, what: str) -> InputError:
    """The error for a link, a device, a pipe or a folder where a file of a run or a cache belongs."""
    return InputError(
        f"{path} is {what}: inside a run or a cache there are plain files only. Remove it, or use a copy."
    )


def check_plain(folder: Path) -> None:
    """Errors: InputError for a link, a device, a pipe or a socket inside a run directory."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                if kind not in (stat.S_IFREG, stat.S_IFDIR):
                    raise refused(folder / entry.name, KINDS.get(kind, "no file"))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}. Check its permissions.") from None
