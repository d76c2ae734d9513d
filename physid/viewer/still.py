"""Still images: the scene at twice the size and down again, and around it words and error strips by matplotlib."""

from __future__ import annotations

import gc
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from physid.plots.look import Theme, channels, labelled, look, mix, shown
from physid.viewer.actors import Scene
from physid.viewer.camera import Camera
from physid.viewer.tracks import Tracks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

Image = NDArray[np.uint8]
SIZE = (1600, 1200)
WIDE = (2160, 1120)  # for several runs
DOTS = 100.0


@dataclass(frozen=True)
class StillLayout:
    """Layout in parts of the picture from the bottom: the strips, the box of the tracks."""

    size: tuple[int, int]
    count: int

    @property
    def unit(self) -> float:
        """The size of the words: 1 in a picture 1270 pixels wide with one run, 1512 with several."""
        width, height = self.size
        return min(width / (1270.0 if self.count == 1 else 1512.0), height / 740.0)

    @property
    def strip(self) -> tuple[float, float]:
        """Bottom and top of the strips."""
        return (0.085, 0.21) if self.count == 1 else (0.095, 0.245)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounds of the tracks in each scene, -1 to 1."""
        bottom = 2 * (self.strip[1] + 0.11) - 1
        return (-0.93, 0.93, bottom, 0.70 if self.count == 1 else 0.52)

    def column(self, index: int) -> tuple[float, float]:
        """Left and right ends of the strip of a run."""
        width = 1.0 / self.count
        left = 0.075 if self.count == 1 else 0.052 if index == 0 else 0.036
        return index * width + left * (1 if self.count == 1 else min(1.0, 3.0 / self.count)), (index + 1) * width - (
            0.03 if self.count == 1 else 0.014
        )


def still(
    runs: Sequence[Tracks],
    theme: str | Theme = "light",
    size: tuple[int, int] | None = None,
    camera: Camera | None = None,
    time: float | None = None,
    title: str = "",
) -> Image:
    """The picture [height, width, 3] of one run or several side by side, at their end or at `time`.

    Needs OpenGL: call `physid.viewer.gl.require` first where it may be missing.
    """
    size = size or (SIZE if len(runs) == 1 else WIDE)
    try:
        return _drawn(runs, theme, size, camera, time, title)
    finally:
        gc.collect()  # a closed scene is a cycle, which holds on to its framebuffers until the collector comes by


def _drawn(
    runs: Sequence[Tracks],
    theme: str | Theme,
    size: tuple[int, int],
    camera: Camera | None,
    time: float | None,
    title: str,
) -> Image:
    """The picture, of a scene that is closed when it is drawn."""
    layout = StillLayout(size, len(runs))
    scene = Scene(runs, theme, (2 * size[0], 2 * size[1]), camera, layout.box, scale=2.0 * size[0] / 1270.0)
    try:
        if time is not None:
            scene.move(time)
        return blend(render(scene, size), overlay(scene, layout, title))
    finally:
        scene.plotter.close()


def render(scene: Scene, size: tuple[int, int]) -> Image:
    """The scene alone [height, width, 3], from twice the size; without multisampling, which would delete the bands."""
    from PIL import Image as Pillow

    plotter = scene.plotter
    plotter.render_window.SetMultiSamples(0)
    for column in range(len(scene.runs)):
        plotter.subplot(0, column)
        plotter.enable_depth_peeling(8)
    return np.asarray(Pillow.fromarray(scene.picture()).resize(size, Pillow.Resampling.LANCZOS))


def blend(below: Image, above: Image) -> Image:
    """An image [H, W, 3] under one with opacity [H, W, 4]."""
    opacity = above[..., 3:].astype(np.float32) / 255.0
    mixed = below.astype(np.float32) * (1 - opacity) + above[..., :3].astype(np.float32) * opacity
    return np.asarray(mixed + 0.5, dtype=np.uint8)


def overlay(
    scene: Scene, layout: StillLayout, title: str = "", lines: bool = True, until: float | None = None
) -> Image:
    """Words, legend and strips [height, width, 4] on nothing."""
    with look(scene.theme):
        from matplotlib.figure import Figure

        width, height = layout.size
        figure = Figure(figsize=(width / DOTS, height / DOTS), dpi=DOTS, facecolor="none")
        _veil(figure, scene.theme, layout)
        _header(figure, scene, layout, title)
        axes = [_strip(figure, scene, layout, index, lines) for index in range(len(scene.runs))]
        _scales(axes, scene)
        _floor_labels(figure, scene, layout)
        file = io.BytesIO()
        figure.savefig(file, format="rgba", dpi=DOTS, facecolor="none")
    return np.frombuffer(file.getvalue(), dtype=np.uint8).reshape(height, width, 4)


def _veil(figure: Figure, theme: Theme, layout: StillLayout) -> None:
    """The floor fades out above the strips, so that nothing lies under their lines."""
    top = theme.top if layout.count == 1 else theme.background
    rows = np.linspace(1.0, 0.0, 200)  # parts of the height from the top of the picture down
    fade = np.clip((layout.strip[1] + 0.10 - rows) / 0.07, 0.0, 1.0)
    colors = np.array([channels(mix(theme.background, top, float(row))) for row in rows])
    image = np.concatenate([colors, fade[:, None]], -1)[:, None]
    figure.add_axes((0, 0, 1, 1), zorder=-5, frameon=False, xticks=[], yticks=[]).imshow(
        image, extent=(0, 1, 0, 1), aspect="auto", interpolation="bilinear"
    )


def _header(figure: Figure, scene: Scene, layout: StillLayout, title: str) -> None:
    """Title and subtitle, the legend, and the head of each run when there are several."""
    u, theme, runs = layout.unit, scene.theme, scene.runs
    left = 0.035 if layout.count == 1 else 0.022
    head = title or (runs[0].title if layout.count == 1 else "Forecasts compared")
    words = [figure.text(left, 0.965, shown(head), fontsize=21 * u, fontweight="bold", va="top")]
    rms = f" · rms distance {runs[0].score}" if layout.count == 1 and runs[0].score else ""
    words.append(
        figure.text(left, 0.918, shown(runs[0].subtitle + rms), fontsize=14.5 * u, va="top", color=theme.muted)
    )
    _settle(words, _legend(figure, scene, layout), layout)
    if layout.count == 1:
        return
    for index, run in enumerate(runs):
        x0, x1 = index / layout.count + left, (index + 1) / layout.count - 0.014
        figure.text(x0, 0.868, shown(run.title), fontsize=16 * u, fontweight="bold", va="top")
        if run.rms is not None:
            text = run.score
            figure.text(x1, 0.868, text, fontsize=16 * u, fontweight="bold", va="top", ha="right", color=theme.forecast)
            figure.text(x1, 0.828, "rms distance, forecast", fontsize=11 * u, va="top", ha="right", color=theme.muted)


def _settle(words: Sequence[Text], legend: Legend, layout: StillLayout) -> None:
    """Make what would overlap smaller: title and subtitle left of the legend, or a long legend beside the subtitle."""
    gap = 0.02 * layout.size[0]
    if layout.count > 1:  # one row, level with the subtitle
        room = legend.get_window_extent().x1 - words[1].get_window_extent().x1 - gap
        factor = min(1.0, room / legend.get_window_extent().width)
        for part in legend.get_texts():
            part.set_fontsize(float(part.get_fontsize()) * max(factor, 0.35))
    limit = layout.size[0] - gap if layout.count > 1 else legend.get_window_extent().x0 - gap
    for text in words:
        box = text.get_window_extent()
        if box.x1 > limit:
            text.set_fontsize(
                float(text.get_fontsize()) * 0.9 * (limit - box.x0) / box.width
            )  # small letters are rounded up


def _legend(figure: Figure, scene: Scene, layout: StillLayout) -> Legend:
    """Bodies, forecast, bands or strands, and the end of training, of what there is."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    u, theme, runs = layout.unit, scene.theme, scene.runs
    word = f", {runs[0].word}" if layout.count == 1 and runs[0].rms is not None else ""
    handles: list[Any] = []
    for place, name in sorted({(p, n) for run in runs for p, n in zip(run.places, run.names, strict=True)}):
        handles.append(Line2D([], [], color=theme.body(place), linewidth=4 * u, label=name + word))
    handles.append(
        Line2D(
            [],
            [],
            color=theme.forecast,
            linewidth=4 * u,
            linestyle=(0, (2.0, 1.2)),
            dash_capstyle="butt",
            label="forecast",
        )
    )
    if any(np.isfinite(run.sigma).any() and run.sigma.max(initial=0.0) > 1e-3 * scene.frame.extent for run in runs):
        handles.append(Patch(color=theme.forecast, alpha=0.24, linewidth=0, label="±1σ, ±2σ"))
    if any(len(run.strands) for run in runs):
        handles.append(Line2D([], [], color=theme.forecast, linewidth=1.2 * u, alpha=0.6, label="ensemble"))
    if any(run.trained is not None and run.trained < run.times[-1] for run in runs):
        ring: dict[str, Any] = {
            "markerfacecolor": "none",
            "markersize": 9 * u,
            "markeredgewidth": 2.4 * u,
            "linestyle": "none",
        }
        handles.append(Line2D([], [], marker="o", color=theme.ink, label="end of training", **ring))
    return figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(0.985, 0.975 if layout.count == 1 else 0.921),
        ncols=1 if layout.count == 1 else len(handles),
        fontsize=12 * u,
        handlelength=2.4,
        labelspacing=0.45,
        columnspacing=1.3,
        borderpad=0.0,
        borderaxespad=0.0,
    )


