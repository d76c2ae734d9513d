"""`physid view`: files, refusals, and what happens where OpenGL is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import physid
from physid.cli.app import main
from physid.models import LotkaVolterra, NewtonGravity, build
from physid.viewer import gl


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs: bodies in space, and a state of two channels."""
    folder = tmp_path_factory.mktemp("runs")
    data = physid.load("threebody", points=40, horizon=0.4)
    model = build(data, model=NewtonGravity)
    model.mass = [1.05, 1.05, 0.95]
    physid.fit(model, data).save(folder / "three")
    physid.fit(LotkaVolterra(), physid.load("lotka-volterra", noise=0.5, points=40)).save(folder / "lynx")
    return folder


def view(*arguments: object) -> int:
    return main(["view", *map(str, arguments)])


def test_a_page_of_two_runs(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three = runs / "three"
    assert view(three, three, "--html", tmp_path / "a.html", "--theme", "dark", "--bodies", "1,3", "--json") == 0
    events: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["run", "run", "file", "done"]
    assert events[0]["bodies"] == ["body 1", "body 3"]
    assert events[-1]["files"] == [str(tmp_path / "a.html")]
    text = (tmp_path / "a.html").read_text()
    assert "Forecasts compared" in text
    assert len(text) < 5_000_000


@pytest.mark.usefixtures("tried")
def test_a_picture(runs: Path, tmp_path: Path, opengl: str) -> None:
    assert (
        view(runs / "three", "--png", tmp_path / "a.png", "--size", "400x300", "--until", 0.6, "--camera", "10,50") == 0
    )
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.usefixtures("tried")
def test_what_is_not_in_space_is_drawn_by_matplotlib(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert view(runs / "lynx", "--png", tmp_path / "a.png", "--html", tmp_path / "a.html") == 0
    assert (tmp_path / "a.html").read_text().count("<svg") == 2
    assert view(runs / "three", "--channels", "x1,y2", "--html", tmp_path / "b.html") == 0
    assert view(runs / "lynx", "--mp4", tmp_path / "a.mp4") == 2
    assert "here are none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--png", "a.jpg"], "--png a.jpg does not end in .png"),
        (["--png", "a.png", "--size", "big"], "is not WIDTHxHEIGHT"),
        (["--png", "a.png", "--size", "10x10"], "320x240 to"),
        (["--html", "a.html", "--camera", "1"], "is not AZIMUTH,ELEVATION"),
        (["--html", "a.html", "--bodies", "9"], "unknown body 'body 9'"),
        (["--html", "a.html", "--until", "0"], "Give a later time"),
        (["--html", "a.html", "--channels", "x1,q"], "unknown channel 'q'"),
        (["--theme", "blue"], "'blue' is not one of"),
    ],
)
def test_refusals(
    runs: Path, tmp_path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert view(runs / "three", *arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def without_gl(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GL libraries cannot be loaded: VTK ends the process that tries with a segmentation fault."""
    fake = tmp_path_factory.mktemp("fake")
    for name in ("libEGL.so", "libEGL.so.1", "libEGL_mesa.so.0", "libGL.so", "libGL.so.1", "libOpenGL.so.0"):
        (fake / name).touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "VTK_DEFAULT_OPENGL_WINDOW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gl, "_proved", [])


@pytest.mark.skipif(sys.platform != "linux", reason="made for the loader of Linux")
@pytest.mark.usefixtures("without_gl")
def test_without_opengl_one_line_says_what_to_install(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert view(runs / "three", "--png", tmp_path / "a.png") == 5
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("physid: error: pictures need OpenGL")
    assert "libegl1 libgl1-mesa-dri" in line
    assert "--no-pictures" in line
    assert not (tmp_path / "a.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="made for the loader of Linux")
@pytest.mark.usefixtures("without_gl")
def test_without_opengl_the_rest_goes_on(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = "--png", tmp_path / "a.png", "--html", tmp_path / "a.html"
    assert view(runs / "three", *files, "--no-pictures") == 0
    assert "a.png left out" in capsys.readouterr().err
    assert (tmp_path / "a.html").exists()


@pytest.mark.usefixtures("tried")
def test_without_the_writer_of_movies_one_line_says_so(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert view(runs / "three", "--mp4", tmp_path / "a.mp4") == 5
    assert "pip install 'physid[viewer]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
