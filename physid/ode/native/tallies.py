"""Tallies: numbers and lists by which f counts its evaluations, and which nothing in f reads.

Compiled code leaves them alone; after a solve they are moved by as many evaluations as it made. That nothing reads them
is seen in one evaluation in which a stand-in takes the place of each, which can be added to, or appended to, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physid.ode.native.compiler.conversions import Unsupported
from physid.ode.native.dependencies import Guard
from physid.ode.native.places import SIMPLE, Place
from physid.ode.torch_internals import is_wrapped, storage_id

WHOLE = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24, torch.float64: 2**53}  # up to these exact


class Read(Exception):
    """A stand-in was read."""


class Stand:
    """Stands in for a number: whole numbers can be added to it; `read` when anything else was tried."""

    __slots__ = ("added", "origin", "read")

    def __init__(self, origin: Stand | None = None, added: int = 0) -> None:
        self.origin, self.added, self.read = self if origin is None else origin, added, False

    def __add__(self, other: Any) -> Stand:
        if type(other) is not int:
            self._refuse()
        return Stand(self.origin, self.added + other)

    __radd__ = __iadd__ = __add__

    def _refuse(self, *_: Any) -> Any:
        self.origin.read = True
        raise Read

    __getattr__ = _refuse


class StandList:
    """Stands in for a list: plain values can be appended to it; `read` when anything else was tried."""

    added: list[Any]
    read: bool

    def __init__(self) -> None:
        self.__dict__.update(added=[], read=False)

    def append(self, value: Any) -> None:
        """Keep a value that is the same whatever the state is."""
        if type(value) not in SIMPLE:
            self._refuse()
        self.added.append(value)

    def _refuse(self, *_: Any) -> Any:
        self.__dict__["read"] = True
        raise Read

    __getattr__ = __setattr__ = __delattr__ = _refuse


NEVER = """
    sub rsub isub mul rmul imul matmul truediv rtruediv floordiv rfloordiv mod rmod divmod pow rpow neg pos abs invert
    lt le gt ge eq ne bool int float complex index round trunc floor ceil hash str repr format len iter contains
    getitem setitem delitem and or xor lshift rshift call enter reduce_ex copy deepcopy
