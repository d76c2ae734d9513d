"""Files written whole or not at all, in folders that others may write too: random names, and no link is followed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from physid.door import KINDS, check_plain, opened
from physid.errors import InputError

GRACE = 10.0  # seconds within which a new folder takes its lock
LOCK = "lock"  # the file of a run directory that is locked while a process works in it


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file to fill, which is then on the disk under its name; OSError leaves what was there.

    It is made beside its place under a new random name, and moved there in one step: what stood there,
    a link for instance, is replaced and never written through. A folder, a device or a pipe is not replaced.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    beside = f".{path.name[:100]}.{secrets.token_hex(8)}.new"
    try:
        _replaceable(path, folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, 0o666, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def _replaceable(path: Path, folder: int) -> None:
    """Errors: OSError for a path at which something else than a file or a link stands."""
    with suppress(FileNotFoundError):
        kind = stat.S_IFMT(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            raise OSError(errno.EEXIST, f"{KINDS[kind]} stands there", str(path))


def put(path: Path, data: bytes) -> None:
    """Write a file in one step; see `writing`."""
    with writing(path) as file:
        file.write(data)


def write(path: Path, data: bytes) -> Path:
    """Write a file that the user named, in one step and with the folders above it. Errors: InputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, data)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from error
    return path


def clear(folder: Path) -> None:
    """Remove what killed processes left of files that they wrote here; for the one who holds the folder's lock."""
    for path in folder.iterdir():
        if re.fullmatch(r"\..+\.[0-9a-f]{16}\.new", path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def lock(folder: Path, name: str) -> IO[bytes] | None:
    """The lock file `name` of a folder, held until it is closed or the process ends; None when another holds it.

    Errors: OSError when it cannot be made, InputError when a link, a device or a pipe stands there.
    """
    file = os.fdopen(opened(folder, name, flags=os.O_RDWR | os.O_CREAT), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def claim(folder: Path) -> IO[bytes]:
    """The lock of a run directory, held until it is closed or the process ends.

    Errors: InputError when it is held, or cannot be made, and for a run that holds links, devices or pipes.
    """
    check_plain(folder)
    try:
        file = lock(folder, LOCK)
    except OSError as error:
        raise InputError(f"{folder / LOCK} cannot be written: {error.strerror}. Use a copy of the run.") from None
    if file is None:
        raise InputError(f"{folder} is being fitted by another process. Wait for it, or choose another run.")
    return file


def check_writable(path: Path, above: Path | None = None, option: str = "") -> None:
    """Refuse a place where nothing can be written: by default into the folder `path`, else into `above`.

    `option` is the flag that messages name before the path, as in "--out ". Errors: InputError.
    """
    if above is None and (path.is_symlink() or path.exists()) and not path.is_dir():
        raise InputError(f"{option}{path} is a file. Choose the name of a new folder.")
    above = (path if above is None else above).absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise InputError(f"{option}{path}: {above} is not a folder. Choose another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{option}{path}: the folder {above} cannot be written. Choose another place.")


def check_vacant(folder: Path, option: str = "") -> None:
    """Errors: InputError where no new run directory can be made: not empty, a file, or not to be written."""
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{option}{folder} exists and is not empty. Choose another folder or remove it.")
    if not folder.is_dir():
        check_writable(folder, option=option)
    check_writable(folder, folder.absolute().parent, option)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A hidden sibling to fill, which then takes the name `folder`; OSError when something else has it by then."""
    if folder.is_symlink():  # the folder of a run may be a link to an empty one
        folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(folder.parent, f".{folder.name}") as work:
        yield work
        os.chmod(work, 0o755)
        os.rename(work, folder)  # onto nothing or an empty folder; fails where another run came first
        sync(folder.parent)


@contextmanager
def scratch(parent: Path, stem: str) -> Iterator[Path]:
    """A new folder in `parent` that is this process's alone, removed at the end if it is still there.

    It is locked while it is in use, so that those of killed processes are known, and removed.
    """
    work, held = hold(parent, stem)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(held)


def hold(parent: Path, stem: str) -> tuple[Path, int]:
    """A new folder as that of `scratch`, for its maker to remove, and the descriptor by which it is locked."""
    sweep(parent, stem)
    work = parent / f"{stem[:100]}.{secrets.token_hex(8)}.making"
    os.mkdir(work, 0o700)
    try:
        held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except BaseException:
        os.rmdir(work)
        raise
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
    except BaseException:
        os.rmdir(work)
        os.close(held)
        raise
    return work, held


def sweep(parent: Path, stem: str) -> None:
    """Remove the folders of `scratch` whose processes are gone."""
    pattern = re.compile(re.escape(stem[:100]) + r"\.[0-9a-f]{16}\.making")
    with suppress(OSError):
        for path in parent.iterdir():
            if pattern.fullmatch(path.name) and _abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _abandoned(path: Path) -> bool:
    """Whether a folder of ours is held by no process."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        about = os.fstat(held)
        if about.st_uid != os.geteuid() or time.time() - about.st_mtime < GRACE:
            return False
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(held)
    return True


def sync(folder: Path) -> None:
    """See that the names in a folder have reached the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
