"""C source to a loaded library: the compiler, its flags, and the user's cache of what it has made.

A library lies under its own sha256 in a folder that only the user can write, and is never written again; the hash of
source, flags, compiler and processor names a file beside it that holds that sha256. What is checked is what is loaded:
the owner and mode of the folders down to it, then its bytes, then it is opened by the name that its bytes have.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from physid import door
from physid.errors import InputError
from physid.machine import compiler_command, private, wished_folder
from physid.ode.caching import Cache
from physid.ode.hearing import check, left
from physid.ode.native.compiler.disk_cache import Cabinet
from physid.ode.native.compiler.trace import Unsupported
from physid.store import scratch

# Products and sums are not contracted: a sample is the same to the last bit alone and in the lanes of a batch.
FLAGS = "-std=gnu11 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off -fopenmp-simd -fPIC -pthread -w"
# Lanes of 256 bits: short sums lose more to the rest of a wider lane than they gain by it.
MACHINE = {"x86_64": "-march=native -mprefer-vector-width=256", "AMD64": "-march=native"}
SECONDS = 120.0  # for one unit
ANSWER = 20.0  # and for the compiler's version
HANGS: list[str] = []  # of this process: a compiler that does not come back is asked no third time
LOADED: Cache[str, ctypes.CDLL] = Cache(256)


@cache
def processor() -> str:
    """What the flags for this machine depend on: the architecture and the processor's name and features."""
    lines = []
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    break
                if line.split(":")[0].strip() in ("model name", "flags", "Features", "CPU part", "CPU implementer"):
                    lines.append(line.strip())
    except OSError:
        lines.append(platform.processor())
    return f"{platform.system()} {platform.machine()} {' '.join(lines)}"


@cache
def version(command: tuple[str, ...], changed: float) -> str:
    """The first line of what the compiler says of itself, after "!" where it does not run; `changed`: of its file."""
    try:
        (said,) = _run([[*command, "--version"]], ANSWER)
    except Unsupported as why:
        return f"!{why}"
    return said.partition("\n")[0]


@dataclass(frozen=True)
class Target:
    """A library to be had: `mark` is all that its source depends on, `extra` are flags of its own.

    Where the cache has the library, the source is not written. `runtime` is what it is linked with, compiled once.
    """

    mark: str
    source: Callable[[], str]
    extra: tuple[str, ...] = ()
    runtime: Target | None = None


def load(*targets: Target) -> list[ctypes.CDLL]:
    """The libraries of some targets, from this process, the cache, or compilers that run side by side.

    Errors: Unsupported when there are none.
    """
    with told():
        return _load(targets)


