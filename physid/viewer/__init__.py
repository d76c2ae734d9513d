"""Forecasts in three dimensions: scene, window, still, movie and standalone page.

    physid.viewer.scene(fit).plotter   a PyVista plotter, for meshes of one's own
    physid.viewer.show(fit)            a window, in a notebook the page, without a display the page as a file

Each takes a Fit, a Forecast or Tracks, or a list of them, which then stand side by side. What needs OpenGL tries it in
a child process first, and raises MissingError, in one line, where it does not work; the page needs none.
"""

from __future__ import annotations

from physid.viewer.calls import Page, collect, page, save, scene, show
from physid.viewer.camera import Camera, read_camera
from physid.viewer.layers import Shown
from physid.viewer.tracks import Tracks, tracks_of, tracks_of_fit

__all__ = [
    "Camera",
    "Page",
    "Shown",
    "Tracks",
    "collect",
    "page",
    "read_camera",
    "save",
    "scene",
    "show",
    "tracks_of",
    "tracks_of_fit",
]
