"""Movies: the clock runs from the start to the end, at a steady pace, into an MP4 by imageio-ffmpeg."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from physid.errors import InputError, MissingError
from physid.plots.look import Theme, channels
from physid.viewer.actors import Scene
from physid.viewer.camera import Camera
from physid.viewer.still import Image, StillLayout, blend, overlay, time_label
from physid.viewer.tracks import Tracks

SIZE = (1280, 720)
SECONDS, RATE = 10.0, 30
HOLD = 0.08  # of the length: the end stands still
BLOCK = 16  # of pixels, that encoders work on


def writer_name() -> str:
    """The program that writes movies; MissingError, in one line, when there is none."""
    try:
        name: str = import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise MissingError(
            "movies need imageio-ffmpeg, which is not there: pip install 'physid[viewer]', or choose --png or --html."
        ) from error
    return name


def movie(
    path: str | Path,
    runs: Sequence[Tracks],
    theme: str | Theme = "light",
    size: tuple[int, int] = SIZE,
    camera: Camera | None = None,
    seconds: float = SECONDS,
    rate: int = RATE,
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the movie of one run or several side by side to `path`, which gets its name when the movie is whole.

    `size` is rounded down to multiples of 16. `progress` is called with the frames done and their number. Needs OpenGL.

    Errors: MissingError without imageio-ffmpeg; InputError for a size below 320 x 240.
    """
    writer_name()
    size = size[0] // BLOCK * BLOCK, size[1] // BLOCK * BLOCK
    if size[0] < 320 or size[1] < 240:
        raise InputError(f"a movie of {size[0]} x {size[1]} was asked for: expected 320 x 240 or more.")
    path = Path(path)
    count = max(2, round(seconds * rate))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".mp4")
    os.close(descriptor)
    settings: dict[str, Any] = {"fps": rate, "quality": 8, "macro_block_size": BLOCK, "ffmpeg_log_level": "error"}
    try:
        writer = import_module("imageio_ffmpeg").write_frames(name, size, **settings)
        writer.send(None)
        try:
            for done, frame in enumerate(frames(runs, theme, size, camera, count, title), 1):
                writer.send(np.ascontiguousarray(frame))
                if progress is not None:
                    progress(done, count)
        finally:
            writer.close()
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def frames(
    runs: Sequence[Tracks],
    theme: str | Theme,
    size: tuple[int, int],
    camera: Camera | None,
    count: int,
    title: str = "",
) -> Iterator[Image]:
    """The pictures [height, width, 3] of a movie, one after another, with no more of them in memory than one.

    Without depth peeling, which is slow and flickers in motion; the strips fill from the left as the clock runs.
    """
    layout = StillLayout(size, len(runs))
    scene = Scene(runs, theme, size, camera, layout.box, scale=size[0] / 1270.0)
    try:
        full, bare = (overlay(scene, layout, title, lines=lines) for lines in (True, False))
        first = min(float(run.times[0]) for run in runs)
        last = max(float(run.times[-1]) for run in runs)
        scene.plotter.render_window.SetMultiSamples(4)
        clock = Clock(scene, layout)
        for part in np.clip(np.linspace(0.0, 1.0 / (1.0 - HOLD), count), 0.0, 1.0):
            time = first + (last - first) * float(part)
            scene.move(time)
            yield clock.drawn(blend(scene.picture(), _revealed(scene, layout, full, bare, time)), time)
    finally:
        scene.plotter.close()


def _revealed(scene: Scene, layout: StillLayout, full: Image, bare: Image, time: float) -> Image:
    """The words around the scene with the strips' lines up to `time`."""
    found = bare.copy()
    height, width = found.shape[:2]
    rows = slice(round((1 - layout.strip[1]) * height), round((1 - layout.strip[0]) * height))
    for index, run in enumerate(scene.runs):
        here = _column(run, layout, index, time, width)
        start = round(layout.column(index)[0] * width)
        found[rows, start:here] = full[rows, start:here]
        found[rows, here : here + max(1, width // 800)] = [*_bytes(scene.theme.ink), 255]
    return found


def _column(run: Tracks, layout: StillLayout, index: int, time: float, width: int) -> int:
    """The pixel of a time in the strip of a run."""
    left, right = layout.column(index)
    part = (min(time, float(run.times[-1])) - float(run.times[0])) / float(run.times[-1] - run.times[0])
    return round((left + (right - left) * part) * width)


def _bytes(color: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in channels(color))
    return red, green, blue


class Clock:
    """Draws the time into a picture, under the legend's end of the header of one run, or at the foot of several."""

    def __init__(self, scene: Scene, layout: StillLayout) -> None:
        import matplotlib
        from PIL import ImageFont

        self.scene, self.layout = scene, layout
        font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
        self.font = ImageFont.truetype(str(font), round(22 * layout.unit * 100 / 72))
        run = scene.runs[0]
        span = float(run.times[-1] - run.times[0])
        self.digits = int(np.clip(2 - np.floor(np.log10(span)), 0, 9))

    def text(self, time: float) -> str:
        """The time in words."""
        run = self.scene.runs[0]
        if time_label(run) == "year":
            return f"{time:.1f}"
        return f"t = {time:.{self.digits}f} {run.time_unit}".rstrip()

    def drawn(self, image: Image, time: float) -> Image:
        """The picture with the time in it."""
        from PIL import Image as Pillow
        from PIL import ImageDraw

        picture = Pillow.fromarray(image)
        width, height = self.layout.size
        place = (round(0.035 * width), round((1 - self.layout.strip[1] - 0.06) * height))
        ImageDraw.Draw(picture).text(
            place, self.text(time), fill=self.scene.theme.forecast, font=self.font, anchor="lb"
        )
        return np.asarray(picture)
