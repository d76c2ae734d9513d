"""Viewer calls: scene, window, page or file of fits and forecasts."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from physid.errors import InputError
from physid.plots.look import Theme
from physid.predict.forecast import Forecast
from physid.predict.predictor import Predictor
from physid.store import write
from physid.viewer import gl, webpage
from physid.viewer.camera import Camera
from physid.viewer.files import encoded, new_place
from physid.viewer.tracks import Tracks, tracks_of, tracks_of_fit

Viewable = Predictor | Forecast | Tracks
SUFFIXES = (".html", ".png", ".mp4")


@dataclass(frozen=True)
class Page:
    """A page in a notebook, where it shows itself; `save(path)` writes it, `str(page)` is its HTML."""

    text: str
    height: int = 620

    def __str__(self) -> str:
        """The HTML."""
        return self.text

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for a notebook."""
        frame = 'style="width:100%;border:0" sandbox="allow-scripts allow-downloads"'
        return f'<iframe {frame} height="{self.height}" srcdoc="{html.escape(self.text, quote=True)}"></iframe>'

    def save(self, path: str | Path) -> Path:
        """Write the page to `path` in one step."""
        return write(Path(path), self.text.encode())


def collect(
    what: Viewable | Sequence[Viewable],
    until: float | None = None,
    bodies: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
) -> list[Tracks]:
    """The tracks of one source or several, to the time `until`, of these `bodies` alone, under these titles.

    Errors: InputError for none at all, runs whose bodies differ, or what has no bodies.
    """
    sources = list(what) if isinstance(what, Iterable) else [what]
    if not sources:
        raise InputError("nothing was given to show: expected one run or more.")
    found = [_tracks(source, until) for source in sources]
    if any(
        (run.unit, run.time_unit, run.center) != (found[0].unit, found[0].time_unit, found[0].center) for run in found
    ):
        raise InputError("the runs differ in their units or in what they are relative to, so they share no picture.")
    if bodies is not None:
        found = [run.only(bodies) for run in found]
    if titles is not None:
        found = [replace(run, title=title) for run, title in zip(found, titles, strict=True)]
    return found


def _tracks(source: Viewable, until: float | None) -> Tracks:
    if isinstance(source, Tracks):
        return source
    return tracks_of(source) if isinstance(source, Forecast) else tracks_of_fit(source, until)


def scene(what: Viewable | Sequence[Viewable], theme: str | Theme = "light", **settings: Any) -> Any:
    """The Scene of fits or forecasts, off screen: `.plotter` is PyVista's, `.move(time)` sets the clock.

    Further settings: size, camera (a Camera). Errors: MissingError where there is no OpenGL.
    """
    from physid.viewer.actors import Scene

    runs = collect(what)
    gl.require()
    return Scene(runs, theme, **settings)


def page(
    what: Viewable | Sequence[Viewable], theme: str | Theme = "light", camera: Camera | None = None, title: str = ""
) -> Page:
    """The standalone page of fits or forecasts."""
    return Page(webpage.page(collect(what), theme, camera, title))


def save(path: str | Path, what: Viewable | Sequence[Viewable], theme: str | Theme = "light", **settings: Any) -> Path:
    """Write a .html, .png or .mp4 of fits or forecasts; settings are those of `page`, `still` and `movie`.

    Errors: InputError for another suffix; MissingError without OpenGL, or for a movie without imageio-ffmpeg.
    """
    path, runs = Path(path), collect(what)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} does not end in {', '.join(SUFFIXES)}. Name the file so.")
    if path.suffix.lower() == ".html":
        return write(path, webpage.page(runs, theme, **settings).encode())
    if path.suffix.lower() == ".mp4":
        from physid.viewer.movie import movie, writer_name

        writer_name()
        gl.require()
        return movie(path, runs, theme, **settings)
    from physid.viewer.still import still

    gl.require()
    return write(path, encoded(still(runs, theme, **settings)))


def show(
    what: Viewable | Sequence[Viewable],
    theme: str | Theme = "dark",
    until: float | None = None,
    bodies: Sequence[str] | None = None,
    **settings: Any,
) -> Page | Path | None:
    """Open a window and wait until it is closed; in a notebook the page, without a display the path of a page.

    Further settings: size, camera, title.
    """
    runs = collect(what, until, bodies)
    camera, title = settings.get("camera"), settings.get("title", "")
    if in_notebook():
        return Page(webpage.page(runs, theme, camera, title))
    if not gl.has_display() or os.environ.get(gl.WINDOW) == gl.EGL or not gl.probe(window=True).works:
        return write(new_place(), webpage.page(runs, theme, camera, title).encode())
    from physid.viewer.window import Window

    Window(runs, theme, **settings).show()
    return None


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
