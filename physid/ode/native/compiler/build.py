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
from collections.abc import Callable
from contextlib import suppress
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
CORES = os.cpu_count() or 1
PARTS = (1, 2, 3)  # of a unit, compiled side by side: the march; the pullback; the tangents of f
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


def load(mark: str, source: Callable[[], str], extra: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of a source, from this process, the cache, or the compiler; Unsupported when there is none.

    `mark` is all that the source depends on: where the cache has its library, the source is not written.
    """
    try:
        return _load(mark, source, extra)
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise Unsupported(f"the compiled library cannot be kept{where} ({error.strerror or error})") from None
    except InputError as error:
        raise Unsupported(str(error).rstrip(".")) from None


def _load(mark: str, source: Callable[[], str], extra: tuple[str, ...]) -> ctypes.CDLL:
    compiler = compiler_command()
    if compiler is None:
        named = os.environ.get("CC")
        raise Unsupported(
            f"no C compiler ({f'CC={named} is not' if named else 'none of cc, gcc, clang is'} on the path)"
        )
    flags = [*FLAGS.split(), *MACHINE.get(platform.machine(), "-mcpu=native").split(), *extra]
    made_by = version(tuple(compiler), Path(compiler[0]).stat().st_mtime)
    if made_by.startswith("!"):
        raise Unsupported(made_by[1:])
    parts = "\0".join([mark, " ".join(flags), *compiler, made_by, processor()])
    key = hashlib.sha256(parts.encode()).hexdigest()[:40]
    loaded = LOADED.get(key)
    if loaded is not None:
        return loaded
    cabinet = Cabinet(native_folder())
    path = cabinet.find(key) or cabinet.keep(key, _compiled(cabinet.folder, source(), compiler, flags))
    try:
        return LOADED.put(key, ctypes.CDLL(str(path)))
    except OSError as error:
        raise Unsupported(f"the compiled library does not load ({error})") from None


def native_folder() -> Path:
    """Where compiled functions are kept: `native` in the user's cache, or in a private folder in its place."""
    return private(wished_folder() / "native")[0]


def _compiled(folder: Path, source: str, compiler: list[str], flags: list[str]) -> bytes:
    """The bytes of the library of a source, made in a folder of its own inside `folder`."""
    with scratch(folder, ".compile") as work:
        unit, made = work / "unit.c", work / "unit.so"
        unit.write_text(source)
        if CORES == 1:
            _run([[*compiler, *flags, "-shared", "-o", str(made), str(unit), "-lm"]])
        else:
            pieces = {part: f"{work}/part{part}.o" for part in PARTS}
            _run([[*compiler, *flags, "-c", f"-DPART={part}", "-o", p, str(unit)] for part, p in pieces.items()])
            _run([[*compiler, *flags, "-shared", "-o", str(made), *pieces.values(), "-lm"]])
        try:
            return door.inside(work, made.name)
        except FileNotFoundError:
            raise Unsupported(f"the C compiler {compiler[0]} ends well and makes no library") from None


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
