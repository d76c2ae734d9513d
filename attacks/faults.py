"""A full disk, a broken one, and memory that runs out: at the k-th write of a run and of the cache, for every k."""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from attacks.tally import Tally

CALLS = ("write", "open", "mkdir", "fdopen", "fsync", "replace", "rename", "chmod", "unlink")
OURS = (
    "physid.store",
    "physid.door",
    "physid.machine",
    "physid.ode.native.compiler.disk_cache",
    "pathlib",
    "attacks.faults",
)
ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    lambda: MemoryError(),
)
MET = 100  # added to the exit code of a copy that came to its fault
SOURCE = "int answer(void) { return 42; }\n"


@dataclass
class Fault:
    """The `number`-th use of a call by physid fails, and those after it where it is lasting."""

    call: str
    number: int
    make: Callable[[], BaseException]
    lasting: bool
    count: int = 0

    def __str__(self) -> str:
        """What is done."""
        return f"{self.call} number {self.number}{' and all after it' * self.lasting}: {self.make()!r}"

    @property
    def met(self) -> bool:
        """Whether it came to that."""
        return self.count >= self.number

    def put(self) -> None:
        """Let it happen in this process from now on."""
        name = "fdopen" if self.call == "write" else self.call
        real = getattr(os, name)

        def fail(*given: Any, **named: Any) -> Any:
            if sys._getframe(1).f_globals.get("__name__", "") not in OURS:
                return real(*given, **named)
            if self.call == "write":
                file = real(*given, **named)
                return io.BufferedWriter(_Disk(file.detach(), self)) if "w" in given[1:] or "wb" in given else file
            self.turn()
            return real(*given, **named)

        setattr(os, name, fail)

    def turn(self) -> None:
        """Count one use; raises where it is to fail."""
        self.count += 1
        if self.count == self.number or (self.lasting and self.met):
            raise self.make()


