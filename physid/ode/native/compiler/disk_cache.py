"""The user's cache of compiled libraries, each under the sha256 of its bytes; and one of others, where it is named."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from physid import door
from physid.errors import InputError
from physid.machine import distrust, shared_folder
from physid.store import put


@dataclass(frozen=True)
class Cabinet:
    """Libraries in a folder that only the user can write: KEY.sum holds the sha256 under which the library lies.

    Objects that libraries are linked with lie there in the same way, under another suffix.

    Errors: InputError for a folder or a file that others could have written, and where a link, a folder or a device
    stands in a file's place; OSError when it cannot be written.
    """

    folder: Path

    def find(self, key: str, suffix: str = ".so") -> Path | None:
        """The library of a key, whose bytes have been compared with its name; None where there is none, or damage."""
        if why := distrust(self.folder):
            raise InputError(f"{why}: no library is loaded from there.")
        found = self._checked(key, suffix)
        if found is None and (data := _of_others(key, suffix)) is not None:
            return self.keep(key, data, suffix, share=False)
        return found

    def keep(self, key: str, data: bytes, suffix: str = ".so", share: bool = True) -> Path:
        """Put a library under its hash, and its hash under the key; a library of that name is not written again."""
        name = f"{hashlib.sha256(data).hexdigest()}{suffix}"
        if not self._intact(name):
            put(self.folder / name, data)
        put(self.folder / f"{key}.sum", name.removesuffix(suffix).encode())
        shared = shared_folder() if share else None
        if shared is not None:
            with suppress(OSError):  # one that is for reading only
                put(shared / name, data)
                put(shared / f"{key}.sum", name.removesuffix(suffix).encode())
        if not self._intact(name):
            raise InputError(f"{self.folder / name} is not what was written. Look after the disk.")
        return Path(os.path.realpath(self.folder)) / name

    def _checked(self, key: str, suffix: str) -> Path | None:
        try:
            digest = self._own(f"{key}.sum").decode("ascii", "replace")
        except FileNotFoundError:
            return None
        if not re.fullmatch("[0-9a-f]{64}", digest) or not self._intact(f"{digest}{suffix}"):
            return None
        return Path(os.path.realpath(self.folder)) / f"{digest}{suffix}"

    def _intact(self, name: str) -> bool:
        """Whether the library of that name is there and what was written."""
        try:
            return hashlib.sha256(self._own(name)).hexdigest() == Path(name).stem
        except FileNotFoundError:
            return False

    def _own(self, name: str) -> bytes:
        """The bytes of a file of the user's."""
        descriptor = door.opened(self.folder, name)
        try:
            about = os.fstat(descriptor)
            if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o022:
                raise InputError(f"{self.folder / name} could have been written by others. Remove it.")
            return door.contents(descriptor, self.folder / name)
        finally:
            os.close(descriptor)


def _of_others(key: str, suffix: str) -> bytes | None:
    """The library of a key in the cache that PHYSID_CACHE_SHARED names; None where there is none, or damage."""
    shared = shared_folder()
    if shared is None:
        return None
    try:
        digest = door.inside(shared, f"{key}.sum", largest=64).decode("ascii", "replace")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            return None
        data = door.inside(shared, f"{digest}{suffix}")
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == digest else None
