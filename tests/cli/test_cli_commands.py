"""The commands that look and write: list, simulate, doctor; with good input and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import physid
from physid.cli.app import main
from physid.cli.options import EXPERIMENT_OPTIONS, NETWORK_OPTIONS, OLD_OPTIONS
from physid.datasets import CATALOG, COLLECTIONS
from physid.models import MODELS
from physid.ode import GRADIENTS, METHODS
from physid.viewer.gl import Probe

Captured = pytest.CaptureFixture[str]


def last_event(capsys: Captured) -> dict[str, Any]:
    """The last line of stdout; every line must be JSON."""
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events].count("done") == 1
    assert isinstance(events[-1], dict)
    return events[-1]


def refusal(arguments: list[str], capsys: Captured) -> str:
    """The one line with which `physid ARGUMENTS` is refused, exit code 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return str(line)


def test_list_shows_all_catalogues(capsys: Captured) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name} " in text for name in [*CATALOG, *MODELS, *METHODS, *GRADIENTS])


def test_list_as_json(capsys: Captured) -> None:
    assert main(["list", "--json"]) == 0
    done = last_event(capsys)
    assert [row["name"] for row in done["experiments"]] == list(CATALOG)
    assert {row["name"]: row["also"] for row in done["solvers"]}["dopri5"] == ["rk45"]
    assert "full" in done["experiments"][0]["knowledge"]


def test_list_of_one_kind(capsys: Captured) -> None:
    assert main(["list", "options"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("options\n")
    assert "threebody" in text
    assert "models" not in text


def test_every_listed_thing_is_described(capsys: Captured) -> None:
    assert main(["list", "--json"]) == 0
    done = last_event(capsys)
    rows = [row for kind in ("experiments", "models", "gradients") for row in done[kind]]
    assert [row["name"] for row in rows if not row["summary"]] == []
    assert [row["name"] for row in done["solvers"] if not row["source"]] == []


def test_options_of_their_own_belong_to_some_data_set() -> None:
    known = {name for entry in (*CATALOG.values(), *COLLECTIONS.values()) for name in entry.options}
    assert {*EXPERIMENT_OPTIONS, *OLD_OPTIONS} <= known


def test_an_old_flag_of_a_data_set_is_taken_with_a_note(capsys: Captured) -> None:
    old = ["simulate", "threebody", "--points", "9", "--random-masses", "1", "--start", "1,1,1"]
    new = ["simulate", "threebody", "--points", "9", "--set", "random_masses=1", "--set", "start=1,1,1"]
    assert main(new) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert main(old) == 0
    again, notes = capsys.readouterr()
    assert again == out
    first, second = notes.splitlines()
    assert {first, second} == {
        "physid: note: --random-masses goes with the next version. Write --set random_masses=1 instead.",
        "physid: note: --start goes with the next version. Write --set start=1,1,1 instead.",
    }
    for command in ("fit", "simulate", "gradcheck", "train"):
        assert main([command, "--help"]) == 0
        assert "--random-masses" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("windwo=1", "unknown option of solarsystem 'windwo'. Did you mean 'window'? Allowed: bodies, tables, window."),
        ("window", "--set window is not NAME=VALUE"),
        ("=3", "--set =3 is not NAME=VALUE"),
    ],
)
def test_what_set_cannot_say_is_told_with_what_can(word: str, part: str, capsys: Captured) -> None:
    assert main(["fit", "solarsystem", "--set", word]) == 2
    assert part in capsys.readouterr().err


