"""Standard output and error that end as those of any tool: a closed reader, a full disk, a closed descriptor."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from physid.errors import PhysidError

NAMES = {1: "stdout", 2: "stderr"}


class OutputLost(PhysidError):
    """Standard output or error cannot be written: `gone` when its reader has what it wanted."""

    exit_code = 2

    def __init__(self, number: int, error: OSError) -> None:
        self.gone = error.errno == errno.EPIPE
        what = "standard output" if number == 1 else "standard error"
        reason = "closed" if error.errno == errno.EBADF else error.strerror
        super().__init__(f"{what} cannot be written: {reason}. Make room, or send it elsewhere.")


class _Descriptor(io.FileIO):
    """Descriptor 1 or 2, whose errors are those of the command and not of what it was doing."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)

    def write(self, data: bytes | bytearray | memoryview, /) -> int | None:  # type: ignore[override]
        """Write, or raise OutputLost; what is still in a buffer then goes nowhere."""
        try:
            return super().write(data)
        except OSError as error:
            silence(self.fileno())
            raise OutputLost(self.fileno(), error) from error


class _Results(io.TextIOWrapper):
    """Standard output, for results that a program may read: what a model prints goes to standard error."""

    def write(self, text: str, /) -> int:
        """Write, here or there."""
        models = sys.modules.get("physid.modelling.address")  # without it no model was read
        if models is not None and models.spoken_at(sys._getframe(1)):
            return sys.stderr.write(text)
        return super().write(text)


def silence(number: int) -> None:
    """Let descriptor `number` lead nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def fill() -> None:
    """Open descriptors that the caller closed, so that no file takes their numbers.

    What is written to a closed standard output fails, as it would without this; standard error leads nowhere.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


@contextmanager
def guarded() -> Iterator[None]:
    """Standard output and error of this process as _Descriptor, where no one has put something else in their place."""
    before = {}
    fill()
    for number, name in NAMES.items():
        stream: TextIO | None = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        before[name] = stream
        if stream is not None:
            stream.flush()
        setattr(sys, name, _text(number, stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            with suppress(OutputLost):  # it was said, or cannot be
                getattr(sys, name).flush()
            setattr(sys, name, stream)


def _text(number: int, like: TextIO | None) -> TextIO:
    """A text stream on a descriptor, as the one in place of which it stands."""
    raw: Any = _Descriptor(number)
    kind = _Results if number == 1 else io.TextIOWrapper
    return kind(
        io.BufferedWriter(raw),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors=getattr(like, "errors", None) or "backslashreplace",
        line_buffering=number == 2 or raw.isatty(),
        write_through=bool(getattr(like, "write_through", False)),
    )
