"""`physid fit`, and what is done with its run: report, forecast; good input, bad input, and Ctrl-C in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from physid.cli.app import main

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]

DONE = [
    "event", "status", "verdict", "message", "run", "experiment", "knowledge", "model", "gradient", "solver", "engine",
    "engine_note", "optimizer", "unknowns", "scores", "trivial", "residuals", "evaluations",
    "seconds",
]  # fmt: skip
ESTIMATE = ["value", "stderr", "plain", "robust", "low", "high", "undetermined", "unit", "start", "truth"]

DRAG = '''
from physid import Unknown, between
from physid.models import NewtonGravity

class DragGravity(NewtonGravity):
    """Gravity less a drag in proportion to the velocity."""
    drag = Unknown(0.1, between(-1.0, 1.0), unit="1/yr")
    def acceleration(self, t, r, v):
        return super().acceleration(t, r, v) - self.drag * v
'''


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a small fit."""
    folder = tmp_path_factory.mktemp("runs") / "lynx"
    assert main(["fit", "lotka-volterra", "--noise", "0.5", "--out", str(folder), "--quiet"]) == 0
    return folder


def test_fit_prints_json_lines_of_which_the_last_is_done(desk: Path, capsys: Captured) -> None:
    assert main(["fit", "exponential", "--json", "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    *progress, done = events(out)
    assert {event["event"] for event in progress} <= {"progress"}
    assert list(done) == DONE
    assert (done["status"], done["run"], done["knowledge"], done["optimizer"]) == ("converged", "run", "full", "lm")
    assert list(done["unknowns"]["k"]) == ESTIMATE
    assert abs(done["unknowns"]["k"]["value"] + 0.5) < 1e-8
    assert set(done["scores"]) == {"train", "test", "forecast"}
    assert set(done["scores"]["test"]) == {"mse", "rmse"}


def test_fit_prints_its_report_and_makes_a_run_directory_of_its_own(desk: Path, capsys: Captured) -> None:
    assert main(["fit", "exponential"]) == 0
    out, err = capsys.readouterr()
    (folder,) = (desk / "runs").iterdir()
    assert folder.name.startswith("exponential-")
    assert f"run directory: runs/{folder.name}" in err
    assert "k " in out


def test_quiet_prints_the_report_alone(desk: Path, capsys: Captured) -> None:
    assert main(["fit", "exponential", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_report_says_again_what_the_fit_said(run: Path, capsys: Captured) -> None:
    assert main(["report", str(run)]) == 0
    assert "alpha" in capsys.readouterr().out
    assert main(["report", str(run), "--json"]) == 0
    (done,) = events(capsys.readouterr().out)
    assert list(done) == DONE
    assert done["unknowns"]["alpha"]["truth"] == 0.55


def test_forecast_goes_beyond_the_data(run: Path, desk: Path, capsys: Captured) -> None:
    assert main(["forecast", str(run), "--until", "50", "--points", "11"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert main(["forecast", str(run), "--until", "50", "--points", "11", "--out", "a.csv", "--json"]) == 0
    (done,) = events(capsys.readouterr().out)
    frame = pd.read_csv("a.csv")
    assert (done["rows"], len(frame), done["until"]) == (11, 11, 50.0)
    np.testing.assert_allclose(frame.iloc[:, 0], np.linspace(0, 50, 11))


def test_a_model_of_the_users_own_by_file(desk: Path, capsys: Captured) -> None:
    (desk / "drag.py").write_text(DRAG)
    assert main(["fit", "threebody", "--points", "30", "--model", "drag.py:DragGravity", "--json", "--out", "run"]) == 0
    done = events(capsys.readouterr().out)[-1]
    assert (done["knowledge"], list(done["unknowns"])) == (None, ["mass[0]", "mass[1]", "mass[2]", "drag"])
    assert "DragGravity" in done["model"]
    assert abs(done["unknowns"]["drag"]["value"]) < 1e-6
    assert abs(done["unknowns"]["mass[0]"]["value"] - 1.1) < 1e-6
    assert main(["forecast", "run"]) == 2  # the code of a run is not executed unasked
    assert "--trust" in capsys.readouterr().err
    assert main(["report", "run", "--json"]) == 2
    assert main(["report", "run", "--trust"]) == 0
    trusted = capsys.readouterr().out
    (desk / "drag.py").write_text("raise SystemExit('this was executed')")
    assert main(["report", "run"]) == 0  # as the fit wrote it
    assert capsys.readouterr().out == trusted
    report = desk / "run" / "report.txt"
    report.write_text(report.read_text().replace("drag", "lift"))
    assert main(["report", "run"]) == 2


def test_dry_run_says_how_and_leaves_nothing(desk: Path, capsys: Captured) -> None:
    assert main(["fit", "threebody", "--dry-run", "--protocol", "paper-text"]) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in ("NewtonGravity", "adam", "dopri5", "1e-05", "mass"))
    assert main(["fit", "threebody", "--dry-run", "--json", "--rtol", "1e-9"]) == 0
    (done,) = events(capsys.readouterr().out)
    assert (done["status"], done["rtol"], done["atol"], done["solver"]) == ("dry run", 1e-9, None, "dopri8")
    assert list(desk.iterdir()) == []


def test_a_fit_that_does_not_converge_ends_with_3_and_leaves_a_run(desk: Path, capsys: Captured) -> None:
    arguments = ["fit", "vanderpol", "--optimizer", "lbfgs", "--epochs", "1", "--out", "run", "--json"]
    assert main(arguments) == 3
    assert events(capsys.readouterr().out)[-1]["status"] == "not converged"
    assert main(["report", "run"]) == 0


def test_a_protocol_of_the_paper_says_whether_the_truth_was_recovered(desk: Path, capsys: Captured) -> None:
    arguments = ["fit", "threebody", "--points", "20", "--protocol", "paper-text", "--epochs", "2", "--json"]
    assert main(arguments) == 0
    *_, paper, done = events(capsys.readouterr().out)
    assert paper["event"] == "paper"
    assert paper["published_mse"] == 0.0007
    assert list(done) == [*DONE, "recovered"]
    assert done["recovered"] is False


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["threbody"], "unknown experiment 'threbody'. Did you mean 'threebody'?"),
        (["exponential", "--solver", "dopri6"], "unknown solver 'dopri6'. Did you mean 'dopri8'?"),
        (["exponential", "--gradient", "acca"], "unknown gradient method 'acca'. Did you mean 'aca'?"),
        (["exponential", "--optimizer", "adm"], "unknown optimizer 'adm'. Did you mean 'adam'?"),
        (["exponential", "--strategy", "ful"], "unknown strategy 'ful'. Did you mean 'full'?"),
        (["exponential", "--protocol", "paper"], "unknown protocol 'paper'. Did you mean 'paper-"),
        (["exponential", "--knowledge", "fall"], "unknown knowledge for exponential 'fall'. Did you mean 'full'?"),
        (["exponential", "--model", "expo"], "unknown model 'expo'."),
        (["exponential", "--modle", "x"], "--model"),
        (["exponential", "--device", "gpu"], "unknown device 'gpu'. Allowed: cpu, cuda"),
        (["exponential", "--dtype", "float16"], "unknown dtype 'float16'. Did you mean 'float"),
        (["exponential", "--rtol", "-1"], "--rtol: expected a number from 0 up, got '-1'"),
        (["exponential", "--epochs", "0"], "--epochs: expected a whole number from 1"),
        (["exponential", "--time-limit", "-3"], "--time-limit: expected a positive number, got '-3'"),
        (["exponential", "--gradient", "aca"], "optimizer lm was given gradient aca"),
        (["exponential", "--epochs", "5"], "epochs=5 was given with optimizer lm"),
        (["exponential", "--knowledge", "full", "--model", "exponential"], "contradict each other"),
        (["exponential", "--model", "vanderpol"], "VanDerPol has states of shape [2]"),
        (["exponential", "--out", "/proc/version/run"], "is not a folder"),
        (["exponential", "--model", "none.py:A"], "none.py does not exist"),
        (["exponential", "--model", "broken.py:A"], "broken.py does not import: line 1"),
        (["exponential", "--model", "shapes.py:Wrong"], "shape"),
        (["none.py:f", "--model", "shapes.py:Wrong"], "none.py does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], part: str, desk: Path, capsys: Captured
) -> None:
    (desk / "broken.py").write_text("import nothing_of_that_name\n")
    (desk / "shapes.py").write_text(
        "from physid import Model, Unknown\n"
        "class Wrong(Model):\n    state_names = ('z',)\n    k = Unknown(1.0)\n"
        "    def field(self, t, y): return (self.k * y).sum()\n"
    )
    assert main(["fit", *arguments]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("physid: error: ")
    assert part in line
    assert out == ""
    assert {path.name for path in desk.iterdir()} == {"broken.py", "shapes.py"}


def test_a_model_that_gives_no_number_diverges_and_says_where(desk: Path, capsys: Captured) -> None:
    (desk / "nan.py").write_text(
        "from physid import Model, Unknown\n"
        "class Nan(Model):\n    state_names = ('z',)\n    k = Unknown(1.0)\n"
        "    def field(self, t, y): return self.k * y * float('nan')\n"
    )
    assert main(["fit", "exponential", "--model", "nan.py:Nan"]) == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("physid: ")]
    assert line.startswith("physid: error: The solve fails at the starting values: f returned not-a-number")


@pytest.mark.parametrize("command", ["report", "forecast"])
def test_a_folder_that_is_no_run_is_refused(command: str, desk: Path, capsys: Captured) -> None:
    (desk / "empty").mkdir()
    for folder in ("empty", "nothing"):
        assert main([command, folder]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("physid: error: ")
        assert folder in line


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--until", "-1"], "but the data start at 0"),
        (["--points", "1"], "1 is not in the range x>=2"),
        (["--out", "a.npz"], "does not end in .csv"),
        (["--json"], "--json needs --out FILE"),
    ],
)
def test_forecast_refuses(arguments: list[str], part: str, run: Path, desk: Path, capsys: Captured) -> None:
    assert main(["forecast", str(run), *arguments]) == 2
    assert part in capsys.readouterr().err
    assert list(desk.iterdir()) == []


def test_an_existing_run_is_not_overwritten(run: Path, capsys: Captured) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
    assert main(["fit", "exponential", "--out", str(run)]) == 2
    assert "exists and is not empty. Choose another folder or remove it" in capsys.readouterr().err
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir()) == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_an_interrupted_fit_leaves_a_usable_run(
    number: signal.Signals, code: int, desk: Path, capsys: Captured, python: str
) -> None:
    arguments = ["fit", "threebody", "--points", "50", "--protocol", "paper-code", "--json", "--out", "run"]
    process = subprocess.Popen(
        [python, "-m", "physid", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "progress"
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert events(out)[-1]["status"] == "interrupted"
    assert main(["report", "run", "--json"]) == 0
    assert events(capsys.readouterr().out)[-1]["status"] == "interrupted"
    assert [path.name for path in desk.iterdir()] == ["run"]
