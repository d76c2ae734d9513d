"""What every test shares: one thread, a fixed seed for hypothesis, and the marks that depend on the machine."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
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
    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, the tests whose needs this machine does not meet."""
    absent = {mark: pytest.mark.skip(reason=reason) for mark, reason in MISSING.items() if not _is_there(mark)}
    for item in items:
        for mark, skip in absent.items():
            if item.get_closest_marker(mark):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests away from the user's cache and debugging switch."""
    for name in ("PHYSID_DEBUG", "PHYSID_CACHE"):
        monkeypatch.delenv(name, raising=False)
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # what one worker compiles serves all
    monkeypatch.setenv("XDG_CACHE_HOME", str(base / "cache"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of measured data named by PHYSID_DATA; for tests marked `data`."""
    return Path(os.environ["PHYSID_DATA"])


@pytest.fixture(scope="session")
def opengl() -> str:
    """The renderer, on a machine that can make pictures; the test is skipped on one that cannot."""
    from physid.errors import MissingError
    from physid.viewer import gl

    try:
        return gl.require().renderer
    except MissingError as error:
        pytest.skip(str(error))
