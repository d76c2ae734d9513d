"""The user's cache, and downloads into it: checked, then moved in place at once."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from physid.errors import InputError, MissingError
from physid.machine import cache_folder

__all__ = ["cache_folder", "data_folder", "download"]

TIMEOUT = 60.0  # seconds


def data_folder() -> Path | None:
    """The folder of data that PHYSID_DATA names; None when it names none; InputError when that is no folder."""
    named = os.environ.get("PHYSID_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise InputError(f"PHYSID_DATA is {named}, which is no folder. Name the folder of the data, or unset it.")
    return folder


def download(
    url: str, target: Path, *, sha256: str | None = None, check: Callable[[Path], object] | None = None
) -> Path:
    """Fetch `url` into the file `target`, which appears whole or not at all.

    `check` is called with the file before it is moved in place, and raises if it is not what it should be.

    Errors: MissingError when the server cannot be reached, refuses, or sends something whose sha256 is another one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _copy(url, file.write)
        if sha256 is not None and found != sha256:
            raise MissingError(
                f"{url} sent a file with sha256 {found}, not {sha256}: it was not kept. Try again later."
            )
        if check is not None:
            check(partial)
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _copy(url: str, write: Callable[[bytes], object]) -> str:
    """Hand the bytes at `url` to `write`; the sha256 of them all."""
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "physid"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            while block := answer.read(1 << 16):
                digest.update(block)
                write(block)
    except (OSError, HTTPException, ValueError) as error:  # URLError, timeouts and refusals are OSErrors
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise MissingError(f"{url.partition('?')[0]} cannot be read: {reason}.") from error
    return digest.hexdigest()
