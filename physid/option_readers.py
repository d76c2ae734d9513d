"""The values of an option: each reader takes text or a value, says in words what it expects, and as JSON Schema."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from physid.door import most
from physid.errors import InputError, unknown_name

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# A reader takes what was given, text or a value, and returns the value; it raises ValueError with what it expects.
Reader = Callable[[Any], Any]
Schema = Mapping[str, Any]


class Refused(ValueError):
    """Raised by a reader; its text says what is expected."""


@dataclass(frozen=True)
class Values:
    """A reader: `parse` returns the value or raises, `words` say what is expected, `schema` says it as JSON Schema.

    Limits and names are asked for when they are needed, as --limits and installed packages add to them. Errors:
    Refused, and InputError as `parse` raises it.
    """

    parse: Reader
    words: Callable[[], str]
    schema: Callable[[], Schema]

    def __call__(self, value: Any) -> Any:
        try:
            return self.parse(value)
        except InputError:
            raise
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise Refused(self.words()) from None


def number(low: float = -math.inf, *, above: bool = False) -> Values:
    """Reads a finite number, at least `low` (or above it)."""
    words = f"a number {'above' if above else 'from'} {low:g}{'' if above else ' up'}"
    words = "a number" if low == -math.inf else "a positive number" if above and low == 0 else words
    bound = {} if low == -math.inf else {"exclusiveMinimum" if above else "minimum": low}

    def parse(value: Any) -> float:
        found = float(value)
        if isinstance(value, bool) or not math.isfinite(found) or found < low or (above and found == low):
            raise ValueError
        return found

    return Values(parse, lambda: words, lambda: {"type": "number", **bound})


def whole(low: int, high: int = 1_000_000, *, fixed: bool = False) -> Values:
    """Reads a whole number from `low` to `high`, which --limits raises: a slip is to cost neither hours nor memory.

    A `fixed` bound is not raised.
    """

    def end() -> int:
        return high if fixed else most(high)

    def parse(value: Any) -> int:
        found = int(value)
        if isinstance(value, bool) or not (isinstance(value, str) or found == value) or not low <= found <= end():
            raise ValueError
        return found

    return Values(
        parse,
        lambda: f"a whole number from {low} to {end()}{'' if fixed else ' (more with --limits)'}",
        lambda: {"type": "integer", "minimum": low, "maximum": end()},
    )


def one_of(*names: str | Collection[str]) -> Values:
    """Reads one of some words, or of the names of a registry, which are asked for when it reads."""
    words = [name for name in names if isinstance(name, str)]
    registries = [name for name in names if not isinstance(name, str)]

    def known() -> list[str]:
        return [*words, *(name for one in registries for name in one)]

    def parse(value: Any) -> str:
        if value not in words and not any(value in registry for registry in registries):
            raise ValueError
        return str(value)

    return Values(parse, lambda: f"one of {', '.join(known())}", lambda: {"enum": known()})


def named(kind: str, names: Callable[[], Collection[str]], *others: str) -> Values:
    """Reads one of `names`, which are asked for when it reads, or one of some `others` that stand beside them.

    Errors: InputError with the nearest name, for a text that is none of them.
    """

    def known() -> Iterable[str]:
        return [*others, *names()]

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        if value in others or value in (found := names()):
            return value
        unknown = getattr(found, "unknown", None)
        raise unknown_name(kind, value, known()) if unknown is None or others else unknown(value)

    return Values(parse, lambda: f"one of {', '.join(known())}", lambda: {"enum": [*known()]})


def text(words: str) -> Values:
    """Reads any text; `words` say what it is to be."""
    return Values(_text, lambda: words, lambda: {"type": "string"})


def texts(words: str) -> Values:
    """Reads a list of texts, as a tuple."""

    def parse(value: Any) -> tuple[str, ...]:
        if isinstance(value, str | Mapping):
            raise TypeError
        return tuple(map(_text, value))

    return Values(parse, lambda: words, lambda: {"type": "array", "items": {"type": "string"}})


def mapping(words: str, part: Callable[[Any], bool], schema: Schema) -> Values:
    """Reads a mapping from names to values that `part` takes; `schema` is theirs."""

    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) and part(one) for key, one in value.items()):
            raise TypeError
        return dict(value)

    return Values(parse, lambda: words, lambda: {"type": "object", "additionalProperties": dict(schema)})


def window(text: str) -> tuple[float, float] | None:
    """Both ends of A:B, infinite where one is missing; None for what is not written so."""
    ends = re.fullmatch(f"({NUMBER})?:({NUMBER})?", text.replace(" ", ""))
    return None if ends is None else (float(ends[1] or -math.inf), float(ends[2] or math.inf))


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
        raise Refused("a list of numbers, as in 1,1,0.9") from None
    if not found or not all(map(math.isfinite, found)):
        raise Refused("a list of finite numbers")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
