"""SIGKILL at random moments of running fits, trainings and reproductions, which then go on to the same end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks.tally import Tally

SOON = "from physid.fitting import keep; keep.EVERY = keep.SHARE = 0.02; "
COMMAND = SOON + "import sys; from physid.cli.app import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Job:
    """What is killed: its command, but for the folder; how it goes on; what it found, to compare."""

    name: str
    command: tuple[str, ...]
    go_on: Callable[[Path], list[str]]
    found: Callable[[Path], Any]
    running: Callable[[Path], bool]


def estimates(run: Path) -> Any:
    """The estimates of a fit, to five digits."""
    from physid import Fit
    from physid.fitting.files import Folder

    if Folder(run).altered():
        return "altered files"
    return [float(f"{one.value:.5g}") for one in Fit.load(run).estimates]


def weights(run: Path) -> Any:
    """The bytes of the weights of a training."""
    return (run / "model.safetensors").read_bytes()


def cells(folder: Path) -> Any:
    """The keys of the finished cells, and the table."""
    return sorted(path.name for path in (folder / "cells").iterdir())


def unfinished(run: Path) -> bool:
    """Whether a run has begun and is not at its end."""
    return (run / "request.json").exists() and not (run / "SHA256SUMS").exists()


def resumed(run: Path) -> list[str]:
    """The command that goes on with a run."""
    return ["resume", str(run), "--quiet"]


FIT = (
    "fit",
    "exponential",
    "--noise",
    "0.05",
    "--optimizer",
    "adam",
    "--epochs",
    "150",
    "--seed",
    "3",
    "--quiet",
    "--out",
)
MANY = ("fit", "lotka-volterra", "--noise", "0.5", "--starts", "4", "--seed", "1", "--quiet", "--out")
NET = ("fit", "threebody", "--model", "lstm", "--points", "40", "--epochs", "30", "--hidden", "8", "--quiet", "--out")
JOBS = (
    Job("fit", FIT, resumed, estimates, unfinished),
    Job("many starts", MANY, resumed, estimates, unfinished),
    Job("training", NET, resumed, weights, unfinished),
    Job(
        "reproduction",
        ("reproduce", "fig6", "--quick", "--quiet", "--out"),
        lambda run: ["reproduce", "fig6", "--quick", "--quiet", "--out", str(run)],
        cells,
        lambda run: (run / "request.json").exists() and not (run / "fig6.json").exists(),
    ),
)


def started(words: tuple[str, ...] | list[str], folder: Path) -> subprocess.Popen[bytes]:
    """A process of physid that keeps what it has very often."""
    nothing = subprocess.DEVNULL
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.Popen(command, cwd=folder, stdout=nothing, stderr=subprocess.PIPE, env={**os.environ})


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Kill each job again and again while it runs, then go on and compare."""
    tally, jobs = Tally(), JOBS if full else JOBS[:1]
    for job in jobs:
        whole = folder / f"whole-{job.name.split()[0]}"
        if started([*job.command, str(whole)], folder).wait() != 0:
            tally.fail("traceback", f"{job.name}: does not run undisturbed")
            continue
        expected = job.found(whole)
        until = time.monotonic() + seconds / len(jobs)
        while time.monotonic() < until:
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            if not killed(job, run, folder, draw, tally):
                continue
            process = started(job.go_on(run), folder)
            _, errors = process.communicate()
            if process.returncode != 0 or job.found(run) != expected:
                tally.fail("loss", f"{job.name}: {process.returncode}: {errors.decode(errors='replace')}", run)
            if job.name != "reproduction" and [path for path in run.iterdir() if path.name.startswith(".")]:
                tally.fail("loss", f"{job.name}: something is left over", run)
    return tally


def killed(job: Job, run: Path, folder: Path, draw: random.Random, tally: Tally) -> bool:
    """Whether a process was killed while its run was going on: begun, and not at its end."""
    tally.inputs += 1
    process = started([*job.command, str(run)], folder)
    while process.poll() is None and not run.exists():
        time.sleep(0.002)
    wait = time.monotonic() + draw.expovariate(1 / 0.4)
    while process.poll() is None and time.monotonic() < wait:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    landed = process.returncode == -signal.SIGKILL and job.running(run)
    tally.notes[f"landed in a running {job.name}" if landed else f"after the end of a {job.name}"] += 1
    return landed
