"""The scene: layers as actors of a PyVista plotter, moved in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physid.arrays import Array
from physid.plots.look import Theme, theme_of
from physid.viewer.camera import ANGLE, Camera
from physid.viewer.gl import load_pyvista
from physid.viewer.layers import Frame, Layer, Shown, floor, frame_of, layers
from physid.viewer.tracks import Tracks

LIGHT = {"ambient": 0.30, "diffuse": 0.76, "specular": 0.30, "specular_power": 22.0}
FULL = (-0.94, 0.94, -0.9, 0.9)  # where the tracks may lie in the picture


class Scene:
    """Several runs side by side in one plotter, with one camera and one clock.

    `plotter` is the PyVista plotter, for meshes of one's own; its lengths are those of `frame`: (r - center) / extent.
    `move(time)` shows another time; `shown` says what is shown. The plotter is made off screen unless one is given.
    """

    def __init__(
        self,
        runs: Sequence[Tracks],
        theme: str | Theme = "light",
        size: tuple[int, int] = (1280, 720),
        camera: Camera | None = None,
        box: tuple[float, float, float, float] = FULL,
        plotter: Any = None,
        scale: float = 1.0,
    ) -> None:
        self.runs, self.theme, self.scale = list(runs), theme_of(theme), scale
        self.frame: Frame = frame_of(self.runs)
        self.shown = Shown()
        shape = (1, len(self.runs))
        self.plotter = plotter or load_pyvista().Plotter(
            off_screen=True, window_size=list(size), shape=shape, border=False
        )
        self.camera = fit_camera(self.runs, self.frame, size, camera, box)
        self.time = max(float(run.times[-1]) for run in self.runs)
        self.actors: dict[tuple[int, str], Any] = {}
        ground, self.labels = floor(self.runs, self.frame, self.theme)
        for column in range(len(self.runs)):
            self.plotter.subplot(0, column)
            top = None if self.theme.top == self.theme.background else self.theme.top
            self.plotter.set_background(self.theme.background, top=top if len(self.runs) == 1 else None)
            for layer in ground:
                self._put(column, layer)
        self.move(self.time)
        self.look()

    def move(self, time: float) -> None:
        """Show the runs at `time`."""
        self.time = time
        for column, run in enumerate(self.runs):
            self.plotter.subplot(0, column)
            for layer in layers(run, self.theme, self.frame, time, self.shown):
                self._put(column, layer)

    def picture(self) -> NDArray[np.uint8]:
        """The picture [height, width, 3]."""
        self.plotter.render_window.Render()
        return np.asarray(self.plotter.screenshot(return_img=True))

    def show(self, **changes: bool | float | None) -> None:
        """Change what is shown: truth, forecast, bands, trails, window."""
        from dataclasses import replace

        changed: Any = changes
        self.shown = replace(self.shown, **changed)
        self.move(self.time)

    def look(self) -> None:
        """Put the camera of every run where `camera` says."""
        for column in range(len(self.runs)):
            self.plotter.subplot(0, column)
            view = self.plotter.camera
            view.focal_point = self.camera.focus
            view.position = tuple(self.camera.position)
            view.up = (0.0, 0.0, 1.0)
            view.view_angle = ANGLE
            view.clipping_range = (0.01 * self.camera.distance, 10.0 * self.camera.distance + 5.0)

    def _put(self, column: int, layer: Layer) -> None:
        """Give the actor of the layer its mesh; make it when it has something to show for the first time."""
        key = column, layer.name
        empty = not (len(layer.surface.points) or len(layer.lines))
        if key in self.actors:
            actor = self.actors[key]
            actor.visibility = not empty
            if not empty:
                actor.mapper.dataset = mesh_of(layer)
                actor.prop.opacity = layer.opacity
        elif not empty:
            self.actors[key] = add(self.plotter, layer, self.scale)


def add(plotter: Any, layer: Layer, scale: float = 1.0) -> Any:
    """The actor of a layer, added to the current renderer."""
    settings: dict[str, Any] = {"color": layer.color, "opacity": layer.opacity, "reset_camera": False, "render": False}
    if layer.lines:
        settings |= {"line_width": layer.width * scale, "lighting": False}
    else:
        settings |= LIGHT
        if layer.opacity < 0.5:  # a band: flat, so that it reads as one tone, and its far side left out
            settings |= {"culling": "back", "ambient": 1.0, "diffuse": 0.0, "specular": 0.0}
    actor = plotter.add_mesh(mesh_of(layer), **settings)
    actor.prop.interpolation = "Phong" if not layer.lines else "Flat"
    return actor


def mesh_of(layer: Layer) -> Any:
    """The mesh of a layer."""
    pyvista = load_pyvista()
    if layer.lines:
        counts = [len(line) for line in layer.lines]
        starts = np.cumsum([0, *counts[:-1]])
        cells = [np.concatenate([[n], s + np.arange(n)]) for n, s in zip(counts, starts, strict=True)]
        return pyvista.PolyData(np.concatenate(layer.lines).astype(np.float32), lines=np.concatenate(cells))
    surface = layer.surface
    mesh = pyvista.PolyData.from_regular_faces(surface.points.astype(np.float32), surface.faces)
    mesh.point_data.active_normals = surface.normals.astype(np.float32)
    return mesh


def fit_camera(
    runs: Sequence[Tracks],
    frame: Frame,
    size: tuple[int, int],
    camera: Camera | None = None,
    box: tuple[float, float, float, float] = FULL,
) -> Camera:
    """The camera from which all tracks fill the box; one with a distance of its own (not the default) keeps it."""
    wanted = camera or Camera()
    points: list[Array] = []
    for run in runs:
        for path in (frame.place(run.truth), frame.place(run.forecast)):
            flat = path.reshape(-1, 3)
            flat = flat[np.isfinite(flat).all(-1)]
            points.append(flat[np.abs(flat).max(-1) <= 0.75])
    aspect = size[0] / len(runs) / size[1]
    fitted = wanted.fitted(np.concatenate(points), aspect, box)
    if wanted.distance != Camera().distance:
        from dataclasses import replace

        return replace(fitted, distance=wanted.distance)
    return fitted
