"""Reachable values of f's code: each of a watched kind, or the reason why f cannot be remembered.

The walk goes from f through what ran as it was evaluated (`witness`): the globals that this code names, closures,
defaults, attributes that it names, whole containers. A kind that is not listed here is not watched.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import sys
import types
from abc import ABCMeta
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from physid.ode.native.dependencies import _FUNCTION, Guard, _bytes
from physid.ode.native.places import SIMPLE, Place, Slot, Sweep
from physid.ode.native.tallies import Tallies
from physid.ode.native.witness import (
    Witness,
    globals_of,
    holds_nothing,
    is_builtin,
    is_named_tuple,
    is_plain_class,
    named,
    parents,
    root,
    trusted,
    unwrapped,
    within,
)

MOST = 4000  # values that are entered
LONG = 1 << 22  # bytes of an array that are compared at every solve

FIXED = (
    *SIMPLE,
    *(range, slice, type(Ellipsis), type(NotImplemented), np.generic, np.dtype, torch.dtype, torch.device, torch.Size),
    *(fractions.Fraction, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(pathlib.PurePath, types.CodeType, torch.layout, torch.memory_format),
)
MAPPINGS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter, types.MappingProxyType)
SEQUENCES = (list, tuple, set, frozenset, collections.deque)
BASES = (dict, list, tuple, set, frozenset, collections.deque, collections.OrderedDict, collections.defaultdict)
METACLASSES = (type, ABCMeta, enum.EnumMeta, type(nn.Parameter))
OWN = (  # of an nn.Module's attributes, those that its machinery reads
    *("training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_is_full_backward_hook"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_compiled_call_impl"),
    *("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called", "forward"),
)
ABC_REGISTRY = "_abc_impl"  # of an abstract class: who counts as a subclass, which no code asks for by name
CALLS = ("forward", "__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "__getattribute__")
HIDDEN_TENSOR = ("grad", "grad_fn", "_version", "data_ptr", "untyped_storage", "storage", "is_leaf", "retain_grad")


class Surroundings:
    """All that f reads besides its arguments; `tensors` by their ids, `unwatched` why f cannot be remembered.

    `unable`: why it cannot be recorded.
    """

    def __init__(self, f: Any, seen: Witness) -> None:
        self.tensors: dict[int, Place] = {}
        self.unwatched, self.unable = seen.cause, ""
        self._witness, self._guard = seen, Guard()
        self._lists: dict[int, list[Place]] = {}
        self._entered: dict[int, Any] = {}
        self._codes: set[types.CodeType] = set()
        self._todo: list[Place] = [Place([f], 0, f)]
        self._hooks()
        while self._todo and len(self._entered) < MOST:
            self._visit(self._todo.pop())
        if self._todo:
            self._unknown(f"f reaches more than {MOST} values")
        for code in seen.codes - self._codes:
            self._unknown(f"runs {code.co_qualname if hasattr(code, 'co_qualname') else code.co_name}")
        self._kinds = [_kind(place.value) for place in self.tensors.values()]
        self._guard.dtype = torch.get_default_dtype()
        self._guard.close()
        self.tallies = Tallies(self._guard, self._lists, self.tensors)

    def change(self) -> str | None:
        """The name of something that has changed, None when all is as it was."""
        return self._guard.change()

    def replaced(self) -> str | None:
        """The name of a tensor in whose place is another one, None without any."""
        return next((place.name for place in self.tensors.values() if place.now() is not place.value), None)

    def other_kinds(self) -> str | None:
        """The name of a tensor in whose place is something of another kind, None without any."""
        for place, kind in zip(self.tensors.values(), self._kinds, strict=True):
            if _kind(place.now()) != kind:
                return place.name
        return None

    # --- the walk

    def _unknown(self, why: str) -> None:
        self.unwatched = self.unwatched or why

    def _named(self, name: Any) -> bool:
        """Whether the code that ran may ask for an attribute of this name."""
        return self._witness.computed or not isinstance(name, str) or name in self._witness.names

    def _asked(self, name: Any) -> bool:
        """Whether the code that ran, or the interpreter, may ask a class for an attribute of this name."""
        return self._named(name) or str(name).startswith("__")

    def _go(self, holder: Any, entries: Iterable[tuple[Any, Any]]) -> None:
        self._todo.extend(Place(holder, key, value) for key, value in entries)

    def _sweep(self, holder: Any, relevant: Any = None) -> None:
        self._guard.sweeps.append(Sweep(holder, relevant))

    def _visit(self, place: Place) -> None:
        value = place.value
        if isinstance(value, FIXED):
            return
        if isinstance(value, Tensor):
            self._tensor(place)
        if type(value) is list:
            self._lists.setdefault(id(value), []).append(place)
        if id(value) in self._entered:
            return
        self._entered[id(value)] = value
        if isinstance(value, Tensor):
            return
        if isinstance(value, np.ndarray | bytearray | array.array):
            self._buffer(place)
        elif type(value) in MAPPINGS:
            self._mapping(value)
        elif type(value) in SEQUENCES or (isinstance(value, tuple) and is_named_tuple(type(value))):
            self._sequence(value)
        elif isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, type):
            self._class(value)
        elif not self._callable(value):
            self._object(place)

    def _tensor(self, place: Place) -> None:
        value: Tensor = place.value
        if type(value) not in (Tensor, nn.Parameter, nn.Buffer):
            self._unknown(f"reads {place.name}, a {type(value).__name__}")
        self.tensors.setdefault(id(value), place)
        if id(value) in self._entered:
            return
        if value.__dict__:
            self._attributes(value, False)
        if not value.is_floating_point() or value.layout is not torch.strided:
            if value.is_complex() or value.device.type != "cpu":
                self._unknown(f"reads {place.name}, a tensor of dtype {value.dtype} on {value.device}")
            else:
                self._guard.whole.append((place, value.detach().clone()))
        if any(name in self._witness.names for name in HIDDEN_TENSOR):
            self._unknown("reads what a tensor has besides its numbers")

    def _buffer(self, place: Place) -> None:
        value = place.value
        odd = isinstance(value, np.ndarray) and (type(value) is not np.ndarray or value.dtype.hasobject)
        if odd or memoryview(value).nbytes > LONG:
            self._unknown(f"reads {place.name}, an array that is long or of objects")
            return
        self._guard.buffers.append((place, _bytes(value)))

    def _mapping(self, value: Any) -> None:
        self._sweep(value)
        self._go(value, value.items())
        keys = [key for key in value if not isinstance(key, str)]
        self._go(keys, enumerate(keys))
        if isinstance(value, collections.defaultdict):
            self._go([value.default_factory], [(0, value.default_factory)])

    def _sequence(self, value: Any) -> None:
        if not isinstance(value, tuple | frozenset):
            self._sweep(value)
        held = value if isinstance(value, list | tuple | collections.deque) else list(value)
        self._go(held, enumerate(held))

    # --- functions

    def _callable(self, value: Any) -> bool:
        """Enter functions and what is made of them; False for other objects."""
        if isinstance(value, types.FunctionType):
            if value.__code__ in self._witness.codes:
                self._function(value)
        elif isinstance(value, types.MethodType):
            self._go((value.__self__, value.__func__), enumerate((value.__self__, value.__func__)))
        elif type(value) is functools.partial:
            parts = (value.func, value.args, value.keywords)
            self._go(parts, enumerate(parts))
        elif is_builtin(value):
            if not holds_nothing(value):
                self._unknown(f"reads {named(value)}")
            own = getattr(value, "__self__", None)
            if own is not None and not isinstance(own, types.ModuleType | type):
                self._go((own,), [(0, own)])
        elif isinstance(value, property | staticmethod | classmethod | functools.cached_property):
            parts = tuple(unwrapped(value))
            self._go(parts, enumerate(parts))
        else:
            return False
        return True

    def _function(self, f: types.FunctionType) -> None:
        """What code that ran reads: closure, defaults, attributes, the globals that it names, what it imports."""
        self._codes.update(within(f.__code__))
        self._guard.functions.append((f, _FUNCTION(f)))
        for cell in f.__closure__ or ():
            try:
                place = Place(cell, None, cell.cell_contents)
            except ValueError:  # not filled yet
                self._unknown("reads a variable that has no value yet")
                continue
            self._guard.cells.append(place)
            self._todo.append(place)
        for part in (f.__defaults__, f.__kwdefaults__):
            if part:
                self._go([part], [(0, part)])
        self._sweep(f.__dict__, self._named)
        self._go(f.__dict__, f.__dict__.items())
        names, imports = globals_of(f.__code__)
        found = self._guard.lookup(f.__globals__, names)
        self._todo.extend(found)
        missing = [name for name in names if name not in f.__globals__]
        builtins = f.__builtins__ if hasattr(f, "__builtins__") else vars(sys.modules["builtins"])
        self._todo.extend(self._guard.lookup(builtins, missing))
        for name in imports:
            if name in sys.modules:
                self._todo.extend(self._guard.lookup(sys.modules, [name, *parents(name)]))
            else:
                self._unknown(f"imports {name or 'a module'}")

    # --- modules, classes, objects

    def _module(self, value: types.ModuleType) -> None:
        held = vars(value)
        library = trusted(value.__name__) or root(value.__name__) in sys.stdlib_module_names
        names = self._witness.names & held.keys()
        if self._witness.computed and not library:
            names = names | {name for name in held if not name.startswith("__")}
        found = self._guard.lookup(held, names)
        if "__getattr__" in held:
            found += self._guard.lookup(held, ["__getattr__"])
        self._todo.extend(place for place in found if not library or not isinstance(place.value, type))

    def _class(self, cls: type) -> None:
        """The attributes and methods of a class and its bases that code which ran may ask for."""
        for base in cls.__mro__:
            if base is not cls and id(base) in self._entered:
                continue
            self._entered[id(base)] = base
            held = vars(base)
            if base.__flags__ & 1 << 9 == 0:
                continue  # written in C
            if trusted(base.__module__):
                if base is not nn.Module and issubclass(base, nn.Module):
                    self._guard.lookup(held, [name for name in CALLS if name in held])
                continue
            if root(base.__module__) == "physid":  # the names of all, the values of those that are asked for
                self._guard.sweeps.append(Sweep(held, self._asked, few=True))
            else:
                self._sweep(held)
            for name, value in held.items():
                functions = [part for part in unwrapped(value) if isinstance(part, types.FunctionType)]
                if functions:
                    self._go(functions, enumerate(functions))
                elif self._named(name) and not name.startswith("__") and name != ABC_REGISTRY:
                    self._todo.append(Place(held, name, value))
        if type(cls) not in METACLASSES:
            self._class(type(cls))

    def _object(self, place: Place) -> None:
        """An object by its class, attributes and slots; of a container's kind, by what is in it too."""
        value, cls = place.value, type(place.value)
        home = str(getattr(value, "__module__", "") if callable(value) else cls.__module__)
        if isinstance(value, Iterator):
            self.unable = "an iterator, which gives another value every time"
        if home.startswith("numpy.random") or cls.__module__.startswith("numpy.random"):
            self.unable = "random numbers of NumPy"
        if isinstance(value, enum.Enum):
            self._class(cls)
            self._attributes(value, True)
            return
        contents = isinstance(value, BASES)
        if not is_plain_class(cls) and not contents:
            self._unknown(f"reads {place.name}, an object of {cls.__module__}.{cls.__qualname__}")
            return
        if contents:
            self._sweep(value)
            if isinstance(value, Mapping):
                self._go(value, list(value.items()))
            else:
                held = value if isinstance(value, list | tuple | collections.deque) else list(value)
                self._go(held, enumerate(held))
        self._class(cls)
        bases = [base for base in cls.__mro__[:-1] if base not in (nn.Module, *BASES, types.SimpleNamespace)]
        whole = any(trusted(base.__module__) and base.__module__ not in ("abc", "typing") for base in bases)
        self._attributes(value, whole)
        for base in bases:
            for name, slot in list(vars(base).items()):
                if isinstance(slot, types.MemberDescriptorType) and (whole or self._named(name)):
                    self._slot(value, name)

    def _slot(self, value: Any, name: str) -> None:
        place = Place(value, Slot(name), getattr(value, name, Place))
        self._guard.slots.append(place)
        if place.value is not Place:
            self._todo.append(place)

    def _attributes(self, value: Any, whole: bool) -> None:
        """The attributes of an object that code which ran names, all of them where a library's code reads them."""
        held = getattr(value, "__dict__", None)
        self._guard.objects.append((value, type(value), held))
        if not isinstance(held, dict):
            return
        module = isinstance(value, nn.Module)
        if module and (value._backward_hooks or value._backward_pre_hooks):
            self.unable = "a module with hooks that may change gradients"

        def relevant(name: Any) -> bool:
            return whole or self._named(name) or (module and name in OWN)

        self._sweep(held, None if whole else relevant)
        self._go(held, [(name, part) for name, part in held.items() if relevant(name)])

    def _hooks(self) -> None:
        """What is called around every module."""
        machinery = vars(nn.modules.module)
        for name in ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks"):
            if isinstance(machinery.get(name), dict):
                self._mapping(machinery[name])


def _kind(value: Any) -> Any:
    return (value.shape, value.dtype, value.requires_grad) if isinstance(value, Tensor) else type(value)