"""
for _name in NEVER.split():
    setattr(Stand, f"__{_name}__", Stand._refuse)
    setattr(StandList, f"__{_name}__", StandList._refuse)
for _name in ("add", "radd", "iadd"):
    setattr(StandList, f"__{_name}__", StandList._refuse)


@dataclass(frozen=True)
class Counter:
    """Where f counts, and what every evaluation adds: a whole number, or values at the end of a list."""

    place: Place
    step: Any
    before: Any  # the number, or the length of the list, before f was looked at

    def suits(self) -> bool:
        """Whether what is there now can be counted on."""
        now = self.place.now()
        if isinstance(now, Tensor):
            return now is self.place.value
        return now is self.place.value if isinstance(self.step, tuple) else type(now) is int

    def so_far(self) -> Any:
        """The number, or the length of the list."""
        now = self.place.now()
        return len(now) if isinstance(self.step, tuple) else now.clone() if isinstance(now, Tensor) else now

    def put_back(self, before: Any) -> None:
        """As it was so far before."""
        now = self.place.now()
        if isinstance(now, Tensor):
            with torch.no_grad():
                now.fill_(before)
        elif isinstance(self.step, tuple):
            del now[before:]
        else:
            put(self.place, before)

    def count(self, evaluations: int) -> None:
        """Move it as so many evaluations do."""
        now = self.place.now()
        if isinstance(now, Tensor):
            _add(now, self.step, evaluations)
        elif isinstance(self.step, tuple):
            now.extend(self.step * evaluations)
        else:
            put(self.place, now + self.step * evaluations)


def _add(x: Tensor, step: int, evaluations: int) -> None:
    """x += step, so many times, in one go where that is exact."""
    with torch.no_grad():
        most = WHOLE.get(x.dtype, 2**62)
        if abs(float(x)) + abs(step) * evaluations < most:
            x.add_(step * evaluations)
        else:
            for _ in range(evaluations):
                x.add_(step)


def put(place: Place, value: Any) -> None:
    """Put a value where another one is kept."""
    if place.key is None:
        place.holder.cell_contents = value
    elif isinstance(place.holder, dict | list):
        place.holder[place.key] = value
    else:
        setattr(place.holder, place.key.name, value)


def _only_counted(tallies: list[Counter], evaluate: Callable[[], object]) -> bool:
    """Whether an evaluation with stand-ins adds to them as f did, and does nothing else with them."""
    stands: list[Any] = [StandList() if isinstance(tally.step, tuple) else Stand() for tally in tallies]
    places = [tally.place for tally in tallies]
    held = [place.now() for place in places]
    try:
        for place, stand in zip(places, stands, strict=True):
            put(place, stand)
        evaluate()
        return all(_counted(*three) for three in zip(tallies, places, stands, strict=True))
    except Exception:
        return False
    finally:
        for place, value in zip(places, held, strict=True):
            put(place, value)


def _candidate(place: Place, lists: dict[int, list[Place]]) -> Counter | None:
    """A place whose value an evaluation has changed, as a tally if it may be one; `place.value` is the former one."""
    if isinstance(place.key, tuple):  # a list, with what was in it
        holder, before = place.holder, place.key
        new = tuple(holder[len(before) :])
        kept = lists.get(id(holder), [])
        same = len(kept) == 1 and new and all(a is b for a, b in zip(holder, before, strict=False))
        if not same or len(holder) < len(before) or not _settable(kept[0]) or before[-len(new) :] != new:
            return None
        return Counter(Place(kept[0].holder, kept[0].key, holder), new, len(before) - len(new))
    now, before = place.now(), place.value
    if type(now) is not int or type(before) is not int or not _settable(place):
        return None
    return Counter(place, now - before, before - (now - before))


def _settable(place: Place) -> bool:
    return place.key is None or isinstance(place.holder, dict | list) or hasattr(place.key, "name")


def _counted(tally: Counter, place: Place, stand: Any) -> bool:
    """Whether a stand-in has been added to as it was before, and nothing else."""
    now = place.now()
    if isinstance(stand, StandList):
        return now is stand and not stand.read and tuple(map(repr, stand.added)) == tuple(map(repr, tally.step))
    return type(now) is Stand and now.origin is stand and not stand.read and now.added == tally.step


class Tallies:
    """What f counts its evaluations by; `lists`: where f reaches each list, `tensors`: where it reaches each tensor.

    Made when f has been evaluated once more than it is to be counted.
    """

    def __init__(self, guard: Guard, lists: dict[int, list[Place]], tensors: dict[int, Place]) -> None:
        self.all: list[Counter] = []
        self._guard, self._lists, self._tensors = guard, lists, tensors
        alone = [place.value for place in tensors.values() if place.value.numel() == 1]
        self._first = {id(x): float(x.detach()) for x in alone if not x.requires_grad and _whole(x)}

    @property
    def counters(self) -> frozenset[int]:
        """The storages of tensors by which f may count."""
        return frozenset(storage_id(self._tensors[name].value) for name in self._first)

    def seek(self, evaluate: Callable[[], object]) -> None:
        """Find numbers and lists by evaluations of f. Errors: Unsupported where an evaluation changes anything else.

        What f counts by is then as it was before, where that can be told, and nothing that changes is watched.
        """
        evaluate()
        moved = self._guard.moved()
        found = [_candidate(place, self._lists) for place in moved]
        tallies = [tally for tally in found if tally is not None]
        if len(tallies) == len(moved) and (not moved or _only_counted(tallies, evaluate)):
            for tally in tallies:
                tally.put_back(tally.before)
            self._release(tallies)
            return
        for tally in tallies:
            tally.put_back(tally.before)
        for place in moved:
            self._guard.release(Place(place.holder, place.key, None), lambda: True)
        raise Unsupported(f"f changes {moved[0].name} as it is evaluated")

    def take(self, tensors: Sequence[tuple[Tensor, int]]) -> None:
        """Tensors that f only adds whole numbers to, as its record shows. Errors: Unsupported where that is inexact."""
        steps: dict[int, int] = {}
        for tensor, step in tensors:
            if id(tensor) not in self._first:
                raise Unsupported("f writes into a tensor that it was given or holds (add_)")
            steps[id(tensor)] = steps.get(id(tensor), 0) + step
        self._release([Counter(self._tensors[name], step, self._first[name] - step) for name, step in steps.items()])

    def _release(self, tallies: list[Counter]) -> None:
        for tally in tallies:
            self._guard.release(tally.place, tally.suits)
        self.all += tallies

    @property
    def in_closure(self) -> bool:
        """Whether f counts in a variable of its closure, of which another function of its code has its own."""
        return any(tally.place.key is None for tally in self.all)

    def count(self, evaluations: int) -> None:
        """Count evaluations that compiled code has made, as f does."""
        for tally in self.all:
            tally.count(evaluations)

    def count_from_here(self) -> Callable[[int], None]:
        """What is told, later, how often f is to have counted since now, whoever has evaluated it."""
        kept = [tally.so_far() for tally in self.all]

        def settle(evaluations: int) -> None:
            for tally, before in zip(self.all, kept, strict=True):
                tally.put_back(before)
                tally.count(evaluations)

        return settle

    def put_back(self) -> None:
        """As all was before f was looked at."""
        for tally in self.all:
            tally.put_back(tally.before)


def _whole(x: Tensor) -> bool:
    """Whether a tensor of one number, on the host, is a whole number that is exact."""
    if is_wrapped(x) or x.layout is not torch.strided or x.is_complex() or x.device.type != "cpu":
        return False
    value = float(x.detach())
    return value.is_integer() and abs(value) < WHOLE.get(x.dtype, 2**62)
