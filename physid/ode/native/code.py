"""Compiled code of one f as solves call it: with the runtime that serves every f, and then, if it is small, inlined."""

from __future__ import annotations

import ctypes
import threading

from physid.ode.caching import Cache
from physid.ode.native.compiler.background import Background
from physid.ode.native.compiler.trace import Unsupported
from physid.ode.native.kernel import Kernel
from physid.ode.native.runtime import Library

SMALL = 6  # numbers of a state up to which a call of f costs as much as what it does
WORTH = 0.5  # seconds of solves after which a small f is inlined, which costs the compiler two or three times as much
AGAIN = 0.02  # seconds of solves between looks at the compiler


class Code:
    """The entry points of one kernel.

    An f of few numbers is compiled once more, with a runtime in which it is inlined, in the background and after its
    solves have taken WORTH seconds. Both give the same numbers to the last bit, so that it does not matter when.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.library = _entries(kernel.library)
        self._tangents: ctypes.c_void_p | None = None
        self._inlined = Background(kernel.sources.whole()) if kernel.n <= SMALL else None
        self._next, self._lock = 0.0, threading.Lock()

    def now(self) -> Library:
        """The entry points for the next solve."""
        if self._inlined is not None and self.library.spent >= self._next:
            self._look(self._inlined)
        return self.library

    def use_tangents(self, where: ctypes.c_void_p) -> None:
        """Tell the runtime where the tangents of f lie."""
        self._tangents = where
        self.library.use_tangents(where)

    def _look(self, inlined: Background) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            found = inlined.look() if self.library.spent >= WORTH else inlined.kept()
        except Unsupported:
            self._inlined = None  # it goes on as it is
        else:
            self._next = max(WORTH, self.library.spent + AGAIN)
            if found is not None:
                library = _entries(found)
                if self._tangents is not None:
                    library.use_tangents(self._tangents)
                self.library, self._inlined = library, None
        finally:
            self._lock.release()


def _entries(library: ctypes.CDLL) -> Library:
    """Entry points, declared once."""
    return _LIBRARIES.made(library._name, lambda: Library.of(library))


_LIBRARIES: Cache[str, Library] = Cache(256)
