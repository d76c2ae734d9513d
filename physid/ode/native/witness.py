"""Witness of an evaluation: the Python code that f runs, the names in it, and the compiled functions that it calls.

The guard watches what this code can read. What runs without having been found there, and compiled functions that are
not known to depend on their arguments alone, keep f from being remembered.
"""

from __future__ import annotations

import dis
import functools
import gc
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Libraries whose Python code reads what it is given, and modules by the attributes that the guard watches.
TRUSTED = ("torch", "numpy", "abc", "_collections_abc", "collections", "typing", "enum", "types", "importlib")
PURE = ("math", "cmath", "_operator", "operator", "_bisect", "_functools", "_collections", "_struct", "_abc")
MOVING = ("time", "random", "_random", "secrets", "uuid")
MOVING_CALLS = ("now", "today", "utcnow", "urandom", "getrandom")
LOOKUPS = ("getattr", "hasattr", "vars", "dir", "setattr", "delattr")  # of attributes by names that may be computed
HIDDEN = ("eval", "exec", "compile", "__import__", "open", "input", "globals", "locals", "id", "hash")
PLAIN = (
    *(bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset, range, slice, type(None)),
    *(types.MappingProxyType, np.ndarray, np.generic, Tensor, nn.Module),
)
EXPORTS = ("_to_dlpack", "to_dlpack")
PAST_AUTOGRAD = {
    torch.autograd.Function.apply.__func__.__code__: "an autograd.Function, whose derivative is its own",  # type: ignore[attr-defined]
    Tensor.register_hook.__code__: "a hook that may change gradients",
}


@dataclass(frozen=True, slots=True)
class Witness:
    """Code that ran and is not a library's; its names and string constants; what it called that cannot be watched.

    `computed`: attributes are looked up by names that may not stand in the code. `unable`: what f does that no record
    of its operations shows, such as a call that gives another value every time.
    """

    codes: frozenset[types.CodeType]
    names: frozenset[str]
    computed: bool
    cause: str
    unable: str


def witness(evaluate: Callable[[], object]) -> Witness:
    """Look on as f is evaluated, with the interpreter's own hook for profilers."""
    if sys.getprofile() is not None:
        evaluate()
        return Witness(frozenset(), frozenset(), True, "a profiler is running", "")
    codes: dict[types.CodeType, str] = {}
    calls: list[Any] = []

    def see(frame: types.FrameType, event: str, what: Any) -> None:
        if event == "call":
            codes[frame.f_code] = frame.f_globals.get("__name__") or ""
        elif event == "c_call" and not trusted(frame.f_globals.get("__name__") or ""):
            calls.append(what)

    collects = gc.isenabled()
    gc.disable()  # what others hang on the collector of garbage is no code of f
    sys.setprofile(see)
    try:
        evaluate()
    finally:
        sys.setprofile(None)
        if collects:
            gc.enable()
    moving = next((f"{home}.{code.co_name}" for code, home in codes.items() if root(home) in MOVING), "")
    own = frozenset(code for code, home in codes.items() if not trusted(home))
    names = frozenset(name for code in own for name in names_of(code))
    calls = [call for call in calls if call is not sys.setprofile]
    moving = moving or next((named(call) for call in calls if _moves(call)), "")
    unable = f"f calls {moving}, which gives another value every time" if moving else ""
    unable = unable or next((why for code, why in PAST_AUTOGRAD.items() if code in codes), "")
    if any(call.__name__ in EXPORTS for call in calls):
        unable = "values of t, y or parameters may leave torch for another library"
    cause = next((f"calls {named(call)}" for call in calls if not _known(call)), "")
    computed = "__dict__" in names or any(call.__name__ in LOOKUPS for call in calls)
    return Witness(own, names, computed, cause, unable)


def root(home: str) -> str:
    """The package of a module."""
    return home.partition(".")[0]


def trusted(home: str) -> bool:
    """Whether a module is a library's that is trusted, or the engine's own."""
    return root(home) in TRUSTED or home.startswith(("physid.ode.", "numpy."))


