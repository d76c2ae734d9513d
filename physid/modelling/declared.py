"""Declaration check: names, units, recipe and methods of a model class, checked when the class is made."""

from __future__ import annotations

import inspect
import linecache
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from physid.errors import ModelError
from physid.modelling.prior import Ridge

# How the methods that a class may define are called, after self.
CALLED: Mapping[str, tuple[str, ...]] = {
    "field": ("t", "y"),
    "observe": ("y",),
    "derived": (),
    "parts": ("t", "y"),
    "velocity": ("t", "r", "v"),
    "acceleration": ("t", "r", "v"),
    "prune": ("states", "rates"),
    "draw": ("seed", "anew"),
}
NAMES = ("state_names", "channel_names", "input_names")
EXAMPLES = {"state_names": "x", "channel_names": "x", "input_names": "force"}


class Unmade:
    """Stands on the class for what torch's constructor sets on the instance, which then hides it."""

    def __get__(self, model: object | None, owner: type) -> Unmade:
        """On an instance without it, whose constructor did not call that of the class above it: ModelError."""
        if model is None:
            return self
        raise unmade(owner)


def unmade(cls: type) -> ModelError:
    """The error for a model whose constructor does not call super().__init__ first."""
    where = next((place(vars(base)["__init__"]) for base in cls.__mro__ if _written(base, "__init__")), "")
    return ModelError(
        f"{where}{cls.__name__}.__init__ does not call super().__init__() before it uses the model: what a model is "
        "made of is not there yet. Call it first."
    )


def look(cls: type) -> None:
    """Look at what a class itself declares; lists of names become tuples.

    Errors: ModelError for what cannot be, with its file and line.
    """
    own = vars(cls)
    for name in NAMES:
        if name in own and not _computed(own[name]):
            setattr(cls, name, _names(cls, name, own[name]))
    for name, (allowed, example, sound) in SHAPES.items():
        value = own.get(name)
        if name in own and not _computed(value) and not sound(value):
            raise refused(cls, name, value, allowed, f"Write it so: {name} = {example}.")
    for name, arguments in CALLED.items():
        method = own.get(name)
        if name in own and not _computed(method) and not callable(method):
            raise refused(cls, name, method, "a method", f"Define {name}({', '.join(('self', *arguments))}).")
        if isinstance(method, FunctionType):
            _called(cls, method, name, arguments)


def _names(cls: type, name: str, value: Any) -> tuple[str, ...]:
    """The names, if they are text, each once."""
    sound = isinstance(value, tuple | list) and all(isinstance(one, str) and one.strip() for one in value)
    if not sound or len(set(value)) < len(value):
        example = value if isinstance(value, str) and value else EXAMPLES[name]
        allowed = "a tuple of names, each once"
        raise refused(cls, name, value, allowed, f"Write it as in {name} = ({example!r},).")
    return tuple(value)


def _called(cls: type, method: FunctionType, name: str, arguments: Iterable[str]) -> None:
    """ModelError where a method cannot be called as it is going to be."""
    try:
        inspect.signature(method).bind(None, *arguments)
    except TypeError as error:
        wanted, found = ", ".join(("self", *arguments)), f"{cls.__name__}.{name}{inspect.signature(method)}"
        raise ModelError(
            f"{place(method)}{found} cannot be called with ({wanted}): {error}. Define {name}({wanted})."
        ) from None


def refused(cls: type, name: str, value: object, allowed: str, todo: str) -> ModelError:
    """The error for an attribute of a class of another kind than expected."""
    return ModelError(f"{declared_at(cls, name)}{cls.__name__}.{name} is {_short(value)}: expected {allowed}. {todo}")


def place(method: object) -> str:
    """'FILE, line N: ' of a function; nothing where it has no file."""
    code = getattr(inspect.unwrap(method) if callable(method) else method, "__code__", None)
    return "" if code is None else f"{Path(code.co_filename).name}, line {code.co_firstlineno}: "


def declared_at(cls: type, name: str) -> str:
    """'FILE, line N: ' where a class, or the first above it that does, sets an attribute; nothing if unknown."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), cls)
    module = sys.modules.get(owner.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        return ""
    lines = linecache.getlines(file, vars(module))
    begun = found = 0
    for number, line in enumerate(lines, 1):
        if re.match(rf"\s*class\s+{re.escape(owner.__name__)}\b", line):
            begun, found = number, number
        elif begun and re.match(rf"\s+{re.escape(name)}\s*[:=]", line):
            found = number
        elif begun and re.match(r"(class|def|@)", line):
            break
    return f"{Path(file).name}, line {found}: " if found else f"{Path(file).name}: "


def _written(cls: type, name: str) -> bool:
    return isinstance(vars(cls).get(name), FunctionType) and cls.__module__.split(".")[0] not in ("physid", "torch")


def _computed(value: object) -> bool:
    """Whether a value is a property or the like, known only of an instance."""
    return hasattr(type(value), "__get__") and not isinstance(value, FunctionType)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text_of(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)


def _keyed(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _penalties(value: Any) -> bool:
    return _keyed(value) and all(isinstance(one, Ridge) for one in value.values())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _continuation(value: Any) -> bool:
    if not _keyed(value):
        return False
    rows = list(value.values())
    sound = all(isinstance(row, tuple | list) and all(_number(one) for one in row) for row in rows)
    return sound and len({len(row) for row in rows}) < 2


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# What may stand in a class: attribute -> (in words, an example, whether a value is it).
SHAPES: Mapping[str, tuple[str, str, Callable[[Any], bool]]] = {
    "units": ("units by name", '{"t": "s", "x": "mm"}', _text_of),
    "noise": ("None or the name of a noise model", '"normal"', lambda value: value is None or isinstance(value, str)),
    "recipe": ("values by the names of fit's keywords", '{"strategy": "match"}', _keyed),
    "continuation": ("numbers by the names of constants, as many for each", '{"width": (1.0, 0.3)}', _continuation),
    "penalties": ("a Ridge by the names of modules", '{"net": Ridge(0.1)}', _penalties),
    "bodies": ("a whole number from 1 on", "2", _count),
    "dimension": ("a whole number from 1 on", "3", _count),
}
