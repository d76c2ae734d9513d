"""`physid export`: every format of a fit and of a training, names that are none, files whole or not there."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from physid import fit, load
from physid.api.export import EXPORTERS
from physid.api.fit import Fit
from physid.api.train import train
from physid.cli.app import main
from physid.models import NETWORKS, build, network
from physid.training import Recipe

Captured = pytest.CaptureFixture[str]
BEGINS = {"html": b"<!doctype html>", "png": b"\x89PNG", "svg": b"<?xml", "latex": b"\\begin{tabular}"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    data = load("exponential", noise=0.01)
    fit(build(data), data).profile()[0].save(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "net"
    torch.manual_seed(0)
    data: Any = NETWORKS["lstm"].collect(load("threebody", points=30))  # type: ignore[misc]
    train(network("lstm", data, hidden=3), data, Recipe(epochs=1, batch=1, lr=0.01), out=folder)
    return folder


@pytest.mark.parametrize("name", list(EXPORTERS))
def test_every_format_of_a_fit(run: Path, tmp_path: Path, capsys: Captured, name: str) -> None:
    out = tmp_path / f"out{EXPORTERS[name].suffix}"
    assert main(["export", str(run), "--to", name, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: {name} of {run}\n"
    data = out.read_bytes()
    assert data.startswith(BEGINS.get(name, b""))
    assert len(data) > 100
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_tables_hold_the_numbers_of_the_fit(run: Path, capsys: Captured) -> None:
    found = Fit.load(run)
    tables = {}
    for name in ("csv", "forecast", "history"):
        assert main(["export", str(run), "--to", name]) == 0
        tables[name] = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert tables["csv"]["value"].tolist() == [one.value for one in found.estimates]
    assert tables["csv"]["stderr"].tolist() == [one.stderr for one in found.estimates]
    ahead = found.predict(found.times())
    assert (tables["forecast"].to_numpy() == ahead.rows()).all()
    assert len(tables["history"]) == len(found.history)
    assert main(["export", str(run), "--to", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.report().json()))
    assert main(["export", str(run), "--to", "text"]) == 0
    assert capsys.readouterr().out == f"{found.report()}\n"


def test_what_a_training_has_of_them(trained: Path, capsys: Captured) -> None:
    for name in ("forecast", "history", "json", "text", "svg"):
        assert main(["export", str(trained), "--to", name]) == 0
        assert len(capsys.readouterr().out) > 50
    for name in ("estimates", "html", "latex", "profiles"):
        assert main(["export", str(trained), "--to", name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is a training" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "latx"], "unknown format 'latx'. Did you mean 'latex'? Allowed: "),
        (["--to", "html", "--out", "page.txt"], "--out page.txt does not end in .html. Name the file so."),
        (["--to", "html", "--json"], "--json needs --out FILE"),
        ([], "Missing option '--to'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: Captured) -> None:
    assert main(["export", str(tmp_path), "--to", "text"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line


def test_json_says_what_was_written(run: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "deep" / "out.tex"
    assert main(["export", str(run), "--to", "tex", "--out", str(out), "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["event"], done["bytes"], done["out"]) == ("done", out.stat().st_size, str(out))
