"""What the text, or value, of an option is read by: each reader returns the value, or says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from physid.door import most

# A reader takes what was given, text or a value, and returns the value; it raises ValueError with what is allowed.
Reader = Callable[[Any], Any]


class Refused(ValueError):
    """Raised by a reader; its text says what is allowed."""


def number(low: float = -math.inf, *, above: bool = False) -> Reader:
    """Reads a finite number, at least `low` (or above it)."""
    what = (
        "a number" if low == -math.inf else f"a number {'above' if above else 'from'} {low:g}{'' if above else ' up'}"
    )

    def read(value: Any) -> float:
        try:
            found = float(value)
        except (TypeError, ValueError):
            raise Refused(what) from None
        if not math.isfinite(found) or found < low or (above and found == low):
            raise Refused(what)
        return found

    return read


def whole(low: int, high: int = 1_000_000) -> Reader:
    """Reads a whole number from `low` to `high`, which --limits raises: a slip is to cost neither hours nor memory."""

    def read(value: Any) -> int:
        try:
            found = int(value)
            good = not isinstance(value, bool) and (isinstance(value, str) or found == value)
            good = good and low <= found <= most(high)
        except (TypeError, ValueError, OverflowError):
            found, good = low, False
        if not good:
            raise Refused(f"a whole number from {low} to {most(high)} (more with --limits)")
        return found

    return read


def one_of(*names: str | Collection[str]) -> Reader:
    """Reads one of some words, or of the names of a registry, which are asked for when it reads."""
    words = [name for name in names if isinstance(name, str)]
    registries = [name for name in names if not isinstance(name, str)]

    def read(value: Any) -> str:
        if any(value in registry for registry in registries):
            return str(value)
        if value not in words:
            raise Refused(f"one of {', '.join([*words, *(name for one in registries for name in one)])}")
        return str(value)

    return read


def folder(value: Any) -> Path:
    """Reads a folder that is there."""
    path = Path(value).expanduser()
    if not path.is_dir():
        raise Refused("a folder that exists")
    return path


def numbers_list(value: Any) -> list[float]:
    """Reads numbers, separated by commas when they are text."""
    try:
        found = [
            float(x)
            for x in (
                value.split(",") if isinstance(value, str) else (list(value) if hasattr(value, "__iter__") else [value])
            )
        ]
    except (TypeError, ValueError):
        raise Refused("a list of numbers, as in 1,1,0.9,") from None
    if not found or not all(map(math.isfinite, found)):
        raise Refused("a list of finite numbers")
    return found
