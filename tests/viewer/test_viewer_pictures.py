"""Pictures by their content: colours where the camera projects what they show. Skipped where OpenGL is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from viewing import centroid, circles, like

from physid.plots import DARK, LIGHT
from physid.viewer import Tracks, save, scene
from physid.viewer.actors import Scene
from physid.viewer.still import StillLayout, overlay

SIZE = (480, 360)


@pytest.fixture
def stage(opengl: str) -> Scene:
    """Circles with the forecast off by a known amount, on a dark ground."""
    made: Scene = scene(circles(), "dark", size=SIZE)
    return made


def pixels(stage: Scene, point: np.ndarray) -> np.ndarray:
    """Where a point of the run is in the picture, in pixels from the upper left."""
    x, y = stage.camera.project(stage.frame.place(point), SIZE[0] / SIZE[1])
    return np.array([(x + 1) / 2 * SIZE[0], (1 - y) / 2 * SIZE[1]]) - 0.5


def test_bodies_are_where_they_should_be(stage: Scene) -> None:
    run = stage.runs[0]
    stage.show(trails=False, forecast=False, truth=False)
    empty = stage.picture().astype(int)
    stage.show(truth=True)
    for time in (0.35, 0.8):
        stage.move(time)
        image = stage.picture()
        rows, columns = np.nonzero(np.abs(image - empty).max(-1) > 12)
        here = int(np.argmin(np.abs(run.times - time)))
        wanted = [pixels(stage, run.truth[here, body]) for body in range(2)]
        nearer = np.argmin([np.hypot(columns - x, rows - y) for x, y in wanted], axis=0)
        for body in range(2):
            mine = nearer == body
            assert (columns[mine].mean(), rows[mine].mean()) == pytest.approx(wanted[body], abs=1.5)
            assert like(image, DARK.body(body))[rows[mine], columns[mine]].mean() > 0.3


def test_a_shifted_forecast_moves_the_orange_as_the_camera_projects_it(stage: Scene) -> None:
    run, shift = stage.runs[0], np.array([0.8, 0.5, 0.4])
    stage.camera = replace(stage.camera, distance=1.6 * stage.camera.distance)  # room for the shift
    stage.look()
    stage.show(truth=False, bands=False)
    before = centroid(like(stage.picture(), DARK.forecast))
    stage.runs[0] = replace(run, forecast=run.forecast + shift)
    stage.move(1.0)
    after = centroid(like(stage.picture(), DARK.forecast))
    paths = [np.array([pixels(stage, p) for p in run.forecast.reshape(-1, 3) + k * shift]).mean(0) for k in (0, 1)]
    assert np.linalg.norm(paths[1] - paths[0]) > 15
    assert after - before == pytest.approx(paths[1] - paths[0], abs=2.5)


def test_orange_grows_with_the_time(stage: Scene) -> None:
    stage.show(truth=False)
    counts = []
    for time in (0.05, 0.3, 0.5, 0.75, 1.0):
        stage.move(time)
        counts.append(int(like(stage.picture(), DARK.forecast, 0.2).sum()))
    assert counts == sorted(counts)
    assert counts[-1] > 2 * counts[1]


def test_bands_and_strands_are_visible(opengl: str) -> None:
    wide = np.full((201, 2), 0.1)
    strands = np.stack([circles().forecast * k for k in (0.9, 1.1)])
    for run in (circles(sigma=wide), circles(sigma=wide + 1.0, strands=strands)):
        stage = scene(run, "light", size=SIZE)
        with_bands = stage.picture().astype(int)
        stage.show(bands=False)
        without = stage.picture().astype(int)
        changed = np.abs(with_bands - without).max(-1) > 8
        assert changed.mean() > 0.01
        toward = (with_bands - without)[changed].mean(0)
        assert toward[2] < toward[1] < toward[0] + 1  # blue goes most, red least: it turns orange


@pytest.mark.parametrize(
    ("theme", "panes"),
    [
        ("dark", 3),
        pytest.param("light", 1, marks=pytest.mark.slow),
        pytest.param("dark", 1, marks=pytest.mark.slow),
        pytest.param("light", 3, marks=pytest.mark.slow),
    ],
)
def test_stills_have_their_size_their_words_and_no_clipped_legend(
    opengl: str, theme: str, panes: int, tmp_path: Path
) -> None:
    from PIL import Image

    one, far = circles(sigma=np.full((201, 2), 0.1)), replace(circles(), forecast=circles().forecast * 1.1)
    for runs, size in [([one], (640, 480))] if panes == 1 else [([one, far, one], (840, 440))]:
        path = save(tmp_path / "a.png", runs, theme, size=size)
        image = np.asarray(Image.open(path))
        assert image.shape == (size[1], size[0], 3)
        made = scene(runs, theme, size=size)
        words = overlay(made, StillLayout(size, len(runs)))
        edge = words[: int(0.65 * size[1])]
        assert edge[:, -3:, 3].max() == edge[:, :3, 3].max() == edge[:2, :, 3].max() == 0  # nothing touches an edge
        long = overlay(
            made, StillLayout(size, len(runs)), "a title that is much too long to stand beside any legend " * 2
        )
        assert long[:, -3:, 3][: len(edge)].max() == 0
        head = words[: int(0.12 * size[1]), ..., 3] > 128
        assert head.mean() > 0.02
        if len(runs) > 1:
            middle = image[:, size[0] // 3 : 2 * size[0] // 3]  # the run without bands, which would tint the colours
            assert all(like(middle, color).sum() > 50 for color in (LIGHT if theme == "light" else DARK).bodies[:2])


def test_a_picture_is_the_same_every_time(opengl: str, tmp_path: Path) -> None:
    files = [save(tmp_path / f"{n}.png", circles(), size=(320, 240)) for n in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_several_runs_share_one_camera_and_one_frame(opengl: str) -> None:
    small = replace(circles(), truth=circles().truth / 2, forecast=circles().forecast / 2)
    stage: Scene = scene([circles(), small], "dark", size=(800, 300))
    assert stage.frame.extent == pytest.approx(4.0, rel=0.01)
    stage.show(trails=False, forecast=False)
    image = stage.picture()
    counts = [like(part, DARK.body(1)).sum() for part in (image[:, :400], image[:, 400:])]
    assert min(counts) > 20
    assert centroid(like(image[:, :400], DARK.body(1))) != pytest.approx(
        centroid(like(image[:, 400:], DARK.body(1))), abs=5
    )


def test_a_movie_runs_through_the_forecast(opengl: str, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra viewer is not installed")
    told: list[tuple[int, int]] = []
    path = save(
        tmp_path / "a.mp4", circles(), size=(330, 250), seconds=1.0, rate=8, progress=lambda *one: told.append(one)
    )
    assert told == [(n, 8) for n in range(1, 9)]
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    command = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 240, 320, 3)  # multiples of 16
    assert len(frames) == 8
    orange = [like(frame[:180], LIGHT.forecast, 0.2).sum() for frame in frames]
    assert orange[1] < orange[3] < orange[6]


def test_an_interrupted_movie_leaves_nothing(opengl: str, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="the extra viewer is not installed")

    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "a.mp4", circles(), size=(320, 240), seconds=1.0, rate=4, progress=stop)
    assert list(tmp_path.iterdir()) == []


def resident() -> float:
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_flat_over_a_hundred_pictures(opengl: str, tmp_path: Path) -> None:
    run: Tracks = circles(sigma=np.full((201, 2), 0.1))
    for n in range(110):
        save(tmp_path / "a.png", run, size=(400, 300))
        if n == 9:
            before = resident()
    assert resident() - before < 40.0


WINDOW = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from viewing import circles
from physid.viewer.window import Window
window = Window([circles(), circles()], "dark", (640, 400), folder=Path(sys.argv[1]))
assert window.plotter.render_window.GetClassName() == "vtkXOpenGLRenderWindow"
window.plotter.show(auto_close=False, interactive_update=True)
interactor = window.plotter.iren.interactor
def press(key):
    interactor.SetKeySym(key)
    interactor.InvokeEvent("KeyPressEvent")
press("Home"); assert window.scene.time == 0.0, window.scene.time
press("Right"); assert abs(window.scene.time - 0.01) < 1e-9
press("space"); assert window.playing
window._before -= 0.2; window.tick(); assert window.scene.time > 0.02
press("space"); assert not window.playing
press("b"); assert not window.scene.shown.bands
press("w"); assert window.scene.shown.window == 0.5
press("plus"); assert window.speed == 2.0
window.slider.GetRepresentation().SetValue(0.6); window.slider.InvokeEvent("InteractionEvent")
assert abs(window.scene.time - 0.6) < 1e-6
press("s"); assert (Path(sys.argv[1]) / "physid-1.png").stat().st_size > 2000
print("fine")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="there is no Xvfb for a window")
def test_the_window_obeys_keys_and_slider(opengl: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VTK_DEFAULT_OPENGL_WINDOW"}
    root = Path(__file__).parents[2]
    command = ["xvfb-run", "-a", "-s", "-screen 0 800x600x24", sys.executable, "-c", WINDOW, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "fine", done.stderr[-2000:]