def _strip(figure: Figure, scene: Scene, layout: StillLayout, index: int, lines: bool) -> Axes:
    """The distance between forecast and truth over time, for every body, on a logarithmic scale."""
    u, theme, run = layout.unit, scene.theme, scene.runs[index]
    (left, right), (bottom, top) = layout.column(index), layout.strip
    axes = figure.add_axes((left, bottom, right - left, top - bottom), facecolor="none")
    axes.set_xlim(float(run.times[0]), float(run.times[-1]))
    axes.tick_params(labelsize=11 * u, length=4 * u, width=0.9 * u)
    axes.grid(True, axis="y", color=theme.faint, alpha=0.6)
    axes.grid(False, axis="x")
    axes.set_xlabel(shown(time_label(run)), fontsize=12 * u, labelpad=2 * u)
    if run.rms is None:
        axes.set_yticks([])
        axes.text(
            0.5,
            0.5,
            "no truth to compare with",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=theme.muted,
            fontsize=11 * u,
        )
    else:
        axes.set_yscale("log")
        for b in range(len(run.names)) if lines else ():
            there = run.error[:, b] > 0  # not where nothing was measured, nor where a logarithm has no place
            axes.plot(run.times[there], run.error[there, b], color=theme.body(run.places[b]), linewidth=2.4 * u)
        if index == 0:
            axes.set_ylabel(labelled("error", run.unit), fontsize=12 * u)
    if run.trained is not None and run.times[0] < run.trained < run.times[-1]:
        shade = theme.ink if theme.name == "light" else "#FFFFFF"
        axes.axvspan(float(run.times[0]), run.trained, color=shade, alpha=0.055, linewidth=0, zorder=-1)
        axes.axvline(run.trained, color=theme.forecast, linewidth=1.8 * u)
        where: dict[str, Any] = {
            "xycoords": axes.get_xaxis_transform(),
            "textcoords": "offset points",
            "fontsize": 11 * u,
        }
        axes.annotate("training", (run.trained, 1.0), (-8 * u, 5 * u), ha="right", color=theme.muted, **where)
        axes.annotate("forecast", (run.trained, 1.0), (8 * u, 5 * u), ha="left", color=theme.forecast, **where)
    return axes