def home_of(call: Any) -> str:
    """The module that a compiled function, or the type of what it is a method of, comes from."""
    own = call.__self__
    if own is None or isinstance(own, types.ModuleType):
        return str(call.__module__ or getattr(own, "__name__", ""))
    return str((own if isinstance(own, type) else type(own)).__module__)


def named(call: Any) -> str:
    """A compiled function as users write it."""
    return f"{home_of(call)}.{call.__name__}"


def _moves(call: Any) -> bool:
    home = home_of(call)
    if root(home) in MOVING or home.startswith("numpy.random"):
        return True
    return call.__name__ in MOVING_CALLS and root(home) in ("datetime", "posix", "nt")


def _known(call: Any) -> bool:
    """Whether the result of a compiled function depends on nothing but what it is given."""
    own, home = call.__self__, home_of(call)
    if isinstance(own, types.ModuleType) or own is None:
        if home == "builtins":
            return call.__name__ not in HIDDEN
        return root(home) in ("torch", "numpy", *PURE)
    if isinstance(own, type):
        return root(home) in ("builtins", "torch", "numpy", *PURE, "collections")
    return isinstance(own, PLAIN) or root(home) in ("torch", "collections")


@functools.lru_cache(4096)
def names_of(code: types.CodeType) -> frozenset[str]:
    """The names in code, and strings that may be some; functions within it included."""
    return frozenset((*code.co_names, *_strings(code.co_consts)))


def _strings(constants: Any) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from _strings(constant)
        elif isinstance(constant, types.CodeType):
            yield from names_of(constant)


@functools.lru_cache(4096)
def globals_of(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of globals, and of modules that are imported, in a function's code; functions within it included."""
    found, modules = set[str](), set[str]()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            found.add(step.argval)
        elif step.opname == "IMPORT_NAME":
            modules.add(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            more, others = globals_of(constant)
            found.update(more)
            modules.update(others)
    return tuple(sorted(found)), tuple(sorted(modules))


def within(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from within(constant)


def is_plain_class(cls: type) -> bool:
    """Whether objects of a class keep nothing but attributes: no base of it is written in C and holds more."""
    if cls.__flags__ & 1 << 9 == 0:  # not made by a class statement
        return cls is object or cls is types.SimpleNamespace
    slots = sum(
        isinstance(held, types.MemberDescriptorType) for base in cls.__mro__[:-1] for held in vars(base).values()
    )
    solid = next((base for base in cls.__mro__ if base.__flags__ & 1 << 9 == 0), object)
    return solid is object and cls.__basicsize__ <= object.__basicsize__ + 8 * (slots + 2) and not cls.__itemsize__


def unwrapped(held: Any) -> list[Any]:
    """The functions within a property, a static method and their like; the value itself if it is none of them."""
    if isinstance(held, property):
        return [part for part in (held.fget, held.fset) if part is not None]
    if isinstance(held, staticmethod | classmethod):
        return unwrapped(held.__func__)
    if isinstance(held, functools.cached_property | functools.partialmethod):
        return unwrapped(held.func)
    return [held]


BUILTIN = (
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType, np.ufunc, type(np.sum)),
)


def is_builtin(value: Any) -> bool:
    """Whether a value is a compiled function or one of Python's descriptors."""
    return isinstance(value, BUILTIN) and not isinstance(value, types.FunctionType)


def holds_nothing(call: Any) -> bool:
    """Whether the result of a compiled function depends on nothing but what it is given, as far as is known."""
    return not isinstance(call, types.BuiltinFunctionType) or (_known(call) and not _moves(call))


def is_named_tuple(cls: type) -> bool:
    """Whether objects of a class are tuples with names for their parts, and nothing more."""
    return cls.__mro__[1:] == (tuple, object) and "_fields" in vars(cls)


def parents(name: str) -> list[str]:
    """The packages that a module stands in."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
