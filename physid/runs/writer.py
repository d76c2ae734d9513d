"""Checkpoints a run under way: its request and starting point once, its state periodically, then its result.

The folder appears whole, at the first state from which the search could continue; after that one file changes, in one
step, so that whatever ends the process leaves a run that `physid resume` continues.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from physid.arrays import Array
from physid.errors import InputError
from physid.formats import SUMS, archive_bytes, json_bytes, sums_bytes
from physid.inference.search.monitor import Monitor
from physid.inference.search.optimizer import StrategyState
from physid.runs.codec import decode, encode
from physid.store import LOCK, claim, clear, put, whole

REQUEST, CHECKPOINT = "request.json", "checkpoint.npz"
EVERY = 1.0  # seconds between checkpoints at least
SHARE = 20.0  # and that many times what one costs


class StartsAnew(UserWarning):
    """A run that is resumed has no checkpoint, so that its fit or training starts from its beginning."""


class RunWriter:
    """Writes a run that is under way into `folder`, which it makes, or which holds an unfinished run that is `resumed`.

    `files` are those that a run begins with, request.json among them; `checkpoint` is the name of the one that changes.
    Only one process at a time may write a folder. Errors: InputError when another does, or when the folder cannot be
    made; a later checkpoint that fails leaves the one before it, with the reason in `trouble`.
    """

    def __init__(
        self, folder: Path, files: Mapping[str, bytes], resumed: bool = False, checkpoint: str = CHECKPOINT
    ) -> None:
        self.folder, self.files, self.checkpoint = folder, files, checkpoint
        self.trouble = ""
        self.stage = ""
        self.due = 0.0
        self.lock: IO[bytes] | None = claim(folder) if resumed else None
        self.there = resumed
        if resumed:
            clear(folder)

    def __call__(self, stage: str, state: Callable[[], bytes]) -> None:
        """Keep the `state` of a run that stands in `stage`, if it is time to."""
        if not self.there or stage != self.stage or time.monotonic() >= self.due:
            self.keep(stage, state)

    def keep(self, stage: str, state: Callable[[], bytes]) -> None:
        """Keep the `state` of a run that stands in `stage`."""
        began = time.monotonic()
        content = state()
        if not self.there:
            self._appear({**self.files, self.checkpoint: content})
        else:
            try:
                put(self.folder / self.checkpoint, content)
                self.trouble = ""
            except OSError as error:
                self.trouble = error.strerror or str(error)
        now = time.monotonic()
        self.stage, self.due = stage, now + max(EVERY, SHARE * (now - began))

    def finish(self, content: Mapping[str, bytes], state: bytes = b"") -> None:
        """Write the finished run, with its last `state` where one is given.

        Its files are those that it began with and the `content`; the sums come last, and say that it is whole.
        """
        content = {**self.files, **content}
        if not self.there:
            self._appear({**content, SUMS: sums_bytes(content), **({self.checkpoint: state} if state else {})})
            return
        if state:
            self.keep("end", lambda: state)
        try:
            (self.folder / SUMS).unlink(missing_ok=True)
            for name, data in content.items():
                put(self.folder / name, data)
            put(self.folder / SUMS, sums_bytes(content))
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be written: {error.strerror}. What was found up to the last checkpoint is kept: "
                f"make room, then physid resume {self.folder}."
            ) from error

    def close(self) -> None:
        """Let others write the folder again."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def _appear(self, files: Mapping[str, bytes]) -> None:
        """Make the folder with everything in it."""
        try:
            with whole(self.folder) as work:
                for name, content in {**files, LOCK: b""}.items():
                    put(work / name, content)
                self.lock = claim(work)
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written: {error.strerror}. Choose another place.") from error
        self.there = True


def checkpoint(monitor: Monitor, request: str) -> bytes:
    """State of a search, as an archive of plain data; `request` is the sha256 of its request."""
    about = {
        "request": request,
        "state": encode(monitor.state),
        "history": monitor.history,
        "seconds": monitor.seconds,
        "lowest": monitor.lowest,
        "evaluations": monitor.evaluations(),
    }
    arrays = {} if monitor.best is None else {"best": monitor.best}
    return archive_bytes(about=np.frombuffer(json_bytes(about), np.uint8), **arrays)


def recall(monitor: Monitor, arrays: Mapping[str, Array], request: str) -> int:
    """Put `monitor` where a checkpoint stood; the number of evaluations until then.

    A checkpoint of an older physid, which has no state, continues from its best point. Errors: ValueError for the
    checkpoint of another request.
    """
    about = json.loads(arrays["about"].tobytes())
    if about["request"] != request:
        raise ValueError("the checkpoint belongs to another fit")
    monitor.history = [{name: math.inf if v is None else v for name, v in row.items()} for row in about["history"]]
    monitor.before = about["seconds"]
    monitor.best, monitor.lowest = arrays.get("best"), math.inf if about["lowest"] is None else about["lowest"]
    if "state" in about:
        monitor.state = decode(about["state"])
    elif monitor.best is not None:
        monitor.state = StrategyState(monitor.best, anew=True)
    return int(about["evaluations"])
