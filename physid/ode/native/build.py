"""C source to a loaded library: the compiler, its flags, and the user's cache of what it has made.

A compiled file is kept under the hash of source, flags, compiler and processor, with its own sha256 beside it: it is
written whole under another name and moved in place, so that processes may compile the same thing at once, and a damaged
file is made anew rather than loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from physid.machine import cache_folder, find_compiler
from physid.ode.native.trace import Unsupported

# Products and sums are not contracted: a sample is the same to the last bit alone and in the lanes of a batch.
FLAGS = "-std=gnu11 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off -fopenmp-simd -fPIC -pthread -w"
# Lanes of 256 bits: short sums lose more to the rest of a wider lane than they gain by it.
MACHINE = {"x86_64": "-march=native -mprefer-vector-width=256", "AMD64": "-march=native"}
SECONDS = 120.0
CORES = os.cpu_count() or 1
PARTS = (1, 2, 3)  # of a unit, compiled side by side: the march; the pullback; the tangents of f
LOADED: dict[str, ctypes.CDLL] = {}


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
def version(compiler: str, changed: float) -> str:
    """The first line of what the compiler says of itself; `changed` is the time of its file."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unsupported(f"the C compiler {compiler} does not run ({error})") from None
    return done.stdout.partition("\n")[0]


def load(mark: str, source: Callable[[], str], extra: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of a source, from this process, the cache, or the compiler; Unsupported when there is none.

    `mark` is all that the source depends on: where the cache has its library, the source is not written.
    """
    compiler = find_compiler()
    if compiler is None:
        named = os.environ.get("CC")
        raise Unsupported(
            f"no C compiler ({f'CC={named} is not' if named else 'none of cc, gcc, clang is'} on the path)"
        )
    flags = [*FLAGS.split(), *MACHINE.get(platform.machine(), "-mcpu=native").split(), *extra]
    made_by = version(compiler, Path(compiler).stat().st_mtime)
    parts = "\0".join([mark, " ".join(flags), compiler, made_by, processor()])
    key = hashlib.sha256(parts.encode()).hexdigest()
    if key not in LOADED:
        LOADED[key] = _opened(key, source, compiler, flags)
    return LOADED[key]


def native_folder() -> Path:
    """Where compiled functions are kept: `native` in the user's cache, or the temporary folder if that is read-only."""
    folder = cache_folder() / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(_own_folder())


@cache
def _own_folder() -> str:
    """A folder of this process, for when the cache cannot be written."""
    return tempfile.mkdtemp(prefix="physid-native-")


def _opened(key: str, source: Callable[[], str], compiler: str, flags: list[str]) -> ctypes.CDLL:
    path = native_folder() / f"{key[:40]}.so"
    if not _sound(path):
        _compile(path, source(), compiler, flags)
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        _compile(path, source(), compiler, flags)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise Unsupported(f"the compiled library does not load ({error})") from None


def _sound(path: Path) -> bool:
    """Whether the file is there and what was written."""
    try:
        return path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return False


def _compile(path: Path, source: str, compiler: str, flags: list[str]) -> None:
    """Compile into the cache: a temporary folder beside the place, then two moves, the sum before the library."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compile-") as folder:
        unit, made = Path(folder) / "unit.c", Path(folder) / "unit.so"
        unit.write_text(source)
        if CORES == 1:
            _run([[compiler, *flags, "-shared", "-o", str(made), str(unit), "-lm"]])
        else:
            pieces = {part: f"{folder}/part{part}.o" for part in PARTS}
            _run([[compiler, *flags, "-c", f"-DPART={part}", "-o", piece, str(unit)] for part, piece in pieces.items()])
            _run([[compiler, *flags, "-shared", "-o", str(made), *pieces.values(), "-lm"]])
        sum_file = Path(folder) / "unit.sha256"
        sum_file.write_text(hashlib.sha256(made.read_bytes()).hexdigest())
        sum_file.replace(path.with_suffix(".sha256"))
        made.replace(path)


def _run(commands: list[list[str]]) -> None:
    """Run compilers side by side; Unsupported with the first error."""
    running: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        for one in running:
            _, errors = one.communicate(timeout=SECONDS)
            if one.returncode:
                first = next((line for line in errors.splitlines() if "error" in line), errors[:200])
                raise Unsupported(f"the C compiler failed: {first.strip()}")
    except subprocess.TimeoutExpired:
        raise Unsupported(f"the C compiler took more than {SECONDS:.0f} s") from None
    except OSError as error:
        raise Unsupported(f"the C compiler {commands[0][0]} does not run ({error})") from None
    finally:
        for one in running:
            if one.poll() is None:
                one.kill()
            if one.stderr:
                one.stderr.close()
            one.wait()
