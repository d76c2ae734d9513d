"""File formats: JSON, CSV tables and NPZ archives, read with one-line errors and never unpickled."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import physid.door as door
from physid.arrays import Array
from physid.errors import InputError

SUMS = "SHA256SUMS"
MANY = 2**24  # bytes of sums: there are a few dozen
# what comes of content of another kind than was written
FAULTS = (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, RuntimeError, csv.Error)
ARCHIVE_ERRORS = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, AttributeError)


def plain(value: Any) -> Any:
    """`value` as JSON can say it: arrays as lists, records as mappings, infinity and not-a-number as null."""
    if dataclasses.is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def text_of(value: object, digits: int = 6, none: str = "") -> str:
    """A cell of a table as people read it: that many significant digits, `none` for None."""
    if value is None:
        return none
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list | tuple):
        return ", ".join(text_of(part, digits, none) for part in value)
    return str(value)


def json_bytes(value: Any) -> bytes:
    """`value` as JSON text."""
    return (json.dumps(plain(value), indent=1, allow_nan=False) + "\n").encode()


def table_bytes(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """A table as CSV; numbers as they are, so that reading gives the same bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if isinstance(c, float) and math.isnan(c) else c for c in row] for row in rows])
    return text.getvalue().encode()


def rows_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of named values as CSV; what a row does not have is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table_bytes(names, [[row.get(name, "") for name in names] for row in rows])


def rows_of(data: bytes) -> list[dict[str, Any]]:
    """The rows of `rows_bytes`, with numbers for numbers."""
    rows = csv.DictReader(io.StringIO(data.decode(errors="replace")))
    return [{name: _cell(value) for name, value in row.items() if value != ""} for row in rows]


def _cell(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def archive_bytes(**arrays: Array) -> bytes:
    """Arrays as NPZ."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def read_archive(data: bytes) -> dict[str, Array]:
    """The arrays of an NPZ file; objects are refused. Errors: ARCHIVE_ERRORS."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return {key: found[key] for key in found.files}


def sums_bytes(files: Mapping[str, bytes]) -> bytes:
    """The sha256 of every file, as sha256sum prints them."""
    return "".join(f"{sha256(data)}  {name}\n" for name, data in sorted(files.items())).encode()


def sha256(data: bytes) -> str:
    """The sha256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def sound(folder: Path) -> Iterator[None]:
    """Turns an error of damaged content, read inside of this, into InputError."""
    try:
        yield
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {error}. Use a copy.") from error


class Folder:
    """A run directory that is being read: every file is compared with its sum.

    The folder itself may be a link; inside it there are plain files only.
    Errors: InputError for a folder that is no run, and for files that are missing or not as they were written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise InputError(f"{path} is no folder. Give the run directory that physid fit wrote.")
        door.check_plain(path)
        if not door.there(path, SUMS) and door.there(path, "request.json"):
            raise InputError(f"{path} is not finished: its fit still runs, or was killed. Then: physid resume {path}.")
        if not door.there(path, SUMS) or not door.there(path, "settings.json"):
            raise InputError(f"{path} is no run directory: it has no {SUMS} or settings.json. Give one that fit wrote.")
        try:
            lines = door.inside(path, SUMS, largest=MANY).decode().splitlines()
            self.sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        except InputError:
            raise
        except (ValueError, OSError):
            raise InputError(f"{path / SUMS} is damaged. Fit again, or take the run from a copy.") from None

    @classmethod
    def begun(cls, path: Path) -> tuple[Folder, dict[str, Any]]:
        """The starting files of a run, finished or not, and its request. Errors: InputError for what is no such run."""
        run = cls.__new__(cls)
        run.path, name = path, "request.json"
        try:
            data = door.inside(path, name)
            door.check_plain(path)
            request = json.loads(data)
            run.sums = {**request["sums"], name: sha256(data)}
        except FileNotFoundError:
            raise InputError(f"{path} is no run directory: it has no {name}. Give one that physid fit wrote.") from None
        except OSError as error:
            raise InputError(f"{path / name} cannot be read: {error.strerror}. Use a copy.") from None
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{path / name} is damaged. Use a copy.") from None
        return run, request

    def altered(self) -> list[str]:
        """The files that are missing or not as they were written."""
        return [name for name in sorted(self.sums) if not self._intact(name)]

    def _intact(self, name: str) -> bool:
        try:
            return sha256(door.inside(self.path, name)) == self.sums[name]
        except OSError:
            return False

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        try:
            data = door.inside(self.path, name)
        except OSError as error:
            raise InputError(
                f"{self.path / name} cannot be read: {error.strerror}. Fit again, or use a copy."
            ) from None
        if sha256(data) != self.sums.get(name):
            raise InputError(f"{self.path / name} is damaged: not what was written. Fit again, or use a copy.")
        return data

    def json(self, name: str) -> Any:
        """The content of a JSON file."""
        try:
            return json.loads(self.read(name))
        except InputError:
            raise
        except (ValueError, RecursionError):
            raise self.strange(name, "JSON") from None

    def archive(self, name: str) -> dict[str, Array]:
        """The arrays of an NPZ file; objects are refused."""
        try:
            return read_archive(self.read(name))
        except InputError:
            raise
        except ARCHIVE_ERRORS:
            raise self.strange(name, "an archive of plain arrays") from None

    def strange(self, name: str, what: str) -> InputError:
        """The error for a file that is not of its kind."""
        return InputError(f"{self.path / name} is not {what}. Fit again, or take the run from a copy.")
