"""`physid simulate RUN`: a fitted model with other inputs, initial states and unknowns, against the exact solution."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from physid import Experiment, Inputs, fit, load
from physid.api.fit import Fit
from physid.cli.app import main
from physid.data.experiment import Trajectory
from physid.data.holdout import read, split
from physid.errors import InputError
from physid.modelling.address import load_model_file
from physid.predict.simulation import simulate_fit

Captured = pytest.CaptureFixture[str]
K, START, FORCE = 1.3, 2.0, 0.5
MODEL = '''"""A tank."""
import torch
from physid import Model, Unknown, positive


class Tank(Model):
    """dx/dt = -k x + u."""

    state_names = ("x",)
    input_names = ("u",)
    units = {"u": "m/s"}
    k = Unknown(1.0, positive)

    def field(self, t, y):
        """The equation."""
        (u,) = self.inputs(t)
        return -self.k * y + u[..., None]
'''


def level(t: Any, u: float = FORCE, start: float = START, k: float = K) -> Any:
    """The level of the tank at the times t under the constant input u."""
    return u / k + (start - u / k) * np.exp(-k * np.asarray(t))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "tank.py").write_text(MODEL)
    t = np.linspace(0.0, 2.0, 41)
    parts = [Trajectory(torch.from_numpy(x), torch.from_numpy(level(x)[:, None])) for x in (t[:21], t[21:])]
    inputs = Inputs.through([0.0], [[FORCE]], ("u",))
    data = Experiment("tank", parts[0], torch.tensor([START]), parts[1], channels=("x",), unit="m", inputs=inputs)
    fit(load_model_file(folder / "tank.py", "Tank")(), data, out=folder / "run")
    return folder


@pytest.fixture(autouse=True)
def _there(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)


def simulated(capsys: Captured, *arguments: str) -> pd.DataFrame:
    assert main(["simulate", "run", "--trust", *arguments]) == 0
    return pd.read_csv(io.StringIO(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("sets", "changed"),
    [
        ([], {}),
        (["u=-1"], {"u": -1.0}),
        (["x=0.5"], {"start": 0.5}),
        (["initial[0]=0.5", "u=2"], {"start": 0.5, "u": 2.0}),
        (["k=2.5"], {"k": 2.5}),
    ],
)
def test_values_by_name_change_the_trajectory(sets: list[str], changed: dict[str, float], capsys: Captured) -> None:
    table = simulated(capsys, "--until", "5", "--points", "11", *(part for one in sets for part in ("--set", one)))
    assert list(table.columns) == ["t", "x [m]"]
    np.testing.assert_allclose(table["t"], np.linspace(0, 5, 11))
    np.testing.assert_allclose(table["x [m]"], level(table["t"], **changed), rtol=1e-4)


def test_the_times_are_those_of_the_part(capsys: Captured) -> None:
    for part, times in (("train", np.linspace(0, 1, 21)), ("test", np.linspace(1.05, 2, 20))):
        table = simulated(capsys, "--part", part)
        np.testing.assert_allclose(table["t"], times)
        np.testing.assert_allclose(table["x [m]"], level(times), rtol=1e-5)


def test_an_input_comes_from_a_file(desk: Path, capsys: Captured) -> None:
    (desk / "step.csv").write_text("t,u [mm/s]\n0,1000\n1,-2000\n3,-2000\n")
    table = simulated(capsys, "--until", "2", "--points", "21", "--set", "u=step.csv", "--initial", "x=1")
    t = table["t"].to_numpy()
    then = level(1.0, 1.0, 1.0)
    want = np.where(t <= 1, level(t, 1.0, 1.0), level(t - 1, -2.0, then))
    np.testing.assert_allclose(table["x [m]"], want, rtol=1e-4, atol=1e-6)  # in the unit of the model


def test_noise_is_added(capsys: Captured) -> None:
    clean = simulated(capsys, "--until", "2", "--points", "4001")
    noisy = simulated(capsys, "--until", "2", "--points", "4001", "--add-noise", "0.1", "--seed", "3")
    again = simulated(capsys, "--until", "2", "--points", "4001", "--noise", "0.1", "--seed", "3")
    off = (noisy - clean)["x [m]"]
    assert (noisy == again).all().all()
    assert abs(off.mean()) < 0.01
    assert off.std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "y=1"], "unknown input, state or unknown of Tank 'y'"),
        (["--set", "k=-1"], "outside its domain"),
        (["--set", "x=much"], "--set x=much: expected a number, got 'much'"),
        (["--set", "u=none.csv"], "--set u=none.csv: expected a number, got 'none.csv'"),
        (["--set", "x"], "--set x is not NAME=VALUE"),
        (["--set", "x=1", "--set", "x=2"], "is given twice"),
        (["--points", "1"], "--points 1: expected a whole number from 2 up"),
        (["--until", "-1"], "Give a later time"),
        (["--add-noise", "-1"], "expected a standard deviation of 0 or more"),
        (["--experiment", "pond"], "unknown experiment 'pond'"),
        (["--out", "x.txt"], "does not end in .csv or .npz"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str, capsys: Captured) -> None:
    assert main(["simulate", "run", "--trust", *arguments]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert (out, words in line) == ("", True), line


def test_of_an_experiment_a_run_is_no_part(capsys: Captured) -> None:
    for arguments, words in (
        (["exponential", "--until", "3"], "--until is for runs, and exponential is an experiment"),
        (["exponentail"], "Did you mean 'exponential'?"),
        (["."], "is no run directory"),
    ):
        assert main(["simulate", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert main(["simulate", "run", "--trust", "--json", "--out", "made.npz"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["rows"], done["experiment"]) == (21, "tank")


def test_the_fit_is_left_as_it_was(desk: Path) -> None:
    found = Fit.load(desk / "run", trust=True)
    before = found.predict(np.linspace(0, 2, 5)).mean
    simulate_fit(found, np.linspace(0, 2, 5), {"x": 5.0, "k": 9.0, "u": 3.0})
    np.testing.assert_array_equal(found.predict(np.linspace(0, 2, 5)).mean, before)
    with pytest.raises(InputError, match="unknown input of Tank 'w'"):
        simulate_fit(found, np.linspace(0, 2, 5), {"w": Inputs.through([0.0], [[1.0]], ("w",))})


@pytest.mark.parametrize(
    ("window", "held"),
    [("0.5:", (0.5, np.inf)), ("after:0.5", (0.5, np.inf)), ("0.25:0.5", (0.25, 0.5)), (":0.25", (-np.inf, 0.25))],
)
def test_windows_of_times_are_held_out(window: str, held: tuple[float, float]) -> None:
    data = load("exponential")
    assert read(window) == window
    ((one,), rest) = split([data], window)
    inside = (data.train.times > held[0]) & (data.train.times <= held[1])
    assert one.test is not None
    assert torch.equal(one.test.times, data.train.times[inside])
    assert torch.equal(one.train.times, data.train.times[~inside])
    assert rest == []


@pytest.mark.parametrize("window", ["3:1", ":", "after:", "after:noon"])
def test_a_window_that_is_none_is_refused(window: str) -> None:
    with pytest.raises(InputError, match="a window of times is written A:B"):
        read(window)


def test_old_spellings_are_read_with_a_note(tmp_path: Path, capsys: Captured) -> None:
    assert main(["fit", "exponential", "--holdout", "after:0.5", "--print-settings"]) == 0
    assert capsys.readouterr().err == "physid: note: holdout=after:0.5 is now written holdout=0.5:.\n"
    main(["simulate", "solarsystem", "--set", "window=1970-1980", "--set", f"tables={tmp_path}"])
    assert "physid: note: window=1970-1980 is now written window=1970:1980.\n" in capsys.readouterr().err
