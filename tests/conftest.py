"""What every test shares: one thread, a fixed seed for hypothesis, and the marks that depend on the machine."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import warm
from hypothesis import settings

from physid.machine import compiler_command

if TYPE_CHECKING:
    from physid.viewer.gl import Probe

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under cron, or in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("physid", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("physid")

MISSING = {
    "data": "PHYSID_DATA names no folder of measured data",
    "peer": "torchdiffeq is not installed",
    "cuda": "torch sees no CUDA device",
}


def _is_there(mark: str) -> bool:
    """Whether this machine has what the tests with `mark` need."""
    if mark == "data":
        return bool(os.environ.get("PHYSID_DATA")) and Path(os.environ["PHYSID_DATA"]).is_dir()
    if mark == "peer":
        return importlib.util.find_spec("torchdiffeq") is not None
    import torch

    return torch.cuda.is_available()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--optimised", action="store_true", help="compile kernels with the flags of the product in all tests"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, the tests whose needs this machine does not meet."""
    absent = {mark: pytest.mark.skip(reason=reason) for mark, reason in MISSING.items() if not _is_there(mark)}
    for item in items:
        for mark, skip in absent.items():
            if item.get_closest_marker(mark):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Spare the collector what is there for good: torch, the packages, the tests themselves."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test: its C compiler, with the flags of the product where a mark asks for them."""
    mark = item.get_closest_marker("optimised")
    thorough = item.get_closest_marker("slow") or (mark and mark.args != (False,))
    command = COMPILER if thorough or item.config.getoption("--optimised") else HASTY
    os.environ.pop("CC", None)
    if command:
        os.environ["CC"] = command


def _hasty() -> str:
    """The compiler as $CC has it, told last not to optimise: a kernel of a test is compiled longer than it runs."""
    found = compiler_command()
    return shlex.join(["sh", "-c", f'exec {shlex.join(found)} "$@" -O0', "cc"]) if found else COMPILER


COMPILER, HASTY = os.environ.get("CC", ""), _hasty()


def _common(factory: pytest.TempPathFactory) -> Path:
    """The folder that the workers of a run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of the run in place of the user's; what one worker compiles serves all."""
    import simulated
    import torch

    torch.set_num_threads(1)
    os.environ["XDG_CACHE_HOME"] = str(_common(tmp_path_factory) / "cache")
    simulated.remember(_common(tmp_path_factory) / "simulated")


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's folders and debugging switch."""
    for name in ("PHYSID_DEBUG", "PHYSID_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where the process that forks starts of Python listens, if this system can."""
    if not warm.POSSIBLE:
        return None
    watched = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    return warm.shared(_common(tmp_path_factory), watched)


@pytest.fixture(scope="session")
def python(warmed: Path | None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program to call as Python; it forks a warm process where this system can."""
    folder = tmp_path_factory.mktemp("programs") / "bin"
    warm.programs(folder, warmed)
    return str(folder / "python")


@pytest.fixture(scope="module")
def forked_reader(python: str) -> Iterator[None]:
    """The process that reads a MAT file is forked, where this system can: otherwise it imports SciPy for every file."""
    from physid.reading import binary

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary, "sys", SimpleNamespace(executable=python, path=sys.path))
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of measured data named by PHYSID_DATA; for tests marked `data`."""
    return Path(os.environ["PHYSID_DATA"])


@pytest.fixture(scope="session")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """Whether this machine can make pictures, tried once in a run but for workers that begin with it together."""
    from physid.viewer import gl

    told = _common(tmp_path_factory) / "opengl.json"
    if not told.exists():
        new = told.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(asdict(gl.probe())))
        new.replace(told)
    return gl.Probe(**json.loads(told.read_text()))


@pytest.fixture(scope="session")
def opengl(probed: Probe) -> str:
    """The renderer, on a machine that can make pictures; the test is skipped on one that cannot."""
    from physid.errors import MissingError
    from physid.viewer import gl

    try:
        return gl.require(found=probed).renderer
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def tried(probed: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tries whether this machine can make pictures is told what was found when a test of this run tried."""
    monkeypatch.setattr("physid.viewer.gl.probe", lambda window=False: probed)
