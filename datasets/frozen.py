"""Reads a pickled dictionary of arrays, lists, strings and integers without unpickling it.

The opcodes are walked as data, and whatever would name a class or call anything else than the making of an array of
bytes is refused. Nothing of the file is executed, and memory stays in proportion to its size.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from physid import door
from physid.errors import InputError

MARK = object()
CONSTANTS = {"NONE": None, "NEWFALSE": False, "NEWTRUE": True}
TEXTS = ("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES")
NUMBERS = ("BININT", "BININT1", "BININT2")
RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")


class RefusedPickle(ValueError):
    """Raised for what in a file is not plain data."""


class _Array:
    """An array of bytes that is being built."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, np.dtype[np.uint8]] | None = None

    def build(self, state: Any) -> None:
        """Take numpy's (version, shape, dtype, Fortran order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedPickle("an array without shape and content")
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _ByteType):
            raise RefusedPickle("an array of something else than bytes")
        if isinstance(content, str):
            content = content.encode("latin-1")
        if not isinstance(content, bytes) or not isinstance(shape, tuple):
            raise RefusedPickle("an array without bytes")
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _ByteType:
    """The dtype of unsigned bytes, the only one that is let in."""

    def build(self, state: Any) -> None:
        """Its state says nothing about bytes that matters."""


def read(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """The dictionary in the file `path`: strings to arrays of bytes, lists of strings or integers, or strings.

    `data` is its content, where it was read before.

    Errors: InputError when the file is cut off, is no pickle, or holds anything else.
    """
    try:
        found = _plain(_walk(door.read(path) if data is None else data))
    except RefusedPickle as error:
        raise InputError(
            f"{path} holds {error}: expected arrays of bytes, lists, strings and integers. Nothing of it was "
            "executed; put the published file there."
        ) from None
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): it is cut off, or no such file. Put the published one there."
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}: expected a dictionary. Put the published file there.")
    return found


def _walk(content: bytes) -> Any:
    """The value that the opcodes describe."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name == "STOP":
            break
        if name in TEXTS or name in NUMBERS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "GLOBAL":
            stack.append(_Maker(str(argument)))
        elif name in STEPS:
            STEPS[name](stack)
        elif name not in ("PROTO", "FRAME"):
            raise RefusedPickle(f"the opcode {name}")
    (value,) = stack
    return value


class _Maker:
    """One of the three names that an array of bytes is pickled with."""

    def __init__(self, name: str) -> None:
        if name not in (*RECONSTRUCT, "numpy ndarray", "numpy dtype"):
            raise RefusedPickle(f"the name {name.replace(' ', '.', 1)[:80]}")
        self.name = name

    def __call__(self, arguments: Any) -> _Array | _ByteType:
        """The start of an array, or the dtype of bytes."""
        if self.name in RECONSTRUCT:
            return _Array()
        if self.name == "numpy dtype" and isinstance(arguments, tuple) and arguments[:1] == ("u1",):
            return _ByteType()
        raise RefusedPickle("an array of something else than bytes")


def _marked(stack: list[Any]) -> list[Any]:
    """Takes what stands after the last mark off the stack, and the mark."""
    place = len(stack) - 1
    while place >= 0 and stack[place] is not MARK:
        place -= 1
    if place < 0:
        raise ValueError("a mark is missing")
    found = stack[place + 1 :]
    del stack[place:]
    return found


def _with_marked(stack: list[Any]) -> tuple[list[Any], list[Any]]:
    values = _marked(stack)
    return stack, values


def _with_last(stack: list[Any], count: int) -> tuple[list[Any], list[Any]]:
    values = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return stack, values


def _tuple_of(count: int) -> Callable[[list[Any]], None]:
    """Joins the last `count` values."""

    def step(stack: list[Any]) -> None:
        if len(stack) < count:
            raise ValueError("a value is missing")
        values = tuple(stack[len(stack) - count :])
        del stack[len(stack) - count :]
        stack.append(values)

    return step


def _append(stack: list[Any], values: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise RefusedPickle("something that is no list and is appended to")
    stack[-1].extend(values)


def _set(stack: list[Any], values: list[Any]) -> None:
    if not isinstance(stack[-1], dict) or len(values) % 2:
        raise RefusedPickle("something that is no dictionary and is written to")
    stack[-1].update(zip(values[::2], values[1::2], strict=True))


def _plain(value: Any) -> Any:
    """The file's content, checked: keys as text, arrays that were built, lists of texts or of integers, texts."""
    if not isinstance(value, dict):
        return value
    found = {}
    for key, part in value.items():
        part = part.value if isinstance(part, _Array) else part
        kinds = {type(one) for one in part} if isinstance(part, list) else {type(part)}
        if not (isinstance(part, np.ndarray) or kinds <= {str, bytes, int}) or not isinstance(key, str | bytes):
            raise RefusedPickle("something nested")
        found[key.decode("latin-1") if isinstance(key, bytes) else key] = part
    return found


def _call(stack: list[Any]) -> None:
    arguments, maker = stack.pop(), stack.pop()
    if not isinstance(maker, _Maker):
        raise RefusedPickle("a call")
    stack.append(maker(arguments))


def _build(stack: list[Any]) -> None:
    state = stack.pop()
    if not isinstance(stack[-1], _Array | _ByteType):
        raise RefusedPickle("an object with a state")
    stack[-1].build(state)


STEPS: dict[str, Callable[[list[Any]], None]] = {
    "MARK": lambda stack: stack.append(MARK),
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE": lambda stack: stack.append(tuple(_marked(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": lambda stack: _append(*_with_last(stack, 1)),
    "APPENDS": lambda stack: _append(*_with_marked(stack)),
    "SETITEM": lambda stack: _set(*_with_last(stack, 2)),
    "SETITEMS": lambda stack: _set(*_with_marked(stack)),
    "REDUCE": _call,
    "BUILD": _build,
}
