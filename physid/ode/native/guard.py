"""What f can see besides its arguments: attributes, closure cells, globals; whether any of it has changed since.

Tracing turns Python numbers into literals and follows one path through Python's branches. Every value that f can reach
is listed once with the place where it is kept, so that a later look at the same places costs microseconds.
"""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

SIMPLE = (bool, int, float, complex, str, bytes, type(None))
FOREIGN = ("torch", "numpy", "scipy", "builtins", "typing", "functools", "collections", "abc", "math", "types")
MOST = 4000  # places that are looked at


@dataclass(frozen=True, slots=True)
class Place:
    """A value with the mapping, sequence or cell that holds it."""

    holder: Any
    key: Any
    value: Any

    def now(self) -> Any:
        """What is there now; `Place` itself, which is no value of f's, where nothing is."""
        try:
            return self.holder.cell_contents if self.key is None else self.holder[self.key]
        except (KeyError, IndexError, ValueError):
            return Place

    def changed(self) -> bool:
        """Whether it is another value than it was."""
        now = self.now()
        if now is self.value:
            return False
        return type(now) is not type(self.value) or not isinstance(now, SIMPLE) or now != self.value


class Surroundings:
    """All places that f can reach, by what they hold."""

    def __init__(self, f: Any) -> None:
        self.values: list[Place] = []
        self.tensors: dict[int, Place] = {}
        self.arrays: list[tuple[Place, Any]] = []
        self.sizes: list[tuple[Any, int]] = []
        self._seen: set[int] = set()
        self._todo: list[tuple[Any, Any, Any]] = []
        self._enter(f)
        while self._todo and len(self._seen) < MOST:
            self._visit(*self._todo.pop())

    def change(self) -> str | None:
        """The name of something that has changed, None when all is as it was."""
        for place in self.values:
            if place.changed():
                return _named(place)
        for holder, size in self.sizes:
            if len(holder) != size:
                return "a container"
        for place, copy in self.arrays:
            if not np.array_equal(place.value, copy, equal_nan=copy.dtype.kind == "f"):
                return _named(place)
        return None

    def _visit(self, holder: Any, key: Any, value: Any) -> None:
        place = Place(holder, key, value)
        if isinstance(value, Tensor):
            self.tensors.setdefault(id(value), place)
            return
        if isinstance(value, types.ModuleType | type) or _foreign(value):
            return
        self.values.append(place)
        if isinstance(value, np.ndarray):
            if value.dtype.kind != "O":
                self.arrays.append((place, value.copy()))
        elif not isinstance(value, SIMPLE):
            self._enter(value)

    def _enter(self, value: Any) -> None:
        """List what an object holds."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        for holder, entries in _contents(value):
            if isinstance(holder, dict | list):
                self.sizes.append((holder, len(holder)))
            self._todo.extend((holder, key, held) for key, held in entries)


_PLAIN = set(nn.Module().__dict__) - {"training", "_parameters", "_buffers", "_modules"}


def _contents(value: Any) -> Iterator[tuple[Any, list[tuple[Any, Any]]]]:
    """The holders within a value, each with its (key, value) pairs."""
    if isinstance(value, Mapping):
        yield value, list(value.items())
    elif isinstance(value, list | tuple):
        yield value, list(enumerate(value))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield [value.__self__, value.__func__], [(0, value.__self__), (1, value.__func__)]
    elif isinstance(value, functools.partial):
        yield [value.func], [(0, value.func)]
        yield value.args, list(enumerate(value.args))
        yield value.keywords, list(value.keywords.items())
    else:
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            own = isinstance(value, nn.Module)
            entries = [(k, v) for k, v in attributes.items() if not (own and k in _PLAIN)]
            yield attributes, entries
        yield from _of_class(type(value))


def _of_class(cls: type) -> Iterator[tuple[Any, list[tuple[Any, Any]]]]:
    """What the methods and attributes of a class that is not a library's refer to."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in FOREIGN:
            continue
        entries = []
        for name, held in vars(base).items():
            held = held.fget if isinstance(held, property) else inspect.unwrap(held) if callable(held) else held
            if not name.startswith("__") or name == "__call__":
                entries.append((name, held))
        functions = [held for _, held in entries if isinstance(held, types.FunctionType)]
        yield (
            vars(base),
            [(k, v) for k, v in entries if isinstance(v, (*SIMPLE, list, tuple, dict, np.ndarray, Tensor))],
        )
        yield functions, list(enumerate(functions))


def _of_function(f: types.FunctionType) -> Iterator[tuple[Any, list[tuple[Any, Any]]]]:
    for cell in f.__closure__ or ():
        try:
            yield cell, [(None, cell.cell_contents)]
        except ValueError:  # not filled yet
            continue
    for defaults in (f.__defaults__, f.__kwdefaults__):
        if defaults is not None:
            yield from _contents(defaults)
    wrapped = f.__dict__.get("__wrapped__")
    if wrapped is not None:
        yield f.__dict__, [("__wrapped__", wrapped)]
    names = [name for name in _globals_of(f.__code__) if name in f.__globals__]
    yield types.MappingProxyType(f.__globals__), [(name, f.__globals__[name]) for name in names]


@functools.lru_cache(4096)
def _globals_of(code: types.CodeType) -> tuple[str, ...]:
    """The names of globals that a function's code reads, functions within it included."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.update(_globals_of(constant))
    return tuple(sorted(found))


def _foreign(value: Any) -> bool:
    """Functions and objects of libraries hold nothing of f's."""
    if isinstance(value, nn.Module | Tensor):
        return False
    home = getattr(value, "__module__", None) if callable(value) else type(value).__module__
    return (
        isinstance(home, str)
        and home.partition(".")[0] in FOREIGN
        and not isinstance(
            value, (*SIMPLE, list, tuple, dict, np.ndarray, functools.partial, types.MethodType, Mapping)
        )
    )


def _named(place: Place) -> str:
    return f"'{place.key}'" if isinstance(place.key, str) else "a value that f holds"
