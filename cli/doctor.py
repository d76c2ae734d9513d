"""`physid doctor`: what this machine offers, each with its state and remedy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

import physid
from physid.cli.console import Console
from physid.cli.options import json_option
from physid.errors import InputError
from physid.machine import compiler_command, private, wished_folder

REQUIRED = ("torch", "numpy", "scipy", "pandas", "click", "rich", "safetensors", "matplotlib", "pyvista")
# package -> extra
OPTIONAL = {
    "imageio-ffmpeg": "viewer",
    "torchdiffeq": "bench",
    "torchode": "bench",
    "diffrax": "bench",
    "pytest": "test",
    "hypothesis": "test",
}


@dataclass(frozen=True)
class Check:
    """One thing looked at: `state` is ok, absent (something optional is not there) or broken."""

    name: str
    state: str
    detail: str
    remedy: str = ""


@click.command(
    epilog="""\b
Examples:
  physid doctor
  physid doctor --json | tail -n 1

Ends with 5 if something that every command needs is broken; what is absent is optional.""",
)
@json_option
def command(json: bool) -> int:
    """Say what this machine offers: Python, torch, devices, compiler, OpenGL, caches, data folders, packages."""
    console = Console(json=json)
    checks = list(all_checks())
    for check in checks:
        console.event("check", **asdict(check))
    rows = [(check.name, check.state, check.detail, check.remedy) for check in checks]
    console.table("", ["what", "state", "found", "remedy"], rows)
    broken = [check.name for check in checks if check.state == "broken"]
    message = f"broken: {', '.join(broken)}" if broken else "everything that is needed is there"
    console.event("done", status="broken" if broken else "ok", message=message)
    return 5 if broken else 0


def all_checks() -> Iterator[Check]:
    """Every check, in the order in which a fresh machine fails them."""
    yield _python()
    yield Check("physid", "ok", f"{physid.__version__} at {Path(physid.__file__).parent}")
    yield from (_package(name) for name in REQUIRED)
    yield from _devices()
    yield _compiler()
    yield _opengl()
    yield _video()
    yield _cache()
    yield _data_folder()
    yield from (_package(name, extra) for name, extra in OPTIONAL.items())


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}"
    return Check("python", "ok", found)


def _package(name: str, extra: str = "") -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        wanted = f"physid[{extra}]" if extra else name
        return Check(name, "absent" if extra else "broken", "not installed", f"pip install '{wanted}'")


def _devices() -> Iterator[Check]:
    try:
        import torch
    except ImportError as error:
        yield Check("device cpu", "broken", f"torch does not import: {error}", "reinstall torch")
        return
    yield Check("device cpu", "ok", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        remedy = "none needed: every command runs on the CPU"
        yield Check("device cuda", "absent", "torch sees no CUDA device", remedy)
    for index in range(torch.cuda.device_count()):
        yield Check(f"device cuda:{index}", "ok", torch.cuda.get_device_name(index))


def _compiler() -> Check:
    """Whether a C compiler builds a shared library."""
    remedy = "install gcc or clang, or set CC; without one everything runs, on the eager engine"
    try:
        compiler = compiler_command()
    except InputError as error:
        return Check("C compiler", "absent", str(error), remedy)
    if compiler is None:
        return Check("C compiler", "absent", f"none of {os.environ.get('CC') or 'cc, gcc, clang'} on the path", remedy)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("double twice(double x) { return 2 * x; }\n")
        build = [*compiler, "-shared", "-fPIC", "-o", str(source.with_suffix(".so")), str(source)]
        try:
            done = subprocess.run(build, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Check("C compiler", "absent", f"{compiler[0]} does not run: {error}", remedy)
    if done.returncode:
        return Check("C compiler", "absent", f"{compiler[0]} builds no library: {done.stderr.strip()[:200]}", remedy)
    return Check("C compiler", "ok", " ".join(compiler))


def _opengl() -> Check:
    """Whether a picture can be rendered off screen: the class of the window and the renderer that are really used."""
    from physid.viewer import gl

    try:
        found = gl.probe()
    except OSError as error:
        return Check("OpenGL", "absent", f"no trial could be made: {error}")
    if not found.works:
        return Check("OpenGL", "absent", found.reason, f"install {gl.PACKAGES}; without it pages are written")
    return Check("OpenGL", "ok", f"{found.window}, {found.renderer}")


def _video() -> Check:
    """Whether movies can be written, and by what."""
    from physid.errors import MissingError
    from physid.viewer.movie import writer_name

    try:
        return Check("video writer", "ok", writer_name())
    except MissingError:
        return Check("video writer", "absent", "imageio-ffmpeg is not there", "pip install 'physid[viewer]'")


def _cache() -> Check:
    try:
        folder, reason = private(wished_folder())
    except InputError as error:
        return Check("cache", "absent", str(error), "set PHYSID_CACHE to a folder of yours")
    if reason:
        return Check("cache", "absent", f"{reason}; {folder} stands in", "set PHYSID_CACHE to a folder of yours alone")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    return Check("cache", "ok", f"{folder} ({size / 1e6:.1f} MB)")


def _data_folder() -> Check:
    text = os.environ.get("PHYSID_DATA", "")
    if not text:
        remedy = "set PHYSID_DATA to a folder of measured data; without it, tables are downloaded when they are needed"
        return Check("measured data", "absent", "PHYSID_DATA is not set", remedy)
    if not Path(text).is_dir():
        return Check("measured data", "absent", f"PHYSID_DATA={text} is not a folder", "set it to one that exists")
    names = sorted(path.name for path in Path(text).iterdir() if path.is_dir())
    return Check("measured data", "ok", f"{text}: {', '.join(names) or 'empty'}")
