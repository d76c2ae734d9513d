"""`init`: what it writes fits at once, and nothing that is there is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from physid.cli import main
from physid.cli.fit import command as fit_command
from physid.cli.init import SOURCES
from physid.settings import KEYS

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "source",
    [one if one in ("exponential", "pendulum") else pytest.param(one, marks=pytest.mark.slow) for one in SOURCES],
)
def test_what_it_writes_passes_the_check_and_fits(source: str, capsys: Captured) -> None:
    assert main(["init", "my-own", "--from", source]) == 0
    out = capsys.readouterr().out
    assert "physid fit --data my-own.csv --model my-own.py:MyOwn" in out
    assert main(["check", "my-own.py:MyOwn", "--data", "my-own.csv"]) == 0
    capsys.readouterr()
    arguments = ["fit", "--data", "my-own.csv", "--model", "my-own.py:MyOwn", "--out", "run", "--json"]
    assert main(arguments) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["status"] == "converged"
    assert main(["forecast", "run", "--trust", "--points", "3"]) == 0


def test_settings_are_options_of_fit(capsys: Captured) -> None:
    assert main(["init", "swing"]) == 0
    options = {option.removeprefix("--") for parameter in fit_command.params for option in parameter.opts}
    lines = [line.partition("#")[0].partition(":") for line in Path("swing.yaml").read_text().splitlines()]
    settings = {key.strip(): value.strip() for key, sign, value in lines if sign}
    assert set(settings) <= options
    assert set(settings) <= set(KEYS)
    assert settings["data"] == "swing.csv"
    assert settings["model"] == "swing.py:Swing"
    assert main(["fit", "--settings", "swing.yaml", "--out", "run", "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["status"] == "converged"
    assert set(done["unknowns"]) >= {"length", "friction"}
    assert main(["fit", "pendulum", "--model", "pendulum", "--settings", "swing.yaml", "--dry-run"]) == 0


@pytest.mark.parametrize("there", ["swing.py", "swing.yaml", "swing.csv"])
def test_nothing_is_overwritten(there: str, desk: Path, capsys: Captured) -> None:
    Path(there).write_text("mine")
    assert main(["init", "swing"]) == 2
    assert f"{there} is there already" in capsys.readouterr().err
    assert [path.name for path in desk.iterdir()] == [there]
    assert Path(there).read_text() == "mine"


@pytest.mark.parametrize("name", ["../swing", "1swing", "a b", ""])
def test_names_that_cannot_be(name: str, desk: Path, capsys: Captured) -> None:
    assert main(["init", name]) == 2
    assert "letters, digits" in capsys.readouterr().err
    assert list(desk.iterdir()) == []
