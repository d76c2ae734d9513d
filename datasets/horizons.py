"""Vector tables as the JPL Horizons service prints them: read with care, found on this machine or asked for."""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from physid.arrays import Array
from physid.datasets.fetch import cache_folder, content, data_folder, download, kept
from physid.errors import InputError, MissingError

SERVICE = "https://ssd.jpl.nasa.gov/api/horizons.api"
FOLDER = "jpl_horizons_barycentric"

# body -> (number of the target in the service, step of the table)
TARGETS = {
    "sun": ("10", "20 d"),
    "jupiter": ("599", "50 d"),
    "saturn": ("699", "50 d"),
    "uranus": ("799", "50 d"),
    "neptune": ("899", "50 d"),
}

# What the head of a table must say: words of a line, what follows the colon, and the setting of the service for it.
HEAD = (
    ("Center body name", "Solar System Barycenter", "CENTER='500@0'"),
    ("Output units", "AU-D", "OUT_UNITS='AU-D'"),
    ("Output type", "GEOMETRIC", "VEC_CORR='NONE'"),
    ("Output format", "2", "VEC_TABLE='2'"),
    ("Reference frame", "ICRF", "REF_PLANE='FRAME'"),
)
NUMBER = r"([-+]?\d+\.\d*(?:[ED][-+]?\d+)?)"
EPOCH = re.compile(rf"^\s*{NUMBER}\s*=\s*A\.D\.\s.*TDB\s*$")
POSITION = re.compile(rf"^\s*X\s*=\s*{NUMBER}\s+Y\s*=\s*{NUMBER}\s+Z\s*=\s*{NUMBER}\s*$")
VELOCITY = re.compile(rf"^\s*VX\s*=\s*{NUMBER}\s+VY\s*=\s*{NUMBER}\s+VZ\s*=\s*{NUMBER}\s*$")
ROWS = (
    (EPOCH, "an epoch, as in '2415020.500000000 = A.D. 1900-Jan-01 00:00:00.0000 TDB'"),
    (POSITION, "a position, as in 'X =-3.0E+00 Y =-4.1E+00 Z =-1.6E+00'"),
    (VELOCITY, "a velocity, as in 'VX= 6.1E-03 VY=-3.5E-03 VZ=-1.6E-03'"),
)


@dataclass(frozen=True)
class EphemerisTable:
    """Epochs [T] as Julian dates (TDB), states [T, 2, 3] in au and au per day, and the sha256 of the printed lines."""

    epochs: Array
    states: Array
    sha256: str

    def at(self, epochs: Array) -> Array:
        """The states at `epochs`, all of which the table has."""
        return self.states[np.searchsorted(self.epochs, epochs)]


def read_table(path: Path, body: str) -> EphemerisTable:
    """The barycentric table of `body` in the file `path`, in au and days, ICRF, geometric.

    Errors: InputError naming the file, the line, what was found and what to do.
    """
    return parse_table(content(path).decode("ascii", "replace"), str(path), body)


def parse_table(text: str, name: str, body: str) -> EphemerisTable:
    """The table of `body` in the `text` of the file `name`; errors as for `read_table`."""
    lines = text.splitlines()
    first, last = _marks(name, lines)
    _check_head(name, lines[:first], body)
    rows = [(i + 1, lines[i]) for i in range(first + 1, last) if lines[i].strip()]
    numbers = np.array([x for i, (line, row) in enumerate(rows) for x in _numbers(name, line, row, i % 3)])
    if not rows or len(rows) % 3:
        raise InputError(
            f"{name}, line {last + 1}: the table ends after {len(rows)} lines: expected one or more blocks of three "
            "(epoch, position, velocity). Ask the service again."
        )
    blocks = numbers.reshape(-1, 7)
    late = np.flatnonzero(np.diff(blocks[:, 0]) <= 0)
    if len(late):
        line = rows[3 * int(late[0]) + 3][0]
        raise InputError(f"{name}, line {line}: the epoch is not later than the one before it. Ask the service again.")
    digest = hashlib.sha256("\n".join(row.rstrip() for _, row in rows).encode()).hexdigest()
    return EphemerisTable(blocks[:, 0].copy(), blocks[:, 1:].reshape(-1, 2, 3).copy(), digest)


