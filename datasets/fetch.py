"""The user's cache, and downloads into it: by https, within limits of size and time, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from physid import door
from physid.door import TOTAL, factor, most, told
from physid.errors import InputError, MissingError
from physid.machine import cache_folder
from physid.store import scratch, writing

__all__ = ["cache_folder", "content", "data_folder", "download", "kept"]

TIMEOUT = 60.0  # seconds for which a server may say nothing
LARGEST = 2**30  # bytes
HERE = ("localhost", "127.0.0.1", "::1")  # a service of this machine, which may speak http


def data_folder() -> Path | None:
    """The folder of data that PHYSID_DATA names; None when it names none; InputError when that is no folder."""
    named = os.environ.get("PHYSID_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise InputError(f"PHYSID_DATA is {named}, which is no folder. Name the folder of the data, or unset it.")
    return folder


def kept(path: Path) -> bool:
    """Whether a file is there. Errors: InputError where a link, a device or a pipe stands for it in the cache.

    What the user put into a folder of the user's own may be a link.
    """
    folder = cache_folder()
    if path.is_relative_to(folder):
        return door.there(folder, *path.relative_to(folder).parts)
    return path.is_file()


def content(path: Path, largest: int = LARGEST) -> bytes:
    """The bytes of a file of data; in the cache it is a plain one. Errors: InputError, as for `physid.door.read`."""
    folder = cache_folder()
    if not path.is_relative_to(folder):
        return door.read(path, largest)
    try:
        return door.inside(folder, *path.relative_to(folder).parts, largest=largest)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Remove it to have it fetched again.") from None


def download(
    url: str, target: Path, *, sha256: str | None = None, check: Callable[[Path], object] | None = None
) -> Path:
    """Fetch `url` into the file `target`, which appears whole or not at all.

    `check` is called with the file before it is moved in place, and raises if it is not what it should be.

    Errors: MissingError when the server cannot be reached, refuses, leads away from https, takes longer than TOTAL,
    sends more than LARGEST or less than it promised, or something whose sha256 is another one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch(target.parent, f".{target.name}") as work:
        partial = work / target.name
        with writing(partial) as file:
            found = _fetched(url, file)
        if sha256 is not None and found != sha256:
            raise MissingError(
                f"{url} sent a file with sha256 {found}, not {sha256}: it was not kept. Try again later."
            )
        if check is not None:
            check(partial)
        partial.replace(target)
    return target


class _Secure(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to https only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The request of the new address."""
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise urllib.error.URLError(f"it leads to {newurl.partition('?')[0]}, and only https is followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _fetched(url: str, file: IO[bytes]) -> str:
    """Write the bytes at `url` into a file, in a thread that is left behind when time is up; their sha256."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in HERE):
        raise MissingError(f"{url.partition('?')[0]} is no address of https, the only kind that is fetched from.")
    limit = TOTAL * factor()
    work = _Copy(url, file, most(LARGEST), time.monotonic() + limit)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(limit)
    finally:
        work.over = True
    if thread.is_alive():
        work.error = TimeoutError(f"it takes longer than {limit:g} s; raise the limits, as in --limits 10")
    if work.error is not None:
        reason = work.error.reason if type(work.error) is urllib.error.URLError else work.error
        raise MissingError(f"{url.partition('?')[0]} cannot be read: {reason}.") from work.error
    return work.digest.hexdigest()


class _Copy:
    """One download: called, it reads until the end, an error, the limit of size, or until it is `over`."""

    def __init__(self, url: str, file: IO[bytes], largest: int, deadline: float) -> None:
        self.url, self.file, self.largest, self.deadline = url, file, largest, deadline
        self.digest = hashlib.sha256()
        self.error: BaseException | None = None
        self.over = False

    def __call__(self) -> None:
        """Read."""
        try:
            self._read()
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            self.error = error
        except Exception as error:  # whatever it is ends the download, in the caller's thread
            self.error = error if isinstance(error, OSError | HTTPException | ValueError) else OSError(str(error))

    def _read(self) -> None:
        request = urllib.request.Request(self.url, headers={"User-Agent": "physid"})
        size = 0
        with urllib.request.build_opener(_Secure).open(request, timeout=TIMEOUT) as answer:
            promised = answer.headers.get("Content-Length")
            if promised is not None and int(promised) > self.largest:
                raise OSError(self._too_much(int(promised)))
            while not self.over and (block := answer.read1(1 << 16)):
                size += len(block)
                if size > self.largest:
                    raise OSError(self._too_much(size))
                if time.monotonic() > self.deadline:
                    raise TimeoutError("it takes too long; raise the limits, as in --limits 10")
                self.digest.update(block)
                self.file.write(block)
        if promised is not None and size != int(promised) and not self.over:
            raise OSError(f"{size} of {promised} bytes came, and then the end. Try again")

    def _too_much(self, size: int) -> str:
        return f"it sends {told(size)}: expected up to {told(self.largest)}; raise the limits, as in --limits 10"