def test_the_help_of_fit_fits_on_a_screen_and_a_half(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["fit", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100


def test_simulate_writes_a_table_that_reads_back_exactly(capsys: Captured) -> None:
    assert main(["simulate", "lotka-volterra", "--points", "5", "--noise", "0.1", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    data = physid.load("lotka-volterra", points=5, noise=0.1, seed=3)
    header = lines[0].split(",")
    assert header == ["t [yr]", *(f"{name} [{data.unit}]" if data.unit else name for name in data.channels)]
    values = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
    np.testing.assert_array_equal(values[:, 0], data.train.times)
    np.testing.assert_array_equal(values[:, 1:], data.train.observations)


@pytest.mark.parametrize("part", ["train", "test"])
def test_simulate_to_files(part: str, tmp_path: Path, capsys: Captured) -> None:
    options = ["simulate", "threebody", "--points", "12", "--set", "random_masses=1", "--part", part]
    assert main([*options, "--out", str(tmp_path / "new" / "a.csv")]) == 0
    assert "9 channels" in capsys.readouterr().out
    assert main([*options, "--out", str(tmp_path / "a.npz"), "--json"]) == 0
    done = last_event(capsys)
    arrays = np.load(tmp_path / "a.npz")
    header, *lines = (tmp_path / "new" / "a.csv").read_text().splitlines()
    table = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    assert done["rows"] == len(table) == len(arrays["times"]) == (12 if part == "train" else 24)
    np.testing.assert_array_equal(table[:, 1:], arrays["observations"].reshape(len(table), -1))
    assert list(arrays["channels"]) == header.split(",")[1:]
    assert arrays["mask"].all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "new"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["threbody"], "unknown experiment 'threbody'. Did you mean 'threebody'?"),
        (["threebody", "--noise", "loud"], "option noise of threebody: expected a number"),
        (["exponential", "--set", "bodies=sun"], "unknown option of exponential 'bodies'"),
        (["exponential", "--set", "niose=1"], "Did you mean 'noise'?"),
        (["exponential", "--set", "noise"], "--set noise is not NAME=VALUE"),
        (["exponential", "--set", "noise=1", "--noise", "1"], "the option noise is given twice"),
        (["exponential", "--json"], "--json needs --out FILE"),
        (["exponential", "--out", "a.xlsx"], "does not end in .csv or .npz"),
        (["exponential", "--out", "/proc/version/a.csv"], "is not a folder"),
        (["nothing.py:f"], "nothing.py does not exist"),
        (["exponential", "--part", "all"], "'all' is not one of"),
    ],
)
def test_simulate_refuses(
    arguments: list[str], part: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(["simulate", *arguments], capsys)
    assert line.startswith("physid: error: ")
    assert part in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tried")
def test_doctor_tells_what_is_there(capsys: Captured) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("python", "torch", "device cpu", "C compiler", "cache", "measured data"))


def test_doctor_gives_a_remedy_for_everything_absent(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("physid.viewer.gl.probe", lambda: Probe(reason="a trial failed"))
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PHYSID_DATA", "/no/such/folder")
    assert main(["doctor", "--json"]) == 0
    checks = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:-1]
    states = {check["name"]: check["state"] for check in checks}
    assert (states["C compiler"], states["measured data"]) == ("absent", "absent")
    assert [check for check in checks if check["state"] != "ok" and not check["remedy"]] == []


def test_doctor_ends_with_5_when_a_needed_package_is_missing(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("physid.viewer.gl.probe", lambda: Probe(reason="a trial failed"))
    monkeypatch.setattr("physid.cli.doctor.REQUIRED", ("torch", "no-such-package"))
    assert main(["doctor", "--json"]) == 5
    assert last_event(capsys)["message"] == "broken: no-such-package"


def test_train_is_fit_by_the_name_of_a_network(tmp_path: Path, capsys: Captured) -> None:
    words = ["images-toy", "--model", "node18", "--width", "2", "--batch", "8", "--epochs", "2", "--seed", "3"]
    words += ["--set", "images=16", "--set", "test_images=8", "--set", "size=8", "--protocol", "paper-90"]
    rows = {}
    for command in ("fit", "train"):
        assert main([command, *words, "--dry-run", "--json", "--out", str(tmp_path / "run")]) == 0
        rows[command] = last_event(capsys)
    assert rows["fit"] == rows["train"]
    assert (rows["fit"]["batch"], rows["fit"]["epochs"], rows["fit"]["seed"]) == (8, 2, 3)
    assert main(["train", *words, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert last_event(capsys)["status"] == "finished"
    assert main(["report", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["exponential", "--model", "blackbox"], "unknown network for exponential 'blackbox'"),
        (["threebody", "--model", "lstm", "--starts", "3"], "No such option '--starts'"),
        (["threebody"], "threebody needs a --model: one of "),
        (["cifar"], "unknown experiment 'cifar'. Did you mean 'cifar10'?"),
        (["images-toy", "--model", "node18", "--seeds", "2"], "unknown option of node18 'seeds'"),
        (["images-toy", "--protocol", "paper-text"], "unknown protocol of node18 'paper-text'"),
        (["images-toy", "--lr", "-1"], "--lr: expected a positive number, got '-1'"),
    ],
)
def test_train_refuses_in_one_line(words: list[str], part: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert not (tmp_path / "run").exists()


def test_the_options_of_networks_are_in_the_help_of_train_alone(capsys: Captured) -> None:
    texts = {}
    for command in ("fit", "train"):
        assert main([command, "--help"]) == 0
        texts[command] = capsys.readouterr().out
    for name in (*NETWORK_OPTIONS, "batch", "amp", "compile"):
        flag = f"  --{name.replace('_', '-')}"
        assert flag in texts["train"]
        assert f"{flag} " not in texts["fit"]
