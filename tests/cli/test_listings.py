"""Listings that `physid list` remembers: as they were read, and only as long as nothing has changed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from physid.cli import remembered
from physid.cli.app import main
from physid.cli.list import DEFAULT


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a first `physid list --json` prints; then as in a process that has imported nothing."""
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "later")])
    assert main(["list", "--json"]) == 0
    monkeypatch.delitem(sys.modules, "torch")
    return capsys.readouterr().out


def test_a_second_one_reads_no_catalogue(
    kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*DEFAULT, "described"):
        monkeypatch.setattr(f"physid.cli.list.{name}", pytest.fail, raising=False)
    assert main(["list", "--json"]) == 0
    assert capsys.readouterr().out == kept
    assert main(["list", "solvers"]) == 0
    assert "dopri5" in capsys.readouterr().out


def test_a_process_that_may_have_parts_of_its_own_reads_them(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert remembered.remembered(DEFAULT) is not None
    monkeypatch.setitem(sys.modules, "torch", object())
    assert remembered.remembered(DEFAULT) is None


def test_what_was_not_read_is_not_known(kept: str) -> None:
    assert remembered.remembered(["models"]) is not None
    assert remembered.remembered(["options"]) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"of": 1', "null", '{"of": [], "state": 3, "listings": {}}'])
def test_a_damaged_file_is_as_none(kept: str, tmp_path: Path, text: str) -> None:
    (tmp_path / remembered.FILE).write_text(text)
    assert remembered.remembered(DEFAULT) is None


def test_a_changed_module_is_read_again(kept: str, tmp_path: Path) -> None:
    path = tmp_path / remembered.FILE
    about = json.loads(path.read_text())
    models = [name for name in about["state"] if name.endswith("models/gravity.py")]
    assert len(models) == 1
    about["state"][models[0]][0] -= 1
    path.write_text(json.dumps(about))
    assert remembered.remembered(DEFAULT) is None


def test_what_is_installed_since_is_seen(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = next(Path(path) for path in sys.path if path.endswith("-packages"))
    real = os.stat(folder)
    state = remembered._state

    def later(path: str) -> list[int] | None:
        return [real.st_mtime_ns + 1, real.st_size] if path == str(folder) else state(path)

    monkeypatch.setattr(remembered, "_state", later)
    assert remembered.remembered(DEFAULT) is None
