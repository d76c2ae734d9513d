"""`physid verify`: a run comes out again, and whatever was altered is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from physid import Fit
from physid.cli.app import main
from physid.formats import SUMS, archive_bytes
from physid.runs import writer

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def decay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "decay"
    assert main(["fit", "exponential", "--noise", "0.05", "--seed", "3", "--out", str(folder), "--quiet"]) == 0
    return folder


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def test_verify_says_that_a_run_comes_out_again(decay: Path, capsys: Captured) -> None:
    assert main(["verify", str(decay)]) == 0
    assert "every file is intact and 1 unknowns come out again" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["report.txt", "data.npz", "unknowns.json", "request.json", "history.csv"])
def test_verify_sees_an_altered_file(name: str, decay: Path, tmp_path: Path, capsys: Captured) -> None:
    folder = copy(decay, tmp_path / "run")
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert main(["verify", str(folder)]) == 6
    assert f"{name} is not what was written" in capsys.readouterr().err
    (folder / name).unlink()
    assert main(["verify", str(folder)]) == 6


def test_verify_sees_a_result_that_does_not_come_out(decay: Path, tmp_path: Path, capsys: Captured) -> None:
    folder = copy(decay, tmp_path / "run")
    content = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in (folder / SUMS).read_text()}
    text = content["unknowns.json"].decode()
    value = repr(Fit.load(folder).estimates[0].value)
    content["unknowns.json"] = text.replace(value, value[:5] + "9" + value[6:]).encode()
    keeper = writer.RunWriter(folder, content, resumed=True)
    keeper.finish(content)  # with sums that fit the forgery
    keeper.close()
    assert main(["verify", str(folder), "--json"]) == 6
    assert "k was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("unknowns.json", '"name": "k"', '"name": 3'),
        ("unknowns.json", '"unit": "1/s"', '"unit": {"a": 1}'),
        ("statistics.json", '"null_directions": []', '"null_directions": 4'),
        ("derived.json", '"shares": {}', '"shares": 7'),
        ("settings.json", '"mse"', '"msf"'),
    ],
)
def test_signed_content_of_another_kind_is_damage(
    name: str, old: str, new: str, decay: Path, tmp_path: Path, capsys: Captured
) -> None:
    folder = copy(decay, tmp_path / "run")
    content = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in (folder / SUMS).read_text()}
    assert old in content[name].decode()
    content[name] = content[name].decode().replace(old, new).encode()
    keeper = writer.RunWriter(folder, content, resumed=True)
    keeper.finish(content)
    keeper.close()
    for command in (["report"], ["verify"]):
        assert main([*command, str(folder)]) == 2
        assert "is damaged: " in capsys.readouterr().err


@pytest.mark.parametrize(("file", "lost"), [("covariance.npz", "rate"), ("data.npz", "train_mask")])
def test_signed_arrays_that_are_lost_or_of_another_kind_are_damage(
    file: str, lost: str, decay: Path, tmp_path: Path, capsys: Captured
) -> None:
    folder = copy(decay, tmp_path / "run")
    content = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in (folder / SUMS).read_text()}
    with np.load(folder / file) as found:
        arrays = {name: found[name] for name in found.files}
    arrays[lost] = arrays[lost].astype(float)
    if lost == "rate":
        del arrays[lost]
    content[file] = archive_bytes(**arrays)
    keeper = writer.RunWriter(folder, content, resumed=True)
    keeper.finish(content)
    keeper.close()
    for command in ("report", "verify", "resume"):
        assert main([command, str(folder)]) == 2
        assert "is damaged: " in capsys.readouterr().err
