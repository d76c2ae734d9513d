"""RunFormat: encodes and decodes the runs of one kind; Run: a run directory of any kind, read by its format."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import physid.door as door
from physid.catalog import Registry
from physid.errors import InputError
from physid.formats import ARCHIVE_ERRORS, SUMS, Folder
from physid.inference.search.monitor import Progress
from physid.runs.writer import REQUEST, StartsAnew

SETTINGS = "settings.json"
LAYOUT = 2  # of the files of a run; another one is read by the physid that wrote it
# what comes of a checkpoint of another kind than was written
DAMAGE = (*ARCHIVE_ERRORS, TypeError, IndexError, RuntimeError)


class HasStatus(Protocol):
    """Result of a run of any kind."""

    @property
    def status(self) -> str:
        """Status of the run, in a word or two."""


ResultT = TypeVar("ResultT", bound=HasStatus)
LiveT = TypeVar("LiveT")


class RunFormat(ABC, Generic[ResultT]):
    """Format of the runs of one kind: the files of a result, and how an unfinished run is resumed.

    `kind` stands in request.json, `noun` names a run of it in messages. A run whose status is one of `ended` is not
    resumed.
    """

    kind: ClassVar[str]
    noun: ClassVar[str]
    ended: ClassVar[tuple[str, ...]]

    @abstractmethod
    def encode(self, result: ResultT) -> dict[str, bytes]:
        """Every file of the finished run but those it began with, and the sums."""

    @abstractmethod
    def decode(self, run: Run) -> ResultT:
        """The result of a finished run.

        Errors: InputError for what is no intact run, and for a part that is in no catalogue and was not given.
        """

    @abstractmethod
    def resume(self, run: Run, progress: Progress | None, limit: float | None) -> ResultT:
        """Resume an unfinished run for `limit` seconds at most, and finish it."""


class CheckpointFormat(RunFormat[ResultT], Generic[ResultT, LiveT]):
    """The format of runs that resume from one file, their `checkpoint`: the state of a search or a training."""

    checkpoint: ClassVar[str]

    @abstractmethod
    def state(self, live: LiveT, request: str) -> bytes:
        """State of `live`, a search or a training; `request` is the sha256 of its request."""

    @abstractmethod
    def restore(self, live: LiveT, data: bytes, request: str) -> None:
        """Put `live` where a `state` stood. Errors: DAMAGE; ValueError for the state of another request."""

    def restored(self, run: Run, live: LiveT, request: str) -> bool:
        """Put `live` where the run stands; False, with the warning StartsAnew, for a run without its checkpoint.

        Errors: InputError for a checkpoint that is damaged or of another request.
        """
        path = run.path / self.checkpoint
        try:
            data = door.inside(run.path, self.checkpoint)
        except FileNotFoundError:
            warnings.warn(f"{run.path} has no {path.name}: the {self.kind} starts anew.", StartsAnew, stacklevel=5)
            return False
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}. Use a copy.") from None
        try:
            self.restore(live, data, request)
        except DAMAGE as error:
            raise InputError(f"{path} is damaged: {error}. Remove it, and the {self.kind} starts anew.") from None
        return True


FORMATS: Registry[RunFormat[Any]] = Registry(
    "kind of run",
    places={
        "fit": "physid.runs.fits:FITS",
        "training": "physid.runs.trainings:TRAININGS",
        "reproduction": "physid.reproduce.run:REPRODUCTIONS",
    },
)


class Run:
    """A run directory of any kind, finished or not: Run.open("runs/orbits").result().

    `part` is its model, network or exhibit, where it is in no catalogue; `trust` lets code of the run be executed.
    """

    def __init__(self, path: Path, format: RunFormat[Any], part: Any = None, trust: bool = False) -> None:
        self.path, self.format, self.part, self.trust = path, format, part, trust

    @classmethod
    def open(cls, path: str | Path, kind: str | None = None, *, part: Any = None, trust: bool = False) -> Self:
        """The run in the folder `path`, which must be of the `kind` where one is given.

        The folder is read at the first use of what it holds. Errors: InputError for a run of another kind.
        """
        run = cls(Path(path), FORMATS.lookup(kind_of(Path(path))), part, trust)
        if kind is not None:
            run.expect(kind)
        return run

    def expect(self, kind: str) -> None:
        """Errors: InputError for a run of another kind."""
        if kind != self.kind:
            raise InputError(
                f"{self.path} is {self.format.noun}, but {FORMATS[kind].noun} is expected. `physid report {self.path}` "
                "shows what it holds."
            )

    @property
    def kind(self) -> str:
        """The name of the format."""
        return self.format.kind

    @property
    def finished(self) -> bool:
        """Whether the run has been written to its end."""
        return door.there(self.path, SUMS)

    @cached_property
    def files(self) -> Folder:
        """The files of the finished run, each compared with its sum. Errors: InputError, see Folder."""
        return Folder(self.path)

    def result(self) -> Any:
        """The result of the finished run, as plain data; see RunFormat.decode."""
        return self.format.decode(self)

    def resume(self, progress: Progress | None = None, time_limit: float | None = None) -> Any:
        """Continue the run from its checkpoint and finish it; one that has come to its end gives its result."""
        if self.finished:
            found = self.result()
            if found.status in self.format.ended:
                return found
        return self.format.resume(self, progress, time_limit)


def checked(about: Any, path: Path) -> Mapping[str, Any]:
    """The contents of a run's JSON file. Errors: InputError for those of another layout."""
    if not isinstance(about, dict) or about.get("format") != LAYOUT:
        raise InputError(f"{path} has another format than {LAYOUT}, the one this physid reads. Use its own version.")
    return about


def kind_of(path: Path) -> str:
    """The kind of the run in a folder, "fit" where nothing says another."""
    for name in (REQUEST, SETTINGS):
        try:
            about = json.loads(door.inside(path, name))
        except (OSError, ValueError, RecursionError):  # reported by whoever reads the run
            continue
        if isinstance(about, dict):
            return str(about.get("kind", "reproduction" if "exhibit" in about else "fit"))
    return "fit"
