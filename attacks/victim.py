"""A process that runs commands of physid one after another, watched from outside for its end and for silence."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from attacks.tally import Tally

HANG = 60.0  # seconds of the processor that no single input may cost
FINE = (0, 2, 3, 4, 5, 6, 124)


def _serve(line: Connection, folder: str) -> None:
    """Run commands until there are no more."""
    import torch

    from physid.cli.app import main

    torch.set_num_threads(1)
    os.chdir(folder)
    tempfile.tempdir = folder  # for the tracebacks of defects
    while (arguments := line.recv()) is not None:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace"), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except BaseException as error:
                code = 1
                err.write(f"{type(error).__name__} got out: {error}")
        line.send((code, err.getvalue()))


class Victim:
    """Runs commands in a process of its own, and a new one when that is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Victim:
        """Begin, so that its start counts for no attack."""
        self.try_(Tally(), ["simulate", "exponential", "--points", "8"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._end()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there, str(self.folder)), daemon=True)
        self.process.start()
        there.close()

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def try_(self, tally: Tally, arguments: Sequence[str], *paths: Path) -> int | None:
        """Run one command and count what comes of it: its exit code, None where it did not come back."""
        if self.process is None:
            self._begin()
        assert self.process is not None
        tally.inputs += 1
        self.line.send(list(arguments))
        began, used = time.monotonic(), processor(self.process.pid)
        while not self.line.poll(1.0):
            if not self.process.is_alive():
                tally.fail("crash", f"{arguments}: ended with {self.process.exitcode}", *paths)
                self._end()
                return None
            if processor(self.process.pid) - used > HANG or time.monotonic() - began > 20 * HANG:
                tally.fail("hang", f"{arguments}", *paths)
                self._end()
                return None
        try:
            code, err = self.line.recv()
        except EOFError:
            tally.fail("crash", f"{arguments}", *paths)
            self._end()
            return None
        tally.refused += code == 2
        if code not in FINE or "Traceback" in err or "defect" in err:
            tally.fail("traceback", f"{arguments}: {code}: {err}", *paths)
        return int(code)


def processor(process: int | None) -> float:
    """Seconds of the processor that a process has used; those of the clock where that cannot be known."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return time.monotonic()
