"""The structures of the runtime's C as Python fills them, made from their one declaration in c/base.h."""

from __future__ import annotations

import ctypes
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physid.ode.methods.tableau import Tableau
from physid.ode.solution import Status

FOLDER = Path(__file__).parent / "c"
TYPES: dict[str, Any] = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "int": ctypes.c_int,
    "double": ctypes.c_double,
}


class Declared:
    """What a header declares: structures by name, constants by name, and the names of enumerations in order.

    A pointer, to whatever it points, is an address. Structures that hold numbers of the state's type by value, REAL,
    have no size of their own and are left out.
    """

    def __init__(self, header: str) -> None:
        text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
        self.constants = {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)$", text, re.M)}
        self.enumerations = [
            [name.partition("=")[0].strip() for name in names.split(",")]
            for names in re.findall(r"\benum \{(.*?)\};", text, re.S)
        ]
        self.types = dict(TYPES)
        for body, name in re.findall(r"typedef struct \{(.*?)\}\s*(\w+);", text, re.S):
            fields = [field for line in body.split(";") if line.strip() for field in self._fields(line)]
            if all(kind is not None for _, kind in fields):
                self.types[name] = type(name, (ctypes.Structure,), {"_fields_": fields, "__doc__": f"`{name}` of C."})

    def _fields(self, line: str) -> list[tuple[str, Any]]:
        """Names and types of one line of a structure, as in `const double *a, b[2]`; no type for one that has none."""
        function = re.match(r"\s*[\w ]+\**\(\*(\w+)\)\(.*\)\s*$", line, re.S)
        if function:
            return [(function[1], ctypes.c_void_p)]
        kind, _, names = re.sub(r"\bconst\b", "", line).strip().partition(" ")
        found = []
        for name in names.split(","):
            stars, word, count = re.fullmatch(r"\s*(\**)\s*(\w+)\s*(?:\[(\d+)\])?\s*", name).groups()  # type: ignore[union-attr]
            base = ctypes.c_void_p if stars else self.types.get(kind)
            found.append((word, base * int(count) if base is not None and count else base))
        return found


BASE = Declared((FOLDER / "base.h").read_text())
MOST_STAGES = BASE.constants["MOST_STAGES"]  # of a method, with those of its dense output
STATUSES = [Status[name] for name in BASE.enumerations[0] if name != "HALTED"]  # by their numbers in C
REASONS = {name: place for place, name in enumerate(BASE.enumerations[1], 1)}  # why all work has stopped
CHOICE = np.dtype(BASE.types["Choice"])

Method: Any = BASE.types["Method"]
Ear: Any = BASE.types["Ear"]


class Task(ctypes.Structure):
    """`Task` of base.h, and the owner of its tape."""

    owner: Any
    _fields_ = BASE.types["Task"]._fields_


class LaneReport(ctypes.Structure):
    """`Report` of base.h."""

    _fields_ = BASE.types["Report"]._fields_


class LaneTape(ctypes.Structure):
    """`Tape` of base.h."""

    _fields_ = BASE.types["Tape"]._fields_


@lru_cache(maxsize=64)
def method_of(tableau: Tableau) -> tuple[Method, tuple[NDArray[np.float64], ...]]:
    """The C structure of a tableau, and the arrays that it points into."""
    total = tableau.stages + len(tableau.extra_c)
    a = np.zeros((total, total))
    for i, row in enumerate((*tableau.a, *tableau.extra_a)):
        a[i, : len(row)] = row
    none = np.zeros(tableau.stages)
    arrays = (
        np.array((*tableau.c, *tableau.extra_c)),
        a,
        np.ascontiguousarray(a.T),
        np.array(tableau.b),
        none if tableau.error is None else np.array(tableau.error),
        none if tableau.error3 is None else np.array(tableau.error3),
        np.ascontiguousarray(np.array(tableau.dense).T),
    )
    degree = len(tableau.dense[0])
    flags = (tableau.fsal, tableau.error is not None, tableau.error3 is not None)
    pointers = (array.ctypes.data for array in arrays)
    return Method(tableau.stages, total, degree, *map(int, flags), tableau.exponent, *pointers), arrays
