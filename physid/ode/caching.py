"""Cache: what was made before, by key, for all threads; the least recently used goes first."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """At most `size` values by key. A key that holds an id needs a value that keeps its object alive."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.RLock()  # what is let go may run code that comes here again
        _ALL.add(self)

    def get(self, key: K) -> V | None:
        """The value of a key, which counts as used; None where there is none."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: K, value: V) -> V:
        """Keep a value and return it; the ones that were not used for the longest time make room."""
        gone = []  # let go after the lock
        with self._lock:
            gone.append(self._kept.pop(key, None))
            self._kept[key] = value
            while len(self._kept) > self.size:
                gone.append(self._kept.popitem(last=False)[1])
        return value

    def made(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made if need be; threads that ask at once may make it twice."""
        found = self.get(key)
        return self.put(key, make()) if found is None else found

    def pop(self, key: K) -> V | None:
        """Forget a key; its value, None where there is none."""
        with self._lock:
            return self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            gone, self._kept = self._kept, OrderedDict()
        gone.clear()

    def values(self) -> list[V]:
        """All values, the most recently used last."""
        with self._lock:
            return list(self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept


_ALL: WeakSet[Cache[Any, Any]] = WeakSet()


def clear_caches() -> None:
    """Forget all that the engine remembers of functions, states and solves; files on disk stay."""
    for cache in list(_ALL):
        cache.clear()


def _unlock() -> None:
    """A child process begins with free locks, whoever held them when it was forked."""
    for cache in list(_ALL):
        cache._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