def _marks(name: str, lines: list[str]) -> tuple[int, int]:
    """Begin and end of the table: the rows of its two marks."""
    places = []
    for mark in ("$$SOE", "$$EOE"):
        found = [i for i, line in enumerate(lines) if line.strip() == mark]
        if len(found) != 1:
            said = next((line.strip() for line in lines if line.strip().strip("*")), "nothing")[:100]
            raise InputError(
                f"{name}: {len(found)} lines are {mark}, where a whole Horizons table has one; the file begins with "
                f"'{said}'. Put a vector table of the service there."
            )
        places.append(found[0])
    if places[0] > places[1]:
        raise InputError(f"{name}, line {places[1] + 1}: $$EOE stands before $$SOE. Ask the service again.")
    return places[0], places[1]


def _check_head(name: str, head: list[str], body: str) -> None:
    """Check that the table is of the body, about the barycentre, in the units and the frame that are needed."""
    for words, needed, setting in (("Target body name", body.capitalize(), f"COMMAND='{TARGETS[body][0]}'"), *HEAD):
        found = [(i + 1, line.partition(":")[2].strip()) for i, line in enumerate(head) if line.startswith(words)]
        if not found:
            raise InputError(f"{name}: no line says '{words}', which should be {needed}. Ask again with {setting}.")
        line, text = found[-1]
        if not text.startswith(needed):
            raise InputError(
                f"{name}, line {line}: '{words}' is '{text}': expected {needed}. Ask the service with {setting}."
            )


def _numbers(name: str, line: int, text: str, kind: int) -> list[float]:
    """The numbers of one printed line, which is an epoch, a position or a velocity."""
    pattern, meaning = ROWS[kind]
    match = pattern.match(text)
    numbers = [float(x.replace("D", "E")) for x in match.groups()] if match else []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise InputError(f"{name}, line {line}: '{text.strip()[:80]}' is not {meaning}. Ask the service again.")
    return numbers


def find_tables(bodies: tuple[str, ...], folder: Path | None = None) -> dict[str, EphemerisTable]:
    """The tables of `bodies`: from `folder`, else PHYSID_DATA, else the user's cache, else the Horizons service.

    Errors: InputError for a table that cannot be used; MissingError, saying where to put which files, when there is
    none and the service cannot be reached.
    """
    if folder is not None:
        return {body: read_table(_in_folder(folder, body), body) for body in bodies}
    named = data_folder()
    if named is not None and (named / FOLDER).is_dir():
        return {body: read_table(_in_folder(named / FOLDER, body), body) for body in bodies}
    return {body: read_table(_cached(body), body) for body in bodies}


def _in_folder(folder: Path, body: str) -> Path:
    """The file of `body` in `folder`."""
    path = folder / f"{body.capitalize()}.txt"
    if not path.is_file():
        raise InputError(f"{folder} has no {path.name}: one Horizons vector table per body is needed. Put it there.")
    return path


def _cached(body: str) -> Path:
    """The file of `body` in the cache, asked for from the service if it is not there."""
    path = cache_folder() / FOLDER / f"{body.capitalize()}.txt"
    if kept(path):
        return path
    names = ", ".join(f"{each.capitalize()}.txt" for each in TARGETS)

    def check(partial: Path) -> None:
        parse_table(content(partial).decode("ascii", "replace"), "the answer of the service", body)

    try:
        return download(request(body), path, check=check)
    except (MissingError, InputError, OSError) as error:
        raise MissingError(
            f"the table of {body} is not on this machine and could not be fetched ({error}) "
            f"Put the Horizons vector tables {names} into {path.parent}, or name their folder with --tables."
        ) from error


def request(body: str) -> str:
    """The address at which the service prints the table of `body`; PHYSID_HORIZONS names another service."""
    command, step = TARGETS[body]
    settings = {"COMMAND": command, "EPHEM_TYPE": "VECTORS", "CENTER": "500@0", "STEP_SIZE": step}
    settings |= {"START_TIME": "1900-Jan-01", "STOP_TIME": "2100-Jan-01", "OUT_UNITS": "AU-D", "REF_SYSTEM": "ICRF"}
    settings |= {"REF_PLANE": "FRAME", "VEC_CORR": "NONE", "VEC_TABLE": "2", "VEC_LABELS": "YES", "CSV_FORMAT": "NO"}
    settings |= {"MAKE_EPHEM": "YES", "OBJ_DATA": "YES"}
    query = {"format": "text", **{name: f"'{value}'" for name, value in settings.items()}}
    return f"{os.environ.get('PHYSID_HORIZONS') or SERVICE}?{urlencode(query)}"
