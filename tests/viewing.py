"""A made-up system whose tracks are known exactly, and what the tests of pictures look for in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from physid.plots.look import channels
from physid.viewer import Tracks

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def circles(bodies: int = 2, points: int = 201, **changes: Any) -> Tracks:
    """Bodies on circles of radius 1, 2, ... about z, once around in the time [0, 1]; the forecast is the truth."""
    t = np.linspace(0.0, 1.0, points)
    radius = np.arange(1, bodies + 1)[None, :]
    angle = 2 * np.pi * t[:, None] + radius
    path = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0.2 * np.sin(2 * angle)], -1)
    found = Tracks(
        title="circles",
        subtitle="fitted on [0, 0.4], forecast to 1",
        names=tuple(f"body {b + 1}" for b in range(bodies)),
        times=t,
        forecast=path,
        truth=path.copy(),
        sigma=np.zeros((points, bodies)),
        strands=np.empty((0, points, bodies, 3)),
        mass=np.linspace(1.0, 0.4, bodies),
        measured=np.ones((points, bodies), dtype=bool),
        trained=0.4,
        unit="au",
        time_unit="yr",
        places=tuple(range(bodies)),
    )
    return replace(found, **changes)


def like(image: np.ndarray, color: str, reach: float = 0.12) -> Mask:
    """Where a picture [H, W, 3] has the hue of a colour, in whatever light."""
    pixels = image.astype(float)
    size = np.linalg.norm(pixels, axis=-1)
    wanted = np.array(channels(color))
    wanted /= np.linalg.norm(wanted)
    off = np.linalg.norm(pixels / np.maximum(size, 1.0)[..., None] - wanted, axis=-1)
    return np.asarray((off < reach) & (size > 110))


def centroid(mask: Mask) -> np.ndarray:
    """The mean place (x, y) of what is true, in pixels from the upper left."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])
