"""Reading: one set of measurements in every form that is understood gives the same experiment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat
from torch import Tensor

from physid.cli import main
from physid.data.experiment import Experiment
from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown, positive
from physid.reading import describe, read

Captured = pytest.CaptureFixture[str]


class Swing(Model):
    """x'' = -k x - c x' + gain force; only x is seen, in millimetres."""

    state_names = ("x", "v")
    channel_names: ClassVar[tuple[str, ...]] = ("x",)
    input_names = ("force",)
    units: ClassVar[Mapping[str, str]] = {"t": "s", "x": "mm", "force": "N"}
    k = Unknown(4.0, positive)
    c = Unknown(0.2, positive)
    gain = Unknown(1.0)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (force,) = self.inputs(t)
        x, v = y.unbind(-1)
        return torch.stack((v, self.gain * force - self.k * x - self.c * v), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


TIMES = np.array([0.0, 0.5, 1.25, 2.0, 3.0])
X = np.array([1.0, 0.5, math.nan, -0.75, 0.25])
FORCE = np.array([0.0, 2.0, 2.0, math.nan, -1.0])


def text(separator: str, decimal: str = ".", header: tuple[str, ...] = ("t [s]", "x [mm]", "force [N]")) -> str:
    rows = [
        ["" if math.isnan(v) else f"{v:g}".replace(".", decimal) for v in row]
        for row in zip(TIMES, X, FORCE, strict=True)
    ]
    return "\n".join(separator.join(row) for row in [list(header), *rows]) + "\n"


def long() -> str:
    rows = [
        f"{t},{name},{value}"
        for name, column in (("force", FORCE), ("x", X))
        for t, value in zip(TIMES, column, strict=True)
    ]
    return "t [s],channel,value\n" + "\n".join(rows[::-1])  # in any order


def parquet(path: Path) -> None:
    pd.DataFrame({"t": TIMES, "x [cm]": X / 10, "force": FORCE, "who": "me"}).to_parquet(path)


FORMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "comma": ("a.csv", lambda path: path.write_text(text(","))),
    "semicolon and decimal comma": ("a.csv", lambda path: path.write_text(text(";", ","))),
    "tab": ("a.tsv", lambda path: path.write_text(text("\t"))),
    "separator at the end": ("a.csv", lambda path: path.write_text(text(",").replace("\n", ",\n"))),
    "comments, blanks, byte order mark": ("a.csv", lambda path: path.write_text("\ufeff# by me\n\n" + text(","))),
    "carriage returns": ("a.csv", lambda path: path.write_bytes(text(",").replace("\n", "\r\n").encode())),
    "utf-16": ("a.csv", lambda path: path.write_text(text(","), encoding="utf-16")),
    "latin-1": (
        "a.csv",
        lambda path: path.write_text(text(",", header=("t", "x [µm]", "force")), encoding="latin-1"),
    ),
    "quotes": ("a.csv", lambda path: path.write_text('"t","x","force [N]"\n' + text(",").split("\n", 1)[1])),
    "other units": (
        "a.csv",
        lambda path: path.write_text(text(",", header=("time [ms]", "x [m]", "force [kN]"))),
    ),
    "long": ("a.csv", lambda path: path.write_text(long())),
    "parquet": ("a.parquet", parquet),
    "npz": ("a.npz", lambda path: np.savez(path, t=TIMES, x=X, force=FORCE[:, None])),
    "mat": ("a.mat", lambda path: savemat(path, {"t": TIMES, "x": X, "force": FORCE, "kp": 1.0, "note": "mine"})),
}
FACTORS = {"other units": (1e-3, 1e3, 1e3), "latin-1": (1.0, 1e-3, 1.0)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_experiment(form: str, tmp_path: Path) -> None:
    name, write = FORMS[form]
    write(tmp_path / name)
    (found,) = read(tmp_path / name, model=Swing, interpolation="linear")
    time, size, push = FACTORS.get(form, (1.0, 1.0, 1.0))
    seen = np.isfinite(X)
    assert found.train.times.numpy() == pytest.approx(TIMES[seen] * time, rel=1e-12)
    assert found.train.observations[:, 0].numpy() == pytest.approx(X[seen] * size, rel=1e-12)
    assert found.channels == ("x",)
    assert (found.unit, found.time_unit) == ("mm", "s")
    assert found.inputs is not None
    assert found.inputs(torch.from_numpy(TIMES * time))[:, 0].numpy() == pytest.approx(
        np.interp(TIMES, TIMES[[0, 1, 2, 4]], FORCE[[0, 1, 2, 4]]) * push, rel=1e-9
    )
    assert found.initial_free.tolist() == [True, True]


def test_several_experiments_in_one_file_and_in_several(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("experiment,t,x,force\nup,0,1,0\nup,1,2,0\ndown,5,3,1\nup,2,4,0\ndown,7,,1\n")
    (tmp_path / "b.csv").write_text("t,force,x\n0,0,9\n0.1,0,8\n")
    found = read([tmp_path / "a.csv", tmp_path / "b.csv"], model=Swing)
    assert [one.name for one in found] == ["up", "down", "b"]
    assert [one.train.times.tolist() for one in found] == [[0.0, 1.0, 2.0], [5.0], [0.0, 0.1]]
    assert [one.initial_time for one in found] == [0.0, 5.0, 0.0]
    (tmp_path / "up.csv").write_text("t,force,x\n0,0,9\n0.1,0,8\n")
    with pytest.raises(InputError, match="two experiments are called 'up'"):
        read([tmp_path / "a.csv", tmp_path / "up.csv"], model=Swing)


def test_a_channel_that_is_not_in_the_file_was_not_measured(tmp_path: Path) -> None:
    class Both(Swing):
        channel_names: ClassVar[tuple[str, ...]] = ("x", "v")

        def observe(self, y: Tensor) -> Tensor:
            return y

    (tmp_path / "a.csv").write_text("t,x,force\n0,1,0\n1,2,0\n")
    (found,) = read(tmp_path / "a.csv", model=Both)
    assert found.train.mask.tolist() == [[True, False], [True, False]]
    (facts,) = describe(tmp_path / "a.csv", model=Both)
    assert "channel 'v' is not in the file" in facts.notes


def test_columns_and_units_by_name_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("clock,p,q,day\n0,1,2,mon\n1,3,4,mon\n0,5,6,tue\n")
    found = read(tmp_path / "a.csv", time="clock", channels=["q"], inputs=["p"], experiment="day", units={"q": "V"})
    assert [one.name for one in found] == ["mon", "tue"]
    assert found[0].train.observations.tolist() == [[2.0], [4.0]]
    assert found[0].unit == "V"
    assert found[0].initial.tolist() == [2.0]


def test_dates_are_seconds_from_the_first_in_the_unit_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,x,force\n2026-03-01 23:59:30,1,0\n2026-03-02T00:00:30,2,0\n")
    (found,) = read(tmp_path / "a.csv", model=Swing)
    assert found.train.times.tolist() == [0.0, 60.0]

    class Slow(Swing):
        units: ClassVar[Mapping[str, str]] = {"t": "h"}

    assert read(tmp_path / "a.csv", model=Slow)[0].train.times.tolist() == [0.0, 60.0 / 3600]


def test_offset_units(tmp_path: Path) -> None:
    class Oven(Model):
        state_names = ("T",)
        units: ClassVar[Mapping[str, str]] = {"T": "degC"}
        k = Unknown(1.0)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.k * y

    (tmp_path / "a.csv").write_text("t,T [°F]\n0,212\n1,32\n")
    assert read(tmp_path / "a.csv", model=Oven)[0].train.observations.flatten().tolist() == pytest.approx([100, 0])


def test_the_start_comes_from_the_data_and_may_be_known(tmp_path: Path) -> None:
    t = np.linspace(0, 6, 61)
    x, v = 2 * np.cos(2 * t), -4 * np.sin(2 * t)
    pd.DataFrame({"t": t + 1, "x": x, "force": 0.0}).to_csv(tmp_path / "a.csv", index=False)
    (found,) = read(tmp_path / "a.csv", model=Swing)
    assert found.initial.tolist() == pytest.approx([x[0], v[0]], abs=0.05)  # v from the slope of x
    assert found.initial_scale.tolist() == pytest.approx([math.sqrt(2), 2 * math.sqrt(2)], rel=0.2)
    (found,) = read(tmp_path / "a.csv", model=Swing, initial={"v": 0.0})
    assert found.initial.tolist()[1] == 0.0
    assert found.initial_free.tolist() == [True, False]
    (found,) = read(tmp_path / "a.csv", model=Swing, initial="known")
    assert found.initial_free.tolist() == [False, False]


def test_what_simulate_writes_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "a.npz"):
        assert main(["simulate", "lotka-volterra", "--points", "7", "--out", name]) == 0
    table, archive = read("a.csv")[0], read("a.npz")[0]
    assert table.channels == archive.channels == ("u", "v")
    assert torch.equal(table.train.observations, archive.train.observations)
    assert (table.unit, table.time_unit) == ("thousands", "yr")


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=9),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_numbers_survive_the_way_through_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float]], separator: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    lines = [f"{i}{separator}{a!r}{separator}{b!r}" for i, (a, b) in enumerate(rows)]
    path.write_text(separator.join("tab") + "\n" + "\n".join(lines))
    (found,) = read(path)
    assert found.train.observations.tolist() == [list(row) for row in rows]


