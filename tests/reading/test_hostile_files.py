"""Binary and settings files made to crash, to hang or to lie: each ends in one line, at once, or is read right."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from physid import Trajectory
from physid.cli import main
from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.reading import matfile, read
from physid.reading.binary import read_mat
from physid.settings import load

LOST = 2**53 + 1  # no number of 64 bits


def npz_of(shape: str, count: int = 3) -> bytes:
    """An NPZ file with t [3] and x, the shape of which is what the text says."""
    file = io.BytesIO()
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with zipfile.ZipFile(file, "w") as archive:
        for name, said in (("t", head.replace(shape, "(3,)".ljust(len(shape)))), ("x", head)):
            body = np.arange(3.0 if name == "t" else float(count)).tobytes()
            archive.writestr(
                f"{name}.npy", b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said.encode() + body
            )
    return file.getvalue()


def test_a_mat_file_that_crashes_its_reader_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(matfile, "__file__", str(reader))
    (tmp_path / "a.mat").write_bytes(b"\0" * 200)
    assert main(["data", str(tmp_path / "a.mat")]) == 2
    said = capfd.readouterr().err
    assert "reader crashed (SIGSEGV)" in said
    assert said.count("\n") == 1, said


def test_a_mat_file_with_a_type_that_is_none_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    t = np.linspace(0.0, 3.0, 31)
    savemat(tmp_path / "a.mat", {"t": t, "x": np.exp(-t)})
    data = (tmp_path / "a.mat").read_bytes()
    number = b"\x09\x00\x00\x00\xf8\x00\x00\x00"  # 248 bytes of float64; SciPy looks other types up in a short table
    assert data.count(number) == 2
    (tmp_path / "a.mat").write_bytes(data.replace(number, b"\xe6" + number[1:], 1))
    assert main(["data", str(tmp_path / "a.mat")]) == 2
    said = capfd.readouterr().err
    assert "is no whole MAT file" in said
    assert said.count("\n") == 1, said


def test_mat_files_come_through_the_process_that_reads_them(tmp_path: Path) -> None:
    t = np.linspace(0.0, 2.0, 7)
    arrays = {"t": t, "x": np.c_[np.sin(t), np.cos(t)], "count": np.arange(7, dtype=np.int16), "name": "a pendulum"}
    for packed in (False, True):
        savemat(tmp_path / "a.mat", arrays, do_compression=packed)
        table = read_mat(tmp_path / "a.mat", (tmp_path / "a.mat").read_bytes())
        assert list(table.columns) == ["t", "x[0]", "x[1]", "count"]
        assert np.array_equal(table.numbers("x[1]"), np.cos(t))
        assert table.numbers("count")[-1] == 6


def test_a_mat_file_is_measured_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat(tmp_path / "a.mat", {"t": np.zeros(100_000)}, do_compression=True)
    monkeypatch.setattr("physid.reading.binary.LARGEST", 10_000)
    with pytest.raises(InputError, match=r"a.mat holds 781 KiB: expected up to"):
        read_mat(tmp_path / "a.mat", (tmp_path / "a.mat").read_bytes())


@pytest.mark.parametrize("shape", ["(True, 3)", "(-3, -1)", "(1.0, 3)", "(3, -1)"])
def test_a_shape_that_is_none_is_one_line(tmp_path: Path, shape: str) -> None:
    (tmp_path / "a.npz").write_bytes(npz_of(shape))
    with pytest.raises(InputError, match=r"array 'x': its header says the shape|array 'x': damaged"):
        read(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(npz_of("(3, 1)"))
    assert read(tmp_path / "a.npz")[0].train.observations[-1, 0] == 2


@pytest.mark.usefixtures("forked_reader")
@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_integers_that_no_number_holds_are_refused_and_others_kept(tmp_path: Path, kind: type) -> None:
    t, top = np.arange(3.0), np.iinfo(kind).max
    for lost in (LOST, top):
        values: Any = np.array([1, 2**53, lost], dtype=kind)
        np.savez(tmp_path / "a.npz", t=t, x=values)
        savemat(tmp_path / "a.mat", {"t": t, "x": values})
        for name in ("a.npz", "a.mat") if lost == top else ("a.npz",):
            with pytest.raises(InputError, match=rf"{name}, column 'x', row 3: {lost} is beyond 2\^53"):
                read(tmp_path / name)
    np.savez(tmp_path / "a.npz", t=t, x=np.array([0, 2**53, 2**60], dtype=kind))
    assert float(read(tmp_path / "a.npz")[0].train.observations[-1, 0]) == 2.0**60


def test_integers_of_text_that_no_number_holds_are_refused_and_others_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"t,x\n0,1\n1,{2**53}\n2,{-(2**60)}\n")
    (found,) = read(file)
    assert found.train.observations[1:, 0].tolist() == [2.0**53, -(2.0**60)]
    file.write_text(f"t,x\n0,1\n1,-{LOST}\n2,3\n")
    with pytest.raises(InputError, match=rf"a.csv, column 'x', line 3: -{LOST} is beyond 2\^53"):
        read(file)
    file.write_text(f"t,x\n0,1\n1,{LOST}.0\n2,1e22\n")  # numbers with a point or an exponent were no integers
    read(file)


def test_parquet_with_integers_stamps_and_names(tmp_path: Path) -> None:
    pa, path = pytest.importorskip("pyarrow"), tmp_path / "a.parquet"
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"t": [0.0, 1.0], "x": pa.array([LOST, None])}), path)
    with pytest.raises(InputError, match=rf"column 'x', row 1: {LOST} is beyond 2\^53"):
        read(path)
    parquet.write_table(pa.Table.from_arrays([pa.array([0.0, 1.0])] * 3, names=["t", "x", "x"]), path)
    with pytest.raises(InputError, match="two columns are called 'x'"):
        read(path)
    stamps = pa.array([1_700_000_000_000_000_001 + 250 * i for i in range(4)], pa.timestamp("ns"))
    parquet.write_table(pa.table({"t": stamps, "x": pa.array([5, None, 7, 8]), "y": pa.array([1, 2, 3, 4])}), path)
    found = read(path)[0].train
    assert np.allclose(found.times.numpy(), 250e-9 * np.arange(4), rtol=1e-12, atol=0)
    assert not found.mask[1, 0]
    assert float(found.observations[3, 0]) == 8


NINE = "[" + ",".join(["*{0}"] * 9) + "]"
BOMB = "k: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"  {name}: &{name} {NINE.format(before)}\n" for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"fix:\n  {BOMB}", "more than 100000 values with its aliases written out"),
        ("fix:\n  k: &x [*x]\n", "more than 100000 values with its aliases written out"),
        ("fix: {k: 1" + "0" * 400 + "}", "fix: expected a mapping from unknowns to values, got {'k': 1000"),
        ("rtol: 1" + "0" * 400, "rtol: expected a number from 0 up, got 1000"),
        ("seed: 0x" + "f" * 9000, "seed: expected a whole number from 0 .*, got an enormous number"),
        ("seed: " + ":".join(["59"] * 30_000), "a value of 89999 characters: expected up to 20000"),
        ("fix: " + "[" * 5000, "no YAML"),
    ],
)
def test_settings_made_to_hang_end_at_once(tmp_path: Path, text: str, said: str) -> None:
    path, began = tmp_path / "a.yml", time.process_time()
    path.write_text(text)
    with pytest.raises(InputError, match=said) as found:
        load(path)
    assert time.process_time() - began < 5.0
    assert len(str(found.value)) < 400 + len(str(path))


@pytest.mark.parametrize("part", ["(-8)**0.5", "1 / 0", "log(-1)", "exp(1000)", "1e200 * 1e200", "(9.0**9)**99"])
def test_a_tie_to_no_number_is_refused_before_anything_is_solved(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yml").write_text(f"tie: {{friction: '{part} * length'}}\n")
    assert main(["fit", "pendulum", "--settings", str(tmp_path / "a.yml"), "--out", str(tmp_path / "run")]) == 2
    assert "is no real, finite number" in capsys.readouterr().err


def test_times_too_near_for_a_rate_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("t,x\n" + "".join(f"{5e-324 * i},{i}\n" for i in range(10)))
    assert main(["data", str(tmp_path / "a.csv")]) == 2
    assert "line 3: the time 4.94066e-324 is less than 1e-100 after 0 on line 2" in capsys.readouterr().err
    times = torch.tensor([0.0, 1e-200, 2e-200], dtype=torch.float64)
    values = torch.ones(3, 1, dtype=torch.float64)
    with pytest.raises(InputError, match="two times are less than 1e-100 apart"):
        Trajectory(times, values)
    with pytest.raises(InputError, match="two times of an input are less than 1e-100 apart"):
        Inputs.through(times, values, ["u"])


def test_settings_may_still_use_aliases(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("fix: {a: &v [1, 2.5], b: *v}\ntime_limit: 1e3\n")
    assert load(tmp_path / "a.yml")["fix"] == {"a": [1, 2.5], "b": [1, 2.5]}
