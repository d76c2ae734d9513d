"""SIGKILL at random moments of running fits, trainings and reproductions, which then go on to the same end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks.tally import Tally
from attacks.victim import processor

LONGEST = 900.0  # seconds of the clock for one command, on a busy machine
AGAIN = 0.3  # how often what goes on is killed once more


@dataclass(frozen=True)
class Job:
    """What is killed: its command, but for the folder; how it goes on; what it found, to compare; what is last."""

    name: str
    command: tuple[str, ...]
    go_on: tuple[str, ...]
    found: Callable[[Path], Any]
    last: str

    def running(self, run: Path) -> bool:
        """Whether a run has begun and is not at its end."""
        return (run / "request.json").exists() and not (run / self.last).exists()


def estimates(run: Path) -> Any:
    """The estimates of a fit, to five digits."""
    from physid import Fit
    from physid.formats import Folder

    if Folder(run).altered():
        return "altered files"
    return [float(f"{one.value:.5g}") for one in Fit.load(run).estimates]


def weights(run: Path) -> Any:
    """The bytes of the weights of a training."""
    return (run / "model.safetensors").read_bytes()


def figure(folder: Path) -> Any:
    """The numbers of a figure."""
    return (folder / "fig6.csv").read_bytes()


RESUME, FIGURE = ("resume", "--quiet"), ("reproduce", "fig6", "--quick", "--quiet", "--out")
NOISE = ("--noise", "0.05", "--seed", "3", "--quiet", "--out")
JOBS = (
    Job(
        "fit",
        ("fit", "exponential", "--points", "20", "--optimizer", "adam", "--epochs", "60", *NOISE),
        RESUME,
        estimates,
        "SHA256SUMS",
    ),
    Job(
        "fit of many starts",
        ("fit", "lotka-volterra", "--points", "40", "--starts", "4", *NOISE),
        RESUME,
        estimates,
        "SHA256SUMS",
    ),
    Job(
        "training",
        (
            "fit",
            "threebody",
            "--model",
            "lstm",
            "--points",
            "40",
            "--epochs",
            "30",
            "--hidden",
            "8",
            "--quiet",
            "--out",
        ),
        RESUME,
        weights,
        "SHA256SUMS",
    ),
    Job("reproduction", FIGURE, FIGURE, figure, "fig6.json"),
)


class Copy:
    """A copy of this process that runs a command and keeps what it has very often; its errors go to a file."""

    def __init__(self, words: Sequence[str], said: Path) -> None:
        self.words, self.said = words, said
        self.code: int | None = None
        self.number = os.fork()
        if not self.number:
            self._run()

    def _run(self) -> None:
        code = 1
        try:
            from physid.cli.app import main
            from physid.runs import writer

            writer.EVERY = writer.SHARE = 0.02
            for number, path in ((1, os.devnull), (2, str(self.said))):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            code = main(list(self.words))
            sys.stderr.flush()
        finally:
            os._exit(code)

    def over(self) -> bool:
        """Whether it is at its end; then `code` is its exit code, or minus the signal that ended it."""
        if self.code is None:
            found, status = os.waitpid(self.number, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if found else None
        return self.code is not None

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.number, signal.SIGKILL)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])

    def wait(self, used: float | None = None, appears: Path | None = None) -> float:
        """Wait for its end, or until it has used so many seconds of the processor once a path is there, then kill it.

        Gives the seconds of the processor from that moment on.
        """
        began, since = time.monotonic(), None if appears else processor(self.number)
        now = since or 0.0
        while not self.over():
            now = processor(self.number)
            if since is None and appears is not None and appears.exists():
                since = now
            enough = used is not None and since is not None and now - since >= used
            if enough or time.monotonic() - began > LONGEST:
                self.kill()
            else:
                time.sleep(0.002)
        return now - (now if since is None else since)


@dataclass(frozen=True)
class Whole:
    """What a job comes to when nothing disturbs it: what it found, its files, and its seconds of the processor."""

    found: Any
    names: frozenset[str]
    seconds: float
    code: int


def undisturbed(job: Job, folder: Path) -> Whole | str:
    """The job run twice, the second time without the compiler; or what it said where it failed."""
    run, said = folder / "whole", folder / "said"
    seconds = 0.0
    for _ in range(2):
        shutil.rmtree(run, ignore_errors=True)
        copy = Copy([*job.command, str(run)], said)
        seconds = copy.wait(appears=run / "request.json")
        if copy.code not in (0, 3):  # 3: so many epochs are not enough
            return f"{copy.code}: {said.read_text(errors='replace')}"
    return Whole(job.found(run), listed(run), max(seconds, 0.05), copy.code)


def listed(run: Path) -> frozenset[str]:
    """The files and folders of a run."""
    return frozenset(str(path.relative_to(run)) for path in run.rglob("*"))


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Kill each job again and again while it runs, then go on and compare."""
    import torch

    import physid.inference
    import physid.reproduce
    import physid.training  # noqa: F401 (before the copies are made)

    torch.set_num_threads(1)
    os.environ["PHYSID_CACHE"] = str(folder / "cache")
    tally, jobs = Tally(), JOBS if full else JOBS[:1]
    for job in jobs:
        whole = undisturbed(job, folder)
        if isinstance(whole, str):
            tally.fail("traceback", f"{job.name}: does not run undisturbed: {whole}")
            continue
        until = time.monotonic() + seconds / len(jobs)
        while time.monotonic() < until:
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            disturbed(job, whole, run, draw, tally)
    return tally


def disturbed(job: Job, whole: Whole, run: Path, draw: random.Random, tally: Tally) -> None:
    """Kill a job, sometimes what goes on with it too, and see that it comes to the same end."""
    words, said = job.command, run.parent / "said"
    while True:
        tally.inputs += 1
        copy = Copy([*words, str(run)], said)
        copy.wait(draw.uniform(0.0, whole.seconds), None if words is job.go_on else run / "request.json")
        landed = copy.code == -signal.SIGKILL and job.running(run)
        tally.notes[f"landed in a running {job.name}" if landed else f"before or after a {job.name}"] += 1
        if copy.code not in (whole.code, -signal.SIGKILL):
            tally.fail("traceback", f"{job.name}: {copy.code}: {said.read_text(errors='replace')}", run)
            return
        words = job.go_on
        if not landed or draw.random() > AGAIN:
            break
    if not (run / "request.json").exists():
        return
    copy = Copy([*job.go_on, str(run)], said)
    copy.wait()
    if copy.code != whole.code:
        kind = "hang" if copy.code == -signal.SIGKILL else "loss"
        tally.fail(kind, f"{job.name}: {copy.code}: {said.read_text(errors='replace')}", run)
    elif job.found(run) != whole.found:
        tally.fail("loss", f"{job.name}: {job.found(run)!s:.200} in place of {whole.found!s:.200}", run)
    elif listed(run) != whole.names:
        tally.fail("loss", f"{job.name}: other files: {sorted(listed(run) ^ whole.names)}", run)
