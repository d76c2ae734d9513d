"""Layers: the meshes of a picture at one time, as arrays with colours, in units of the largest extent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from physid.arrays import Array
from physid.plots.look import Theme, mix
from physid.viewer import geometry
from physid.viewer.geometry import Surface, circle, dashes, even, merged, nice, tubes
from physid.viewer.tracks import FOLDS, Tracks

TUBE = 1 / 300  # radius of a truth
THIN, PALE = 0.72, 0.55  # the training part: thinner, and mixed into the background
DASH, GAP = 0.030, 0.030
SPHERE, LEAST = 0.024, 0.008  # radius of the heaviest body, and of any
BANDS = ((2.0, 0.085), (1.0, 0.16))  # standard deviations and opacity
NARROW = 0.02  # of the extent: where strands begin
STEP = 0.006  # between the rings of a tube
DROP = 0.17  # of the floor below the lowest point


@dataclass(frozen=True)
class Layer:
    """One mesh: a lit surface, or thin `lines` (a list of paths [N, 3]) of `width` pixels; its colour and opacity."""

    name: str
    color: str
    surface: Surface = geometry.EMPTY
    lines: Sequence[Array] = field(default_factory=list)
    width: float = 1.0
    opacity: float = 1.0


@dataclass(frozen=True)
class Frame:
    """From the run's lengths to those of the picture: (r - center) / extent."""

    center: Array
    extent: float

    def place(self, points: Array) -> Array:
        """Points [..., 3] as the picture has them."""
        return np.asarray((points - self.center) / self.extent)


@dataclass(frozen=True)
class Shown:
    """Layers that are shown: of truth, forecast, bands and trails each or not, and only the last `window` of time."""

    truth: bool = True
    forecast: bool = True
    bands: bool = True
    trails: bool = True
    window: float | None = None


def frame_of(runs: Sequence[Tracks]) -> Frame:
    """One frame for several runs, so that they can be compared."""
    known = [run.extent for run in runs]
    low = np.min([center - extent / 2 for center, extent in known], axis=0)
    high = np.max([center + extent / 2 for center, extent in known], axis=0)
    return Frame((low + high) / 2, max(extent for _, extent in known))


def cut(path: Array, times: Array, begin: float, end: float) -> Array:
    """The part of a path [T, 3] between two times, its ends by straight lines; without what is not finite."""
    if not end > begin:
        return np.empty((0, 3))
    inside = (times > begin) & (times < end)
    ends = [np.array([np.interp(t, times, path[:, axis]) for axis in range(3)])[None] for t in (begin, end)]
    found = np.concatenate([ends[0], path[inside], ends[1]])
    return np.asarray(found[np.isfinite(found).all(-1)])


def at(path: Array, times: Array, time: float) -> Array:
    """The point [3] of a path at a time."""
    return np.array([np.interp(time, times, path[:, axis]) for axis in range(3)])


def layers(run: Tracks, theme: Theme, frame: Frame, time: float, shown: Shown | None = None) -> Iterator[Layer]:
    """Every mesh of a run at `time`; each keeps its name from time to time, and may be empty."""
    shown = shown or Shown()
    time = float(np.clip(time, run.times[0], run.times[-1]))
    begin = float(run.times[0]) if shown.window is None else max(float(run.times[0]), time - shown.window)
    trained = float(run.times[-1]) if run.trained is None else min(run.trained, float(run.times[-1]))
    truth, forecast = frame.place(run.truth), frame.place(run.forecast)
    spans = {"trained": (begin, min(time, trained)), "beyond": (max(begin, trained), time)}
    yield from _truth(run, theme, truth, spans, shown)
    yield from _forecast(run, theme, forecast, spans, shown)
    yield from _bands(run, theme, frame, (begin, time), shown)
    yield from _marks(run, theme, (truth, forecast), time, shown)
    if run.center:
        yield Layer("center", mix(theme.ink, theme.background, 0.3), sphere(frame.place(np.zeros(3)), SPHERE))
    ring = shown.trails and begin <= trained <= time and trained < run.times[-1]
    yield Layer("end of training", theme.ink, _rings(run, truth if run.rms is not None else forecast, trained, ring))