def time_label(run: Tracks) -> str:
    """Label under the axis of time."""
    return "year" if run.time_unit == "year" else f"time ({run.time_unit})" if run.time_unit else "time"


def error_range(runs: Sequence[Tracks]) -> tuple[float, float]:
    """The ends of the strips' common scale: the bulk of the errors, whole decades where there is room."""
    values = np.concatenate([run.error.ravel() for run in runs if run.rms is not None] or [np.ones(1)])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 1e-3, 1.0
    low, high = float(np.quantile(values, 0.03)), float(values.max())
    low = max(min(low, high / 30), high * 1e-9)
    return low / 1.5, high * 1.8


def _scales(axes: Sequence[Axes], scene: Scene) -> None:
    """One scale of errors for all strips, its numbers on the first alone."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = error_range(scene.runs)
    for index, one in enumerate(axes):
        if one.get_yscale() == "log":
            one.set_ylim(low, high)
            one.yaxis.set_major_locator(LogLocator(numticks=5))
            one.yaxis.set_minor_locator(NullLocator())
        if index:
            one.tick_params(labelleft=False)


def _floor_labels(figure: Figure, scene: Scene, layout: StillLayout) -> None:
    """The radii of the floor's rings, where they do not fall under the strips or the heads."""
    width, height = layout.size
    aspect = width / layout.count / height
    for index in range(layout.count):
        for text, place in scene.labels[:2]:
            x, y = scene.camera.project(place, aspect)
            path = scene.camera.project(scene.frame.place(scene.runs[index].forecast.reshape(-1, 3)), aspect)
            apart = np.nanmin(np.abs(path - (x, y)).max(-1)) > 0.05
            if apart and abs(x) < 0.9 and layout.box[2] < y < layout.box[3]:
                across = (index + (x + 1) / 2) / layout.count
                figure.text(
                    across,
                    (y + 1) / 2,
                    text,
                    fontsize=9.5 * layout.unit,
                    color=scene.theme.muted,
                    ha="center",
                    va="center",
                )
