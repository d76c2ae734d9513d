"""A full disk, a broken one, and memory that runs out, at each write of a run and of the cache in turn."""

from __future__ import annotations

import builtins
import errno
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacks.tally import Tally

CALLS = ("open", "mkdir", "fdopen", "fsync", "replace", "rename", "chmod", "unlink")
ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    lambda: MemoryError(),
)


def arguments(folder: Path) -> list[str]:
    """A fit of a few steps."""
    return ["fit", "exponential", "--noise", "0.05", "--points", "20", "--quiet", "--out", str(folder)]


def spoiled(run: Path, call: str, number: int, make: Callable[[], BaseException], lasting: bool) -> tuple[int, bool]:
    """The exit code of a fit in a copy of this process whose `number`-th call fails, and whether it came to it."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code % 200 if code >= 0 else code, code >= 200
    from physid.cli.app import main
    from physid.fitting import keep

    keep.EVERY = keep.SHARE = 0.0
    sys.stdout = sys.stderr = builtins.open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    real, count = getattr(os, call), 0
    here = (str(run.parent), run.parent.name)

    def fail(*given: Any, **named: Any) -> Any:
        nonlocal count
        frame = sys._getframe(1)
        if frame.f_globals.get("__name__", "") in ("physid.store", "physid.door", "pathlib", "physid.machine"):
            count += 1
            if count == number or (lasting and count > number):
                raise make()
        return real(*given, **named)

    assert here
    setattr(os, call, fail)
    code = 1
    try:
        code = main(arguments(run))
    finally:
        os._exit(code + 200 * (count >= number and code < 50))
    raise AssertionError


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Each fault in turn; then the run goes on to the optimum of an undisturbed fit, or there is none."""
    import torch

    from physid import Fit
    from physid.cli.app import main
    from physid.errors import PhysidError
    from physid.fitting.files import Folder

    torch.set_num_threads(1)
    os.environ["PHYSID_CACHE"] = str(folder / "cache")
    tally, ends = Tally(), time.monotonic() + seconds
    main(arguments(folder / "whole"))
    whole = Fit.load(folder / "whole")
    cases = [(call, number) for number in range(1, 80) for call in CALLS]
    draw.shuffle(cases)
    while time.monotonic() < ends and cases:
        call, number = cases.pop()
        make, lasting, run = draw.choice(ERRORS), draw.random() < 0.3, folder / "run"
        if draw.random() < 0.2:
            shutil.rmtree(folder / "cache", ignore_errors=True)
        code, met = spoiled(run, call, number, make, lasting)
        told = f"{call} number {number} {'and all after it ' * lasting}with {make()!r}"
        if not met:
            shutil.rmtree(run, ignore_errors=True)
            continue
        tally.inputs += 1
        tally.refused += code == 2
        tally.notes[call] += 1
        if code not in (0, 2, 5):
            tally.fail("traceback", f"{told}: exit code {code}", run)
        if run.exists():
            try:
                found = Fit.resume(run)
                pairs = zip(found.estimates, whole.estimates, strict=True)
                if any(abs(a.value - b.value) > 1e-3 * (b.stderr or 0.0) for a, b in pairs) or Folder(run).altered():
                    tally.fail("loss", f"{told}: another optimum, or altered files", run)
            except PhysidError as error:
                tally.fail("loss", f"{told}: {error}", run)
        shutil.rmtree(run, ignore_errors=True)
    return tally
