"""Dependencies of f besides its arguments, and whether any has changed since f was compiled.

Tracing turns Python numbers into literals and follows one path through Python's branches. `reach` lists every value
that the code of f can get at with the place where it is kept. Most looks find all as it was: the same objects in the
same places, which one sweep at the speed of C says; only where it does not are values compared.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.ode.native.places import Lookup, Place, Sweep, alike, free

_CONTENTS = attrgetter("cell_contents")
_ATTRIBUTES = attrgetter("__dict__")
_FUNCTION = attrgetter("__code__", "__defaults__", "__kwdefaults__", "__dict__")


class Guard:
    """Places by the way in which they are looked at."""

    def __init__(self) -> None:
        self.sweeps: list[Sweep] = []
        self.lookups: dict[int, Lookup] = {}
        self.cells: list[Place] = []
        self.slots: list[Place] = []
        self.functions: list[tuple[types.FunctionType, Any]] = []
        self.objects: list[tuple[Any, type, Any]] = []  # with their class and attributes
        self.buffers: list[tuple[Place, Any]] = []  # arrays, with how they were
        self.whole: list[tuple[Place, Tensor]] = []  # tensors of whole numbers and sparse ones, with how they were
        self.checks: list[Callable[[], bool]] = []  # of what f counts by: whether it is of the same kind
        self._fast: list[Callable[[], bool]] = []

    def moved(self) -> list[Place]:
        """Where something has changed since it was listed, with what was there."""
        found = [place for sweep in self.sweeps for place in sweep.moved()]
        found += [Place(one.holder, *pair) for one in self.lookups.values() for pair in one.present.items()]
        places = [*found, *self.cells, *self.slots]
        return [place for place in places if type(place.key) is tuple or not alike(place.now(), place.value)]

    def release(self, place: Place, check: Callable[[], bool]) -> None:
        """Do not watch what is there any more, a number in its place or a list itself, as long as `check` holds."""
        self.checks.append(check)
        whole = place.holder if type(place.key) is tuple else place.value
        if isinstance(whole, list):
            self.sweeps = [sweep for sweep in self.sweeps if sweep.holder is not whole]
        else:
            for sweep in self.sweeps:
                if sweep.holder is place.holder:
                    sweep.moving.add(place.key)
                    sweep.loose = True
            if id(place.holder) in self.lookups:
                self.lookups[id(place.holder)].present.pop(place.key, None)
            self.cells = [cell for cell in self.cells if place.key is not None or cell.holder is not place.holder]
            self.slots = [one for one in self.slots if (one.holder, one.key) != (place.holder, place.key)]
            self.whole = [pair for pair in self.whole if pair[0].value is not place.value]
        self.close()

    def lookup(self, holder: Mapping[str, Any], names: Iterable[str]) -> list[Place]:
        """Watch these names in a mapping; the places of those that are there."""
        known = self.lookups.setdefault(id(holder), Lookup(holder))
        found = []
        for name in names:
            if name in known.present or name in known.absent:
                continue
            if name in holder:
                known.present[name] = holder[name]
                found.append(Place(holder, name, holder[name]))
            else:
                known.absent.add(name)
        return found

    def close(self) -> None:
        """All has been listed: keep how it is, in the forms that are compared fastest."""
        for sweep in self.sweeps:
            sweep.take()
        self._fast = list(_fast(self))

    def change(self) -> str | None:
        """The name of something that has changed, None when all is as it was."""
        try:
            if all(look() for look in self._fast):
                return None
        except (KeyError, ValueError, AttributeError, RuntimeError, TypeError):
            pass
        try:
            return self._slow()
        except (KeyError, ValueError, AttributeError, RuntimeError, TypeError) as error:
            return f"a value that f holds ({type(error).__name__})"

    def _slow(self) -> str | None:
        names = (watched.change() for watched in chain[Sweep | Lookup](self.sweeps, self.lookups.values()))
        name = next((name for name in names if name), None)
        if name:
            return name
        for place in (*self.cells, *self.slots):
            if not alike(place.now(), place.value):
                return place.name
        for function, before in self.functions:
            if not all(a is b for a, b in zip(_FUNCTION(function), before, strict=True)):
                return f"the function {function.__name__}"
        for value, cls, attributes in self.objects:
            if type(value) is not cls or (attributes is not None and value.__dict__ is not attributes):
                return f"an object of {cls.__name__}"
        for place, before in self.buffers:
            if _bytes(place.value) != before:
                return place.name
        for place, before in self.whole:
            if place.now() is not place.value or not _equal(place.value, before):
                return place.name
        if not self._torch_as_it_was():
            return "torch's default dtype"
        if not all(check() for check in self.checks):
            return "what f counts by"
        self.close()  # what has changed does not count: attributes that f does not read
        return None

    dtype: torch.dtype = torch.float32

    def _torch_as_it_was(self) -> bool:
        return torch.get_default_dtype() is self.dtype


def _fast(guard: Guard) -> Iterable[Callable[[], bool]]:
    """Looks that say in one go whether all is as it was."""
    views: list[Any] = []
    held: list[Any] = []
    named: list[Any] = []
    names: list[str] = []
    empty = [sweep.holder for sweep in guard.sweeps if not sweep.values]
    if empty:
        yield lambda: not any(empty)
    for sweep in guard.sweeps:
        if not sweep.values:
            continue
        if sweep.loose:
            yield from sweep.looks()
        elif isinstance(sweep.holder, Mapping):
            if all(type(key) is str for key in sweep.keys):  # equal names are one, however they are compared
                named.append(sweep.holder)
                names += sweep.keys
            else:
                views.append(sweep.holder)
                held += sweep.keys
            if sweep.few:
                yield from _counting(sweep)
            else:
                views.append(sweep.holder.values())
                held += sweep.values
        else:
            views.append(sweep.holder)
            held += sweep.values
    if named:
        counts = list(map(len, named))
        yield lambda: list(map(len, named)) == counts and list(chain.from_iterable(named)) == names
    if views:
        lengths = list(map(len, views))
        yield lambda: list(map(len, views)) == lengths and all(map(is_, chain.from_iterable(views), held))
    fixed = [place for place in guard.cells if not free(place.value)]
    if fixed:
        cells, contents = [place.holder for place in fixed], [place.value for place in fixed]
        yield lambda: all(map(is_, map(_CONTENTS, cells), contents))
    for lookup in guard.lookups.values():
        yield from _named(lookup)
    if guard.functions:
        functions = [function for function, _ in guard.functions]
        parts = [part for _, before in guard.functions for part in before]
        yield lambda: all(map(is_, chain.from_iterable(map(_FUNCTION, functions)), parts))
    if guard.objects:
        objects = [value for value, _, _ in guard.objects]
        classes = [cls for _, cls, _ in guard.objects]
        yield lambda: all(map(is_, map(type, objects), classes))
        plain = [value for value, _, attributes in guard.objects if attributes is not None]
        kept = [attributes for _, _, attributes in guard.objects if attributes is not None]
        yield lambda: all(map(is_, map(_ATTRIBUTES, plain), kept))
    for place in guard.slots:
        if not free(place.value):
            yield lambda place=place: place.now() is place.value  # type: ignore[misc]
    for place, before in guard.buffers:
        yield lambda value=place.value, before=before: _bytes(value) == before  # type: ignore[misc]
    for place, whole in guard.whole:
        yield lambda place=place, before=whole: place.now() is place.value and _equal(place.value, before)  # type: ignore[misc]
    yield guard._torch_as_it_was
    yield from guard.checks


def _counting(sweep: Sweep) -> Iterable[Callable[[], bool]]:
    """The values of the keys that count."""
    counts, holder = sweep.relevant or (lambda key: True), sweep.holder
    pairs = [(key, value) for key, value in zip(sweep.keys, sweep.values, strict=True) if counts(key)]
    if pairs:
        get, held = itemgetter(*(key for key, _ in pairs), pairs[0][0]), [value for _, value in pairs]
        held.append(held[0])
        yield lambda: all(map(is_, get(holder), held))


def _named(lookup: Lookup) -> Iterable[Callable[[], bool]]:
    holder, absent = lookup.holder, list(lookup.absent)
    names = [name for name, value in lookup.present.items() if not free(value)]
    if names:
        values = [lookup.present[name] for name in names]
        get = itemgetter(*names, names[0])  # two at least, so that it gives a tuple
        values.append(values[0])
        yield lambda: all(map(is_, get(holder), values))
    if absent:
        has = holder.__contains__
        yield lambda: not any(map(has, absent))


def _equal(now: Tensor, before: Tensor) -> bool:
    """Whether two tensors, dense or sparse, hold the same numbers."""
    if now.layout is torch.strided:
        return torch.equal(now, before)
    return now.shape == before.shape and torch.equal(now.to_dense(), before.to_dense())


def _bytes(value: Any) -> Any:
    """An array as it is now, so that two can be compared."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    return bytes(value)
