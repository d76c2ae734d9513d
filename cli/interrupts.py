"""Ctrl-C and SIGTERM in a command: both raise, and neither is lost where Python ignores what a handler raises."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AGAIN = 0.01  # seconds until a signal that fell on deaf ears is sent once more


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command in order, so that a fit leaves a usable run; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Heard:
    """Signals that came."""

    def __init__(self) -> None:
        self.terminated = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """Raise Interrupted."""
        self.terminated |= number == signal.SIGTERM
        raise Interrupted(number)


@contextmanager
def interrupts() -> Iterator[Heard]:
    """In here SIGTERM raises as Ctrl-C does; Ctrl-C stays ignored where it is, and another's where it has a handler.

    Destructors and callbacks of the collector cannot raise: Python prints the error of a handler that ran in one, and
    goes on. Such a signal is sent again.
    """
    heard = Heard()
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, heard.handle)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, heard.handle)
    report = sys.unraisablehook

    def again(lost: Any) -> None:
        if not isinstance(lost.exc_value, Interrupted):
            report(lost)
            return
        timer = threading.Timer(AGAIN, os.kill, (os.getpid(), lost.exc_value.number))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again
    try:
        yield heard
    finally:
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)