def _truth(
    run: Tracks, theme: Theme, paths: Array, spans: dict[str, tuple[float, float]], shown: Shown
) -> Iterator[Layer]:
    """Solid tubes, thinner and paler where it was trained on."""
    for b in range(len(run.names)):
        color = theme.body(run.places[b])
        for part, span in spans.items():
            path = cut(paths[:, b], run.times, *span) if shown.truth and shown.trails else np.empty((0, 3))
            thin = part == "trained"
            surface = _tube(path, TUBE * (THIN if thin else 1.0))
            yield Layer(f"truth {part} {b}", mix(color, theme.background, PALE) if thin else color, surface)


def _tube(path: Array, radius: float) -> Surface:
    return tubes(even(path, STEP)[0][None], radius) if len(path) > 1 else geometry.EMPTY


def _forecast(
    run: Tracks, theme: Theme, paths: Array, spans: dict[str, tuple[float, float]], shown: Shown
) -> Iterator[Layer]:
    """Dashes of all bodies as one mesh for each range; they stay in place while the path grows."""
    for part, span in spans.items():
        found = []
        for b in range(len(run.names)):
            if shown.forecast and shown.trails:
                path = cut(paths[:, b], run.times, *span)
                before = cut(paths[:, b], run.times, float(run.times[0]), span[0])
                first = float(geometry.length(before)[-1]) if len(before) else 0.0
                found.append(dashes(path, DASH, GAP, first=first) if len(path) > 1 else np.empty((0, 7, 3)))
        thin = part == "trained"
        radius = 1.2 * TUBE * (THIN if thin else 1.0)
        surface = tubes(np.concatenate(found), radius) if found else geometry.EMPTY
        color = mix(theme.forecast, theme.background, 0.45) if thin else theme.forecast
        yield Layer(f"forecast {part}", color, surface)


def _bands(run: Tracks, theme: Theme, frame: Frame, span: tuple[float, float], shown: Shown) -> Iterator[Layer]:
    """Tubes of one and two standard deviations up to where they would fold, strands of the ensemble from there on."""
    paths = frame.place(run.forecast)
    folds = [fold_time(run, frame, b) for b in range(len(run.names))]
    for reach, opacity in BANDS:
        found = []
        for b in range(len(run.names)):
            end = min(span[1], folds[b])
            if not (shown.bands and shown.trails and end > span[0] and np.isfinite(run.sigma[:, b]).all()):
                continue
            path = cut(paths[:, b], run.times, span[0], end)
            hidden = reach * float(run.sigma[:, b].max()) < TUBE * frame.extent  # within the tube of the forecast
            if len(path) < 2 or hidden:
                continue
            line, _ = even(path, 2 * STEP)
            times = np.interp(*_timed(line, path, run.times, span[0], end))
            radius = reach * np.interp(times, run.times, run.sigma[:, b]) / frame.extent
            found.append(tubes(line[None], radius[None], sides=24, caps=8))
        yield Layer(f"band {reach:g} sigma", theme.forecast, merged(found), opacity=opacity)
    yield Layer("strands", theme.forecast, _strands(run, frame, span, folds, shown), opacity=0.38)


def _timed(line: Array, path: Array, times: Array, begin: float, end: float) -> tuple[Array, Array, Array]:
    """Arguments of np.interp for the times of an evenly spaced `line` along a `path` cut from begin to end."""
    inside = times[(times > begin) & (times < end)]
    known = np.concatenate([[begin], inside, [end]])[-len(path) :]
    return geometry.length(line), geometry.length(path), known


def fold_time(run: Tracks, frame: Frame, body: int) -> float:
    """The time from which strands replace the band of a body; infinite when that is never too wide for a tube.

    It is the last time before the band grows too wide at which it is still narrow, so that the strands come out of it.
    """
    width = run.sigma[:, body] / frame.extent
    wide = np.flatnonzero(width > FOLDS)
    if not len(wide):
        return np.inf
    narrow = np.flatnonzero(width[: wide[0]] < NARROW)
    return float(run.times[narrow[-1] if len(narrow) else 0])


def _strands(run: Tracks, frame: Frame, span: tuple[float, float], folds: list[float], shown: Shown) -> Surface:
    """Thin tubes along the drawn forecasts, from where the band ends."""
    found = []
    for strand in frame.place(run.strands) if shown.bands and shown.trails else ():
        for b, fold in enumerate(folds):
            path = cut(strand[:, b], run.times, max(span[0], fold), span[1])
            near = np.flatnonzero(np.abs(path).max(-1) > 1.5) if len(path) else np.array([], dtype=np.int64)
            path = path[: near[0]] if len(near) else path  # one that leaves the picture ends there
            if len(path) > 1:
                found.append(tubes(even(path, 2 * STEP)[0][None], 0.45 * TUBE, sides=6, caps=1))
    return merged(found)