class _Disk(io.RawIOBase):
    """A file that writes half of what it is given where it is to fail."""

    def __init__(self, raw: Any, fault: Fault) -> None:
        self.raw, self.fault = raw, fault

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return int(self.raw.fileno())

    def close(self) -> None:
        """Close the descriptor too."""
        self.raw.close()
        super().close()

    def write(self, data: Any, /) -> int:
        """Write, or half of it and an error."""
        try:
            self.fault.turn()
        except BaseException:
            self.raw.write(bytes(data)[: len(data) // 2])
            raise
        return int(self.raw.write(data))


def spoiled(fault: Fault | None, work: Callable[[], int], said: Path) -> tuple[int, bool]:
    """What some work gives in a copy of this process with a fault, and whether it came to it, or to another end."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code % MET if code >= 0 else code, not 0 <= code < MET
    code = 1
    try:
        sys.stdout = sys.stderr = builtins.open(said, "w")  # noqa: SIM115 (until the process ends)
        if fault is not None:
            fault.put()
        code = work()
        sys.stderr.flush()
    finally:
        os._exit(code + MET * (fault is not None and fault.met))
    raise AssertionError


def faults(tally: Tally, what: str, meet: Callable[[Fault], bool], full: bool) -> Iterator[None]:
    """Every fault in turn: pass by pass the k-th use of every call, until it is not come to, with another error."""
    passes = [(i, lasting) for lasting in (False, True) for i in range(len(ERRORS))]
    for turn, (kind, lasting) in enumerate(passes if full else passes[:1]):
        uses: Counter[str] = Counter()
        for call in CALLS:
            number = 1
            # In the first pass the errors take turns, so that even that one meets every call with each of them.
            while meet(Fault(call, number, ERRORS[(kind + number) % len(ERRORS)], lasting)):
                uses[call] = number
                number += 1
                yield
        told = ", ".join(f"{call} {uses[call]}" for call in CALLS if uses[call])
        tally.notes[f"{what}, pass {turn + 1} of {len(passes)}, every one of {told}:"] = sum(uses.values())


def count(tally: Tally, what: str, code: int, said: Path, place: Path) -> None:
    """Put a fault that was met into the tally: done, refused, or neither."""
    tally.inputs += 1
    tally.refused += code in (2, 5)
    if code not in (0, 2, 5):
        tally.fail("traceback", f"{what}: exit code {code}: {said.read_text()}", place)


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Each fault in turn in the cache, then in a fit, which goes on to the optimum of an undisturbed one."""
    import torch

    torch.set_num_threads(1)
    os.environ["PHYSID_CACHE"] = str(folder / "cache")
    tally, ends = Tally(), time.monotonic() + seconds
    for turns in (of_cache(folder, tally, full), of_run(folder, tally, full)):
        for _ in turns:
            if time.monotonic() > ends:
                return tally
    return tally


def of_run(folder: Path, tally: Tally, full: bool) -> Iterator[None]:
    """A fit, the k-th write of which fails; then what is there goes on to the same optimum, or is no run."""
    from physid import Fit
    from physid.cli.app import main
    from physid.formats import Folder
    from physid.runs import writer

    writer.EVERY = writer.SHARE = 0.0
    words, used = ["fit", "exponential", "--noise", "0.05", "--points", "20", "--quiet", "--out"], folder / "modules"

    def whole() -> int:
        code = main([*words, str(folder / "whole")])
        used.write_text("\n".join(name for name in sys.modules if not name.startswith("_")))
        return code

    if spoiled(None, whole, folder / "said")[0] != 0:
        tally.fail("traceback", f"the fit does not run undisturbed: {(folder / 'said').read_text()}")
        return
    for name in used.read_text().split():  # once, and not in every copy
        with suppress(ImportError):
            import_module(name)
    wanted = [f"{one.value:.5g}" for one in Fit.load(folder / "whole").estimates]
    run, said, lost = folder / "run", folder / "said", folder / "lost"

    def goes_on() -> int:
        found = Fit.resume(run)
        values = [f"{one.value:.5g}" for one in found.estimates]
        print(values, "in place of", wanted)
        return 0 if values == wanted and not Folder(run).altered() else 7

    def meet(fault: Fault) -> bool:
        shutil.rmtree(run, ignore_errors=True)
        code, met = spoiled(fault, lambda: main([*words, str(run)]), said)
        if not met:
            return False
        count(tally, f"{fault}", code, said, run)
        if left := [path for path in folder.iterdir() if path.name.startswith(".run")]:
            if fault.call not in ("unlink", "open", "mkdir") and not fault.lasting:
                tally.fail("loss", f"{fault}: left over: {left}", *left)
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
        if run.exists() and (end := spoiled(None, goes_on, lost)[0]) != 0:
            tally.fail("loss", f"{fault}: {code}, then {end}: {lost.read_text()}", run)
        return True

    yield from faults(tally, "run", meet, full)


def of_cache(folder: Path, tally: Tally, full: bool) -> Iterator[None]:
    """A compiler that is quick, and a cache the k-th write of which fails: eager with a reason, then right."""
    from physid.ode.native.compiler import build
    from physid.ode.native.compiler.trace import Unsupported

    compiler, quick, said = shutil.which("gcc") or shutil.which("cc"), folder / "quick", folder / "said"
    if compiler is None:
        tally.notes["cache left out: no C compiler"] += 1
        return
    (folder / "a.c").write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "a.so"), str(folder / "a.c")], check=True)
    quick.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done\n'
        f'[ -z "$out" ] && echo quick || cp {folder / "a.so"} "$out"\n'
    )
    quick.chmod(0o755)
    before, cache = os.environ.get("CC"), folder / "cache"

    def load() -> int:
        try:
            (found,) = build.load(build.Target("answer", lambda: SOURCE))
        except Unsupported as why:
            print(why)
            return 2
        except MemoryError:
            return 5
        return 0 if found.answer() == 42 else 7

    def meet(fault: Fault) -> bool:
        shutil.rmtree(cache, ignore_errors=True)
        code, met = spoiled(fault, load, said)
        if not met:
            return False
        count(tally, f"cache: {fault}", code, said, cache)
        left = [path.name for path in (cache / "native").glob(".*")] if cache.exists() else []
        if left and fault.call != "unlink" and not fault.lasting:
            tally.fail("loss", f"cache: {fault}: left over: {left}", cache)
        if (end := spoiled(None, load, said)[0]) != 0:
            tally.fail("loss", f"cache: {fault}: then {end}: {said.read_text()}", cache)
        return True

    os.environ["CC"] = str(quick)
    try:
        yield from faults(tally, "cache", meet, full)
    finally:
        os.environ.pop("CC") if before is None else os.environ.__setitem__("CC", before)
        shutil.rmtree(cache, ignore_errors=True)
