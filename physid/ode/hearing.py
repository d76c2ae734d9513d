"""Signals, deadlines and stop flags: what a solve listens to while it runs, eager and compiled.

Eager code hears signals as all Python does, between two bytecodes; compiled code asks the interpreter some twenty times
per second (`native/c/hear.c`). Deadlines and flags hold for the thread that sets them and for every solve in it, its
derivatives, its backward pass and its compilation included.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from physid.ode.torch_internals import transforms_active


class TimeUp(BaseException):
    """A time limit ran out; what was found so far is kept.

    Like KeyboardInterrupt no error of anything, so that nobody who deals with errors takes it for his own.
    """


class OutOfTime(BaseException):
    """The time of a solve is over; its march turns this into a status."""


class Flag:
    """Raised by one thread to stop the solves of others, in eager and in compiled code."""

    def __init__(self) -> None:
        self.cell = ctypes.c_int32(0)

    def up(self) -> None:
        """Stop the solves of every thread that listens to this flag."""
        self.cell.value = 1

    @property
    def address(self) -> int:
        """Address of the number that is 0 until compiled code is to stop."""
        return ctypes.addressof(self.cell)


class _Heard(threading.local):
    """Signals and deadlines of this thread: `armed` where there is any, `deadline` and `end` by time.perf_counter."""

    armed = False
    deadline: float | None = None
    end: float | None = None  # of marches
    flag: Flag | None = None


_heard = _Heard()


@contextmanager
def listening(seconds: float | None = None, flag: Flag | None = None) -> Iterator[None]:
    """Solves in here end by TimeUp when `seconds` from now are over, by KeyboardInterrupt when the flag is raised.

    An earlier deadline from outside stays, and so does the flag from outside unless there is one here.
    """
    before = _heard.armed, _heard.deadline, _heard.flag
    if seconds is not None:
        deadline = time.perf_counter() + seconds
        _heard.deadline = deadline if _heard.deadline is None else min(deadline, _heard.deadline)
    _heard.flag = flag or _heard.flag
    _heard.armed = _heard.deadline is not None or _heard.flag is not None
    try:
        yield
    finally:
        _heard.armed, _heard.deadline, _heard.flag = before


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Marches in here end by the status of a time limit when `seconds` from now are over; None: as outside."""
    before = _heard.end
    if seconds is not None:
        end = time.perf_counter() + seconds
        _heard.end = end if before is None else min(end, before)
    try:
        yield
    finally:
        _heard.end = before


def end_of(started: float, seconds: float | None) -> float | None:
    """When a march must end that began at `started` and may take `seconds`, by time.perf_counter; None: never."""
    if seconds is None:
        return _heard.end
    return started + seconds if _heard.end is None else min(started + seconds, _heard.end)


def left() -> float | None:
    """Seconds up to the deadline, not negative; None without one."""
    return None if _heard.deadline is None else max(0.0, _heard.deadline - time.perf_counter())


def armed() -> tuple[float | None, int | None] | None:
    """Seconds up to the deadline and the flag's address; None where this thread listens to neither."""
    if not _heard.armed:
        return None
    return left(), None if _heard.flag is None else _heard.flag.address


def check() -> None:
    """TimeUp after the deadline, KeyboardInterrupt when the flag is raised."""
    if not _heard.armed:
        return
    if _heard.flag is not None and _heard.flag.cell.value:
        raise KeyboardInterrupt
    if _heard.deadline is not None and time.perf_counter() >= _heard.deadline:
        raise TimeUp


def audible(y: Tensor) -> None:
    """A backward pass through a graph comes back to Python at y, where signals and deadlines are heard."""
    if y.requires_grad and not transforms_active():
        y.register_hook(_check_in_graph)


def _check_in_graph(_: Tensor) -> None:
    check()