def test_what_was_understood_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(text(";", ","))
    Path("swing.py").write_text(
        "from physid import Model, Unknown\nclass Swing(Model):\n    state_names = ('x',)\n    units = {'x': 'cm'}\n"
        "    k = Unknown(1.0)\n    def field(self, t, y): return -self.k * y\n"
    )
    assert main(["data", "a.csv", "--model", "swing.py:Swing", "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    (file,) = done["files"]
    assert file["rows"] == 5
    columns = {column["name"]: column for column in file["columns"]}
    assert columns["x"]["role"] == "channel"
    assert (columns["x"]["unit"], columns["x"]["model_unit"]) == ("mm", "cm")
    assert (columns["x"]["measured"], columns["x"]["empty"]) == (4, 1)
    assert (columns["x"]["low"], columns["x"]["high"]) == (pytest.approx(-0.075), pytest.approx(0.1))
    assert columns["force"]["role"] == "not used"
    (run,) = file["experiments"]
    assert (run["first"], run["last"], run["sampling"]) == (0.0, 3.0, "uneven")
    assert (run["longest"], run["longest_at"]) == (1.0, 2.0)
    assert "decimal comma" in file["notes"]
    assert main(["data", "a.csv"]) == 0
    assert "a.csv (csv, 5 rows)" in capsys.readouterr().out


SWING = """
import torch
from physid import Model, Unknown, positive


class Swing(Model):
    state_names = ("x", "v")
    channel_names = ("x",)
    input_names = ("force",)
    k = Unknown(4.0, positive)
    gain = Unknown(1.0)

    def field(self, t, y):
        (force,) = self.inputs(t)
        x, v = y.unbind(-1)
        return torch.stack((v, self.gain * force - self.k * x), -1)

    def observe(self, y):
        return y[..., :1]
"""


def step_response(k: float, gain: float) -> pd.DataFrame:
    """From rest at x = 0, with the force switched on at t = 1: x = gain / k (1 - cos(w (t - 1)))."""
    t = np.linspace(0, 5, 51)
    x = np.where(t < 1, 0, gain / k * (1 - np.cos(math.sqrt(k) * (t - 1))))
    return pd.DataFrame({"t": t, "x": x, "force": (t >= 1 - 1e-9).astype(float)})


def test_fit_of_a_file_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    step_response(9.0, 3.0).to_csv("swing.csv", index=False)
    Path("swing.py").write_text(SWING)
    arguments = ["fit", "--data", "swing.csv", "--model", "swing.py:Swing", "--initial", "x=0,v=0", "--json"]
    assert main([*arguments, "--out", "run"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["experiment"] == "swing"
    assert done["unknowns"]["k"]["value"] == pytest.approx(9.0, rel=1e-6)
    assert done["unknowns"]["gain"]["value"] == pytest.approx(3.0, rel=1e-6)
    assert main(["forecast", "run", "--until", "8", "--trust", "--points", "5"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split(",")
    assert float(last[1]) == pytest.approx((1 - math.cos(21.0)) / 3, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "nothing to fit was given"),
        (["--data", "swing.csv"], "--data needs --model"),
        (["swing.csv"], "--data needs --model"),
        (["pendulum", "--data", "swing.csv"], "both given"),
        (["pendulum", "--inputs", "force"], "--inputs belongs to --data"),
        (["pendulum", "--sigma", "1"], "--sigma belongs to --data"),
        (["swing.csv", "--model", "swing.py:Swing", "--noise", "1"], "noise: an option of the catalogue"),
        (["swing.csv", "--model", "swing.py:Swing", "--units", "x"], "'x' is not NAME=VALUE"),
        (["swing.csv", "--model", "swing.py:Swing", "--initial", "v=fast"], "expected a number, got 'fast'"),
        (["swing.csv", "--model", "swing.py:Swing", "--interpolation", "step"], "unknown kind of interpolation"),
        (["swing.csv", "--model", "pendlum"], "Did you mean 'pendulum'"),
        (["none.csv", "--model", "swing.py:Swing"], "none.csv does not exist"),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    step_response(9.0, 3.0).to_csv("swing.csv", index=False)
    Path("swing.py").write_text(SWING)
    assert main(["fit", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


def keep(experiment: Experiment) -> Any:
    """Everything of an experiment that reading decides."""
    return experiment.train.times.tolist(), experiment.initial.tolist(), experiment.data_hash


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text(","))
    assert keep(read(tmp_path / "a.csv", model=Swing)[0]) == keep(read(tmp_path / "a.csv", model=Swing)[0])
