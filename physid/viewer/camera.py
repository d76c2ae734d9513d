"""The camera: where it stands, and where a point in space appears in the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from physid.arrays import Array
from physid.errors import InputError

AZIMUTH, ELEVATION = -66.0, 38.0  # degrees
ANGLE = 30.0  # of view, from top to bottom, degrees


@dataclass(frozen=True)
class Camera:
    """It looks at `focus` [3] from `distance`, `azimuth` degrees about z and `elevation` above the plane; z is up."""

    azimuth: float = AZIMUTH
    elevation: float = ELEVATION
    distance: float = 2.1
    focus: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def position(self) -> Array:
        """Position of the camera [3]."""
        return np.asarray(self.focus) - self.distance * self.axes[2]

    @property
    def axes(self) -> tuple[Array, Array, Array]:
        """To the right, up, and into the picture, as unit vectors."""
        a, e = np.radians(self.azimuth), np.radians(self.elevation)
        ahead = -np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([-np.sin(a), np.cos(a), 0.0])
        return right, np.cross(right, ahead), ahead

    def project(self, points: Array, aspect: float) -> Array:
        """Projection of points [..., 3] to [..., 2]: -1 to 1 to the right and up, in a picture of width / height."""
        right, up, ahead = self.axes
        off = points - self.position
        depth = np.maximum(off @ ahead, 1e-9) * np.tan(np.radians(ANGLE / 2))
        return np.stack([off @ right / (depth * aspect), off @ up / depth], -1)

    def fitted(self, points: Array, aspect: float, box: tuple[float, float, float, float]) -> Camera:
        """Moved so that `points` [N, 3] just fill the `box` (left, right, bottom, top, each of -1 to 1)."""
        camera = replace(self, focus=(0.0, 0.0, 0.0))
        left, right, bottom, top = box
        for _ in range(40):
            seen = camera.project(points, aspect)
            low, high = seen.min(0), seen.max(0)
            reach = np.tan(np.radians(ANGLE / 2)) * camera.distance
            off = (low + high) / 2 - np.array([(left + right) / 2, (bottom + top) / 2])
            x, y, _ahead = camera.axes
            focus = np.asarray(camera.focus) + reach * (off[0] * aspect * x + off[1] * y)
            grow = float(max((high - low)[0] / (right - left), (high - low)[1] / (top - bottom)))
            distance = float(np.clip(camera.distance * (0.5 + 0.5 * grow), 0.3, 50.0))
            camera = replace(camera, focus=(float(focus[0]), float(focus[1]), float(focus[2])), distance=distance)
        return camera


def read_camera(text: str | None) -> Camera:
    """The camera of `azimuth,elevation` or `azimuth,elevation,distance`; InputError for what is no such numbers."""
    if text is None:
        return Camera()
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if (
        len(numbers) not in (2, 3)
        or not np.isfinite(numbers).all()
        or abs(numbers[1]) >= 90
        or min(numbers[2:], default=1) <= 0
    ):
        raise InputError(
            f"the camera {text!r} is not AZIMUTH,ELEVATION or AZIMUTH,ELEVATION,DISTANCE, with degrees, an elevation "
            "between -90 and 90, and a distance above 0 in extents. An example is -66,38."
        )
    return Camera(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else Camera.distance)