def _marks(run: Tracks, theme: Theme, paths: tuple[Array, Array], time: float, shown: Shown) -> Iterator[Layer]:
    """The bodies where they are, those of the forecast translucent, and a thin line between the two."""
    truth, forecast = paths
    links = []
    for b in range(len(run.names)):
        size = radius_of(run, b)
        here, there = at(truth[:, b], run.times, time), at(forecast[:, b], run.times, time)
        known = bool(np.isfinite(here).all())
        color = theme.body(run.places[b])
        yield Layer(f"body {b}", color, sphere(here, size) if shown.truth and known else geometry.EMPTY)
        ball = sphere(there, 0.93 * size) if shown.forecast else geometry.EMPTY
        yield Layer(f"forecast body {b}", theme.forecast, ball, opacity=0.62 if known and shown.truth else 1.0)
        if known and shown.truth and shown.forecast and np.linalg.norm(here - there) > size:
            links.append(np.stack([here, there]))
    yield Layer("links", theme.ink, lines=links, width=1.2)


def radius_of(run: Tracks, body: int) -> float:
    """The radius of a body's sphere: by the cube root of its mass."""
    return max(SPHERE * float(np.cbrt(run.mass[body])), LEAST)


def _rings(run: Tracks, paths: Array, trained: float, there: bool) -> Surface:
    """A torus about every track at the end of training."""
    found = []
    for b in range(len(run.names)) if there else ():
        path = cut(paths[:, b], run.times, float(run.times[0]), trained)
        if len(path) > 2:
            ring = circle(path[-1], path[-1] - path[-3], 3.4 * TUBE)
            found.append(tubes(ring[None], 0.85 * TUBE, sides=8, caps=1))
    return merged(found)


def sphere(center: Array, radius: float, rings: int = 24) -> Surface:
    """A ball as a surface."""
    theta = np.linspace(1e-3, np.pi - 1e-3, rings)
    line = np.stack([np.zeros(rings), np.zeros(rings), -np.cos(theta)], -1)
    angle = np.linspace(0.0, 2 * np.pi, 2 * rings, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
    normals = (line[:, None] + np.sin(theta)[:, None, None] * around[None]).reshape(-1, 3)
    return Surface(center + radius * normals, normals, geometry.strip(1, rings, 2 * rings))


def floor(runs: Sequence[Tracks], frame: Frame, theme: Theme) -> tuple[list[Layer], list[tuple[str, Array]]]:
    """Pale rings and the shadows of the tracks below them, and the labels of the rings with their places."""
    paths = [frame.place(np.where(np.isfinite(run.truth), run.truth, run.forecast)) for run in runs]
    low = min(float(np.nanmin(path[..., 2])) for path in paths) - DROP
    middle = frame.place(np.zeros(3)) if any(run.center for run in runs) else np.zeros(3)
    middle = np.array([middle[0], middle[1], low])
    reach = max(float(np.nanmax(np.linalg.norm(path[..., :2] - middle[:2], axis=-1))) for path in paths)
    step = nice(reach * frame.extent / 2)
    rings, labels = [], []
    for k in range(1, int(np.ceil(1.05 * reach * frame.extent / step)) + 1):
        radius = k * step / frame.extent
        rings.append(circle(middle, np.array([0.0, 0.0, 1.0]), radius))
        text = f"{k * step:.4g} {runs[0].unit}".strip()
        labels.append((text, middle + radius * np.array([np.cos(np.radians(-58)), np.sin(np.radians(-58)), 0.0])))
    shadows = []
    for path in paths[:1]:
        for b in range(path.shape[1]):
            shadow = path[np.isfinite(path[:, b]).all(-1), b].copy()
            shadow[:, 2] = low
            shadows.append(shadow)
    pale = mix(theme.faint, theme.background, 0.25)
    return [
        Layer("floor", theme.faint, lines=rings, width=1.0),
        Layer("shadows", pale, lines=shadows, width=1.0),
    ], labels
