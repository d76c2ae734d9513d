"""What a catalogue holds: an entry with its options, each with a meaning, a default and a reader of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from physid.door import most
from physid.errors import InputError, unknown_name

T = TypeVar("T")

# A reader takes what was given, text or a value, and returns the value; it raises ValueError with what is allowed.
Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class Option:
    """One option of a data set: what it means, how it is read, and its value when it is not given."""

    help: str
    read: Reader
    default: Any = None


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One data set, or one network, of a catalogue."""

    name: str
    summary: str
    options: Mapping[str, Option]
    loader: Callable[..., T]

    def load(self, *given: Any, **options: Any) -> T:
        """The thing with these options, given as values or as text; InputError for one that cannot be."""
        return self.loader(*given, **self.read(options))

    def read(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The values of all options, read or by default; InputError for one that cannot be."""
        for name in options:
            if name not in self.options:
                raise unknown_name(f"option of {self.name}", name, self.options)
        return {name: self._read(name, options.get(name)) for name in self.options}

    def _read(self, name: str, value: Any) -> Any:
        option = self.options[name]
        if value is None:
            return option.default
        try:
            return option.read(value)
        except (ValueError, TypeError) as error:
            what = str(error) if isinstance(error, Refused) else "a value of another kind"
            raise InputError(f"option {name} of {self.name} was given {value!r}: {what} is allowed.") from None


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


def one_of(*names: str) -> Reader:
    """Reads one of some words."""

    def read(value: Any) -> str:
        if value not in names:
            raise Refused(f"one of {', '.join(names)}")
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
