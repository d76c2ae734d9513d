"""Worker calls: relays what a user's model raises, warns and prints in a worker process."""

from __future__ import annotations

import os
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from physid.errors import ModelError, PhysidError
from physid.modelling.address import blame, spoken_at

Said = tuple[str, type[Warning], str, int]  # text, category, file and line of a warning
MOST = 100  # warnings that one call tells
_PROCESS = uuid.uuid4().hex


def here() -> str:
    """The name of this process, on whatever machine."""
    return f"{_PROCESS}-{os.getpid()}"


@dataclass(frozen=True)
class Afar:
    """Calls `task` in a process that need not be the one which made this; gives its result, and what was warned there.

    Prints go to standard error: standard output is that of the process which asked, and may be read by a program.

    Errors: as those of the task; ModelError, with file and line, for what a line of the user's own model raised, which
    the traceback of another process would not show.
    """

    task: Callable[..., Any]
    home: str = field(default_factory=here)

    def __call__(self, *arguments: Any) -> tuple[Any, list[Said]]:
        """Call it."""
        said: list[Said] = []
        with _heard(said) if here() != self.home else nullcontext():
            try:
                return self.task(*arguments), said
            except PhysidError:
                raise
            except BaseException as error:
                if slip := blame(error):
                    raise ModelError(slip) from None
                raise


@contextmanager
def _heard(said: list[Said]) -> Iterator[None]:
    """In here warnings are kept in `said`, and prints go to standard error."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.showwarning = _collector(said)
        yield


def _collector(said: list[Said]) -> Callable[..., None]:
    """A hook that collects warnings instead of showing them, one of each line and kind."""

    def keep(message: Warning | str, category: type[Warning], file: str, line: int, *more: Any, **also: Any) -> None:
        file, line = spoken_at(sys._getframe(1)) or (file, line)
        plain = category if category.__module__ == "builtins" else UserWarning  # which every process knows
        text = str(message) if plain is category else f"{category.__name__}: {message}"
        if len(said) < MOST and (plain, file, line) not in {one[1:] for one in said}:
            said.append((text, plain, file, line))

    return keep


def tell(said: Iterable[Said]) -> None:
    """Warn here of what was warned there."""
    for text, category, file, line in said:
        warnings.warn_explicit(text, category, file, line)
