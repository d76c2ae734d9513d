"""Every class of broken file ends in one line that names the file, the column and the row where there is one, and says
what to do; nothing of a file is ever executed or unpickled."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from torch import Tensor

from physid import door
from physid.cli import main
from physid.errors import InputError, MissingError
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown
from physid.reading import read, table

pytestmark = pytest.mark.usefixtures("forked_reader")
GOOD = "t [s],x [mm]\n0,1.0\n0.5,1.5\n1,2.0\n"


class Slider(Model):
    """x' = -k x, in millimetres."""

    state_names = ("x",)
    units = {"t": "s", "x": "mm"}  # noqa: RUF012
    k = Unknown(1.0)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * y


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays)
    return file.getvalue()


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch executed",))


def lying_npz() -> bytes:
    """An archive whose array promises a terabyte."""
    file, array = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": (10**11,)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("t.npy", array.getvalue())
    return file.getvalue()


def zip_bomb() -> bytes:
    """A megabyte that says it unpacks to more than four."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.npy", b"\0" * 5_000_000)
    return file.getvalue()


def mat(**arrays: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, arrays)  # type: ignore[arg-type]  # any file will do
    return file.getvalue()


def utf16_without_end() -> bytes:
    return b"\xff\xfe" + GOOD.encode("utf-16-le") + b"\x00\xd8"


HDF5 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n"

# class -> (file name, content, what the line must hold beside the file's name)
BROKEN: dict[str, tuple[str, str | bytes, list[str]]] = {
    # the file as a whole
    "empty": ("a.csv", b"", ["is empty", "Save the data again"]),
    "blank": ("a.csv", "\n\n# nothing\n", ["only blanks or comments"]),
    "no rows": ("a.csv", "t,x\n", ["header and no rows"]),
    "suffix": ("a.xlsx", GOOD, ["suffix '.xlsx'", "Save the sheet as CSV"]),
    "no suffix": ("data", GOOD, ["suffix ''", "Allowed: .csv"]),
    # encoding
    "spreadsheet as csv": ("a.csv", b"PK\x03\x04rest", ["is a ZIP archive", "Save the table as CSV"]),
    "hdf5 as csv": ("a.csv", b"\x89HDF\r\n", ["an HDF5 file"]),
    "zero bytes": ("a.csv", b"t,x\n0,1\n1,\x00\n", ["line 3", "byte zero", "UTF-8"]),
    "unknown encoding": ("a.csv", b"t,x\n0,\x811\n", ["line 2", "0x81", "Save it as UTF-8"]),
    "half a utf-16": ("a.csv", utf16_without_end(), ["UTF-16"]),
    # separator and shape
    "one column": ("a.csv", "t\n0\n1\n", ["one column only", "commas, semicolons"]),
    "mixed separators": ("a.csv", "t,x\n0;1\n1;2\n2;3\n", ["whatever separates them", "Use one separator"]),
    "too few cells": ("a.csv", "t,x,y\n0,1,2\n1,2\n2,3,4\n", ["line 3", "2 cells", "header has 3"]),
    "too many cells": ("a.csv", "t,x\n0,1\n1,2,3\n2,3\n", ["line 3", "3 cells", "unquoted separator"]),
    "truncated": ("a.csv", "t,x,y\n0,1,2\n1,2,3\n2,3", ["line 4", "cut off", "remove that line"]),
    "open quote": ("a.csv", 't,x\n0,"1\n1,2\n', ["line 2", "quotation mark"]),
    "decimal commas": ("a.csv", "t;x\n0;1,5\n1;2,5\n2;1.234,5\n", ["column 'x'", "line 4", "no number"]),
    "decimal commas between commas": ("a.csv", 't,x\n0,"1,5"\n1,"2,5"\n', ["column 'x'", "line 2", "decimal point"]),
    # header
    "no header": ("a.csv", "0,1\n1,2\n2,3\n", ["line 1", "no names", "Add a header"]),
    "nameless column": ("a.csv", "t,,x\n0,1,2\n1,2,3\n", ["column 2 has no name"]),
    "twice the same name": ("a.csv", "t,x,x\n0,1,2\n1,2,3\n", ["two columns", "'x'", "Rename"]),
    "no time": ("a.csv", "clock,x\n0,1\n1,2\n", ["no column is called t", "clock, x", "--time"]),
    "two times": ("a.csv", "t,time,x\n0,0,1\n1,1,2\n", ["t, time", "could each be the time"]),
    "no channel of the model": ("a.csv", "t,y\n0,1\n1,2\n", ["channels x", "t, y", "--channels"]),
    # units
    "unknown unit": ("a.csv", "t,x [mmm]\n0,1\n1,2\n", ["column 'x'", "[mmm] is not known"]),
    "unit of another kind": ("a.csv", "t,x [kg]\n0,1\n1,2\n", ["column 'x'", "[kg] cannot be converted to [mm]"]),
    "open bracket": ("a.csv", "t,x [mm\n0,1\n1,2\n", ["column 'x [mm'", "bracket is missing"]),
    "empty brackets": ("a.csv", "t,x []\n0,1\n1,2\n", ["column 'x []'", "no unit"]),
    "unit that is code": ("a.csv", "t,x [__import__('os')]\n0,1\n1,2\n", ["column 'x'", "unit"]),
    # cells
    "text": ("a.csv", "t,x\n0,1\n1,high\n", ["column 'x'", "line 3", "'high' is no number"]),
    "thousands": ("a.csv", 't,x\n0,1\n1,"1,234.5"\n', ["column 'x'", "line 3", "marks between the thousands"]),
    "infinite": ("a.csv", "t,x\n0,1\n1,inf\n", ["column 'x'", "line 3", "infinite"]),
    "underscore": ("a.csv", "t,x\n0,1\n1,1_000\n", ["column 'x'", "line 3", "'1_000'"]),
    "nothing measured": ("a.csv", "t,x\n0,\n1,NA\n", ["every cell of x is empty"]),
    "nothing measured in one": ("a.csv", "experiment,t,x\na,0,1\nb,0,\n", ["experiment 'b'", "empty"]),
    "nameless experiment": ("a.csv", "experiment,t,x\na,0,1\n,1,2\n", ["column 'experiment'", "line 3", "empty"]),
    # times
    "empty time": ("a.csv", "t,x\n0,1\n,2\n", ["column 't'", "line 3", "the time is empty"]),
    "twice the same time": ("a.csv", "t,x\n0,1\n0,2\n", ["column 't'", "line 3", "twice, also on line 2", "--group"]),
    "unordered times": ("a.csv", "t,x\n1,1\n0,2\n", ["column 't'", "line 3", "0 comes after 1 on line 2", "Sort"]),
    "no date": ("a.csv", "t,x\n2026-03-01 12:00,1\nnoon,2\n", ["column 't'", "line 3", "'noon' is no date"]),
    # long tables
    "long, twice": ("a.csv", "t,channel,value\n0,x,1\n0,x,2\n", ["line 3", "was there before, on line 2"]),
    "long, two units": ("a.csv", "t,channel,value,unit\n0,x,1,mm\n1,x,2,m\n", ["'unit'", "line 3", "in [mm] before"]),
    # NPZ
    "npz that is none": ("a.npz", b"no archive", ["no whole NPZ file"]),
    "npz truncated": ("a.npz", npz(t=np.arange(99.0), x=np.random.default_rng(0).random(99))[:-60], ["no whole NPZ"]),
    "npz without its head": ("a.npz", npz(t=np.arange(9.0), x=np.ones(9))[16:], ["no whole NPZ"]),
    "npz without arrays": ("a.npz", b"PK\x05\x06" + bytes(18), ["without arrays"]),
    "npz with a pickle": ("a.npz", npz(t=np.arange(2.0), x=np.array([Bomb()])), ["array 'x'", "never loaded"]),
    "npz that lies": ("a.npz", lying_npz(), ["array 't'", "promises 800000000000 bytes"]),
    "npz bomb": ("a.npz", zip_bomb(), ["MiB", "Thin the rows"]),
    "npz complex": ("a.npz", npz(t=np.arange(2.0), x=np.array([1j, 2])), ["array 'x'", "complex"]),
    "npz of scalars": ("a.npz", npz(t=1.0), ["no array of one or two dimensions"]),
    "npz, unordered": ("a.npz", npz(t=np.array([1.0, 0]), x=np.ones(2)), ["column 't'", "row 2", "row 1"]),
    "pickle as npz": ("a.npz", pickle.dumps(Bomb()), ["no whole NPZ file"]),
    # MAT
    "mat that is none": ("a.mat", b"no MAT file at all" * 20, ["no whole MAT file"]),
    "mat truncated": ("a.mat", mat(t=np.arange(99.0), x=np.ones(99))[:400], ["no whole MAT file"]),
    "mat 7.3": ("a.mat", HDF5, ["version 7.3", "-v7", "h5py"]),
    "mat of structs": ("a.mat", mat(s={"t": np.arange(3.0)}), ["no numeric array but s (struct)"]),
    # Parquet
    "parquet that is none": ("a.parquet", b"PAR1 and nothing more PAR1", ["no whole Parquet file"]),
    "parquet truncated": ("a.parquet", b"PAR1", ["no whole Parquet file"]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_line_with_place_and_remedy(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table, "LARGEST", 4_000_000)
    monkeypatch.setattr("physid.reading.binary.LARGEST", 4_000_000)
    name, content, parts = BROKEN[kind]
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        read(name, model=Slider)
    text = str(caught.value)
    for part in (name, *parts):
        assert part in text, text
    assert text.endswith(".")
    assert "\n" not in text
    assert not Path("executed").exists()


def test_the_command_line_says_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("t,x\n0,1\n1,high\n")
    assert main(["data", "a.csv"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("physid: error: a.csv, column 'x', line 3: 'high' is no number.")
    assert len(err.splitlines()) == 1


def made(path: Path, make: Callable[[Path], object]) -> Path:
    make(path)
    return path


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to("nowhere.csv"), "points nowhere"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
        (os.mkfifo, "is a pipe, and nothing came out of it for 0.05 s"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
    ],
)
def test_what_is_no_file_is_refused(
    make: Callable[[Path], object], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "QUIET", 0.05)
    path = made(tmp_path / "a.csv", make)
    with pytest.raises(InputError, match=part):
        read(path, model=Slider)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.truncate(table.LARGEST + 1)  # a hole: it takes no space
    with pytest.raises(InputError, match=r"holds more than 1 GiB.*Thin the rows.*--limits"):
        read(path, model=Slider)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(InputError, match="permissions"):
        read(path, model=Slider)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingError, match=r"pip install 'physid\[parquet\]'"):
        read(path, model=Slider)


def test_what_was_asked_for_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    for wish, part in (
        ({"time": "tt"}, "unknown time 'tt'. Did you mean 't'"),
        ({"channels": ["xx"]}, "unknown channel 'xx'. Did you mean 'x'"),
        ({"inputs": ["force"]}, "unknown input 'force'. Allowed: t, x"),
        ({"experiment": "day"}, "unknown experiment 'day'"),
        ({"units": {"y": "mm"}}, "unknown column for a unit 'y'"),
        ({"units": {"x": "m"}}, "header says [mm], but [m] was given"),
        ({"initial": "fre"}, "unknown initial state 'fre'. Did you mean 'free'"),
        ({"initial": {"z": 1.0}}, "unknown state 'z'"),
        ({"channels": ["t"]}, "two roles"),
    ):
        with pytest.raises(InputError) as caught:
            read(path, model=Slider, **wish)
        assert part in str(caught.value)


def refusal(path: Path) -> str:
    """Why a file is refused; its name when it is not."""
    try:
        (one, *_) = read(path)
    except InputError as error:
        return str(error)
    return one.source


def bytes_are_read_or_refused(factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    assert "any" in refusal(path)


def flipped_byte_is_read_or_refused(factory: pytest.TempPathFactory, seed: int, kind: str) -> None:
    arrays = {"t": np.arange(5.0), "x": np.linspace(0, 1, 5)}
    content = bytearray({"csv": GOOD.encode(), "npz": npz(**arrays), "mat": mat(**arrays)}[kind])
    content[seed % len(content)] ^= struct.pack("B", 1 + seed % 255)[0]
    path = factory.getbasetemp() / f"flipped.{kind}"
    path.write_bytes(bytes(content))
    assert "flipped" in refusal(path)


ANY = st.binary(max_size=200), st.sampled_from([".csv", ".npz", ".mat", ".parquet"])
FLIPPED = st.integers(0, 10_000), st.sampled_from(["csv", "npz", "mat"])


@settings(max_examples=16)  # a MAT file is read by a process of its own
@given(content=ANY[0], suffix=ANY[1])
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    bytes_are_read_or_refused(tmp_path_factory, content, suffix)


@settings(max_examples=16)
@given(seed=FLIPPED[0], kind=FLIPPED[1])
def test_a_flipped_byte_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str) -> None:
    flipped_byte_is_read_or_refused(tmp_path_factory, seed, kind)


@pytest.mark.slow
@settings(max_examples=200)
@given(content=ANY[0], suffix=ANY[1])
def test_many_more_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    bytes_are_read_or_refused(tmp_path_factory, content, suffix)


@pytest.mark.slow
@settings(max_examples=200)
@given(seed=FLIPPED[0], kind=FLIPPED[1])
def test_many_more_flipped_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
) -> None:
    flipped_byte_is_read_or_refused(tmp_path_factory, seed, kind)