@contextmanager
def told() -> Iterator[None]:
    """What hinders the cache is Unsupported, in one line."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise Unsupported(f"the compiled library cannot be kept{where} ({error.strerror or error})") from None
    except InputError as error:
        raise Unsupported(str(error).rstrip(".")) from None


def opened(key: str, path: Path) -> ctypes.CDLL:
    """The library of a key, loaded from its file in the cache."""
    try:
        return LOADED.put(key, ctypes.CDLL(str(path)))
    except OSError as error:
        raise Unsupported(f"the compiled library does not load ({error})") from None


def _load(targets: Sequence[Target]) -> list[ctypes.CDLL]:
    compiler = Compiler.found()
    wanted = {compiler.key(target): target for target in targets}
    found = {key: LOADED.get(key) for key in wanted}
    missing = {key: wanted[key] for key, library in found.items() if library is None}
    if missing:
        cabinet = Cabinet(native_folder())
        paths = {key: cabinet.find(key) for key in missing}
        paths |= compiler.compiled(cabinet, {key: missing[key] for key, path in paths.items() if path is None})
        found |= {key: opened(key, path) for key, path in paths.items() if path is not None}
    return [library for library in found.values() if library is not None]


@dataclass(frozen=True)
class Compiler:
    """A C compiler: its command, and what it says of itself."""

    command: tuple[str, ...]
    made_by: str

    @staticmethod
    def found() -> Compiler:
        """The user's; Unsupported without one that runs."""
        command = compiler_command()
        if command is None:
            named = os.environ.get("CC")
            raise Unsupported(
                f"no C compiler ({f'CC={named} is not' if named else 'none of cc, gcc, clang is'} on the path)"
            )
        made_by = version(tuple(command), Path(command[0]).stat().st_mtime)
        if made_by.startswith("!"):
            raise Unsupported(made_by[1:])
        return Compiler(tuple(command), made_by)

    def flags(self, target: Target) -> list[str]:
        """All flags of a target."""
        return [*FLAGS.split(), *MACHINE.get(platform.machine(), "-mcpu=native").split(), *target.extra]

    def key(self, target: Target) -> str:
        """The name of a target's library in the cache."""
        parts = "\0".join([target.mark, " ".join(self.flags(target)), *self.command, self.made_by, processor()])
        return hashlib.sha256(parts.encode()).hexdigest()[:40]

    def compiled(self, cabinet: Cabinet, targets: Mapping[str, Target]) -> dict[str, Path]:
        """The libraries of targets by their keys, made in a folder of its own and kept."""
        if not targets:
            return {}
        with scratch(cabinet.folder, ".compile") as work:
            objects, first, last = dict[str, Path](), list[list[str]](), list[list[str]]()
            for key, target in targets.items():
                (work / f"{key}.c").write_text(target.source())
                unit, library, runtime = f"{work}/{key}.c", f"{work}/{key}.so", target.runtime
                start, end = [*self.command, *self.flags(target)], ["-lm"]
                if runtime is not None:
                    own = self.key(runtime)
                    if own not in objects and (there := cabinet.find(own, ".o")):
                        objects[own] = there
                    elif own not in objects:
                        objects[own] = work / f"{own}.o"
                        (work / f"{own}.c").write_text(runtime.source())
                        first.append(
                            [*self.command, *self.flags(runtime), "-c", "-o", f"{objects[own]}", f"{work}/{own}.c"]
                        )
                    end = [str(objects[own]), "-lm"]
                    if objects[own].parent == work:
                        first.append([*start, "-c", "-o", f"{work}/{key}.o", unit])
                        last.append([*start, "-shared", "-o", library, f"{work}/{key}.o", *end])
                        continue
                first.append([*start, "-shared", "-o", library, unit, *end])
            _run(first)
            if last:
                _run(last)
            for own, path in objects.items():
                if path.parent == work:
                    cabinet.keep(own, self._bytes(work, path.name), ".o")
            return {key: cabinet.keep(key, self._bytes(work, f"{key}.so")) for key in targets}

    def _bytes(self, work: Path, name: str) -> bytes:
        try:
            return door.inside(work, name)
        except FileNotFoundError:
            raise Unsupported(f"the C compiler {self.command[0]} ends well and makes no library") from None


def native_folder() -> Path:
    """Where compiled functions are kept: `native` in the user's cache, or in a private folder in its place."""
    return private(wished_folder() / "native")[0]


def _run(commands: list[list[str]], seconds: float = 0.0) -> list[str]:
    """What compilers that run side by side print; Unsupported with the first error, or when one takes too long.

    Each runs in a session of its own, so that what it has started ends with it.
    """
    limit = (seconds or SECONDS) * door.factor()
    if len(HANGS) > 1:
        raise Unsupported(f"the C compiler took more than {limit:.0f} s, twice")
    running: list[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]] = []
    complained: IO[bytes]
    try:
        for command in commands:
            said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
            complained = tempfile.TemporaryFile()  # noqa: SIM115
            how = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": complained, "start_new_session": True}
            running.append((subprocess.Popen(command, **how), said, complained))  # type: ignore[call-overload]
        rest = left()
        ends = time.monotonic() + (limit if rest is None else min(limit, rest))
        for process, _, complained in running:
            process.wait(max(0.0, ends - time.monotonic()))
            if process.returncode:
                errors = _said(complained)
                first = next((line for line in errors.splitlines() if "error" in line), errors[:200])
                why = first.strip() or f"it ends with {process.returncode} and says nothing"
                raise Unsupported(f"the C compiler failed: {why}")
        return [_said(said) for _, said, _ in running]
    except subprocess.TimeoutExpired:
        check()
        HANGS.append(commands[0][0])
        raise Unsupported(f"the C compiler took more than {limit:.0f} s") from None
    except OSError as error:
        raise Unsupported(f"the C compiler {commands[0][0]} does not run ({error.strerror})") from None
    finally:
        for process, *files in running:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for file in files:
                file.close()


def _said(file: IO[bytes]) -> str:
    """The beginning of what a compiler printed."""
    file.seek(0)
    return file.read(1 << 16).decode(errors="replace")
