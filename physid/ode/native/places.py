"""Places of values that f reads, and the containers that hold them: what is there now, and what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import is_, itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIMPLE = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Slot:
    """The name of a slot, as a key."""

    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """A value with the mapping, sequence, cell (key None) or object (key Slot) that holds it."""

    holder: Any
    key: Any
    value: Any

    def now(self) -> Any:
        """What is there now; `Place` itself, which is no value of f's, where nothing is."""
        try:
            if self.key is None:
                return self.holder.cell_contents
            return getattr(self.holder, self.key.name) if type(self.key) is Slot else self.holder[self.key]
        except (KeyError, IndexError, ValueError, AttributeError):
            return Place

    @property
    def name(self) -> str:
        """The value's name for a message."""
        key = self.key.name if type(self.key) is Slot else self.key
        return f"'{key}'" if isinstance(key, str) else "a value that f holds"


def alike(now: Any, before: Any) -> bool:
    """Whether two values are one object, plain values that no code can tell apart, or floating tensors.

    Another tensor may stand where one stood: whoever reads its numbers looks at its kind.
    """
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if isinstance(now, Tensor):
        return free(now) and free(before)
    if isinstance(now, float | complex):
        return repr(now) == repr(before)
    if isinstance(now, np.generic):
        return now.dtype == before.dtype and bool(now.tobytes() == before.tobytes())
    if type(now) is tuple:
        return len(now) == len(before) and all(map(alike, now, before))
    return isinstance(now, (*SIMPLE, torch.dtype, torch.device)) and bool(now == before)


def free(value: Any) -> bool:
    """Whether a value is a tensor that may be replaced by another one."""
    return isinstance(value, Tensor) and bool(value.is_floating_point()) and not value.__dict__


@dataclass
class Sweep:
    """A container or the attributes of an object: all of it is looked at, `relevant` keys count (None: all).

    `loose`: tensors in it have been replaced before, and are left out of the first look. `few`: the values of keys that
    do not count are. `moving`: keys whose values f only counts by, which do not matter.
    """

    holder: Any
    relevant: Callable[[Any], bool] | None = None
    keys: tuple[Any, ...] = ()
    values: tuple[Any, ...] = ()
    loose: bool = False
    few: bool = False
    moving: set[Any] = field(default_factory=set)

    def take(self) -> None:
        """Keep what is there."""
        named = isinstance(self.holder, Mapping)
        self.keys = tuple(self.holder) if named else ()
        self.values = tuple(self.holder.values()) if named else tuple(self.holder)

    def looks(self) -> Iterable[Callable[[], bool]]:
        """The first look of a loose one."""
        holder, keys = self.holder, self.keys
        places = keys if isinstance(holder, Mapping) else range(len(self.values))
        named = zip(places, self.values, strict=True)
        pairs = [(key, value) for key, value in named if not free(value) and key not in self.moving]
        if isinstance(holder, Mapping):
            yield lambda: len(holder) == len(keys) and all(map(is_, holder, keys))
        else:
            count = len(self.values)
            yield lambda: len(holder) == count
        if pairs:
            get, held = itemgetter(*(key for key, _ in pairs), pairs[0][0]), [value for _, value in pairs]
            yield lambda: all(map(is_, get(holder), held))

    def change(self) -> str | None:
        """The name of something that is another value than it was."""
        self.loose = self.loose or self._swaps()
        if not isinstance(self.holder, Mapping):
            pairs = enumerate(zip(self.holder, self.values, strict=False))
            same = all(i in self.moving or alike(now, before) for i, (now, before) in pairs)
            return None if same and len(self.holder) == len(self.values) else "a value that f holds"
        before = dict(zip(self.keys, self.values, strict=True))
        counts = self.relevant or (lambda key: True)
        for key in [*before, *(key for key in self.holder if key not in before)]:
            if not counts(key) or (key in self.moving and key in self.holder):
                continue
            if key not in self.holder or not alike(self.holder[key], before.get(key, Place)):
                return Place(None, key, None).name
        if self.relevant is None and list(before) != list(self.holder):
            return "the order of what f holds"
        return None

    def moved(self) -> list[Place]:
        """Where something is another value than it was; for a list of another length itself, with all that it was."""
        if isinstance(self.holder, Mapping):
            before, counts = dict(zip(self.keys, self.values, strict=True)), self.relevant or (lambda key: True)
            keys = [key for key in dict.fromkeys([*before, *self.holder]) if counts(key)]
            return [Place(self.holder, key, before.get(key, Place)) for key in keys]
        if len(self.holder) != len(self.values):
            return [Place(self.holder, self.values, Place)]
        pairs = [] if isinstance(self.holder, set | frozenset) else list(enumerate(self.values))
        return [Place(self.holder, i, value) for i, value in pairs]

    def _swaps(self) -> bool:
        if isinstance(self.holder, set | frozenset):
            return False
        now = self.holder.values() if isinstance(self.holder, Mapping) else self.holder
        return any(a is not b and free(a) and free(b) for a, b in zip(now, self.values, strict=False))


@dataclass
class Lookup:
    """Names in the globals of a function, a module or a class: present ones with their values, others are absent."""

    holder: Any
    present: dict[str, Any] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def change(self) -> str | None:
        """The name of something that is another value than it was."""
        for name, value in self.present.items():
            if name not in self.holder or not alike(self.holder[name], value):
                return f"'{name}'"
        return next((f"'{name}'" for name in self.absent if name in self.holder), None)
