"""Tracks: the paths, bands and marks of a forecast as plain arrays, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.errors import Diverged, InputError, unknown_name
from physid.plots.bodies import Body, find_bodies
from physid.predict.forecast import Forecast
from physid.predict.predictor import Predictor

POINTS = 1001  # times of a track, at most, unless more are measured of it
NORMAL = 1.959963984540054  # the reach of a 95 % band in standard deviations
FOLDS = 0.08  # of the extent: a band wider than this folds on itself, and strands are drawn
STRANDS = 16
J2000 = "d since J2000"


@dataclass(frozen=True)
class Tracks:
    """Bodies over time: `forecast` and `truth` [T, B, 3], not-a-number where not known, at `times` [T].

    `sigma` [T, B] is the root of the sum of the three variances of a position that the uncertainty of the unknowns
    makes: the rms distance from the forecast. `strands` [D, T, B, 3] are forecasts for unknowns drawn from their
    covariance; there are some only where a band would fold on itself. `mass` [B] is relative to the largest. `trained`
    is the time at which training ends; `center` names the body in the origin that positions are relative to, if any.
    `measured` [T, B] is where the truth is not interpolated, and `word` says what it is: truth or measured.
    """

    title: str
    subtitle: str
    names: tuple[str, ...]
    times: Array
    forecast: Array
    truth: Array
    sigma: Array
    strands: Array
    mass: Array
    measured: NDArray[np.bool_]
    word: str = "truth"
    trained: float | None = None
    center: str = ""
    unit: str = ""
    time_unit: str = ""
    places: tuple[int, ...] = ()

    @property
    def error(self) -> Array:
        """The distance [T, B] between forecast and truth; not-a-number where that was not measured."""
        return np.where(self.measured, np.linalg.norm(self.forecast - self.truth, axis=-1), np.nan)

    @property
    def rms(self) -> float | None:
        """The rms distance over bodies and the times beyond training; None where no truth is known."""
        late = self.times > (-np.inf if self.trained is None else self.trained)
        squared = self.error[late] ** 2
        squared = squared[np.isfinite(squared)]
        return float(np.sqrt(squared.mean())) if len(squared) else None

    @property
    def score(self) -> str:
        """`rms` with its unit, in words; nothing where no truth is known."""
        return "" if self.rms is None else f"{self.rms:.3g} {self.unit}".rstrip()

    @property
    def extent(self) -> tuple[Array, float]:
        """Centre [3] and largest extent of the truth, or of the forecast where no truth is known."""
        known = self.truth[np.isfinite(self.truth).all(-1)]
        points = known if len(known) else self.forecast[np.isfinite(self.forecast).all(-1)]
        if self.center:
            points = np.concatenate([points, np.zeros((1, 3))])
        low, high = points.min(0), points.max(0)
        return (low + high) / 2, float((high - low).max()) or 1.0

    def index(self, time: float) -> int:
        """The place of the last time that is not after `time`."""
        return int(np.clip(np.searchsorted(self.times, time, side="right") - 1, 0, len(self.times) - 1))

    def only(self, bodies: Sequence[str]) -> Tracks:
        """These bodies alone, by name; InputError for a name that is none."""
        for name in bodies:
            if name not in self.names:
                raise unknown_name("body", name, self.names)
        keep = [i for i, name in enumerate(self.names) if name in bodies]
        if not keep:
            raise InputError(f"no body is left: expected one or more of {', '.join(self.names)}.")
        return replace(
            self,
            names=tuple(self.names[i] for i in keep),
            places=tuple(self.places[i] for i in keep),
            mass=self.mass[keep],
            **{name: getattr(self, name)[:, keep] for name in ("forecast", "truth", "sigma", "measured")},
            strands=self.strands[:, :, keep],
        )


def tracks_of_fit(run: Predictor, until: float | None = None, title: str = "") -> Tracks:
    """The tracks of a run up to the time `until`, or the end of its data, in the experiment's own time.

    Errors: InputError when what is observed are no bodies in space; Diverged when the model does not reach beyond the
    first times.
    """
    last = run.experiment.test or run.experiment.train
    end = float(last.times[-1]) if until is None else float(until)
    found = run.predict(grid(run.experiment, end))
    tracks = tracks_of(found, mass=run.strengths)
    if np.nanmax(tracks.sigma, initial=0.0) > FOLDS * tracks.extent[1]:
        strands = _positions(run.paths(found.times, STRANDS), find_bodies(found.channels))
        tracks = replace(tracks, strands=strands[:, : len(tracks.times)])
    return replace(tracks, title=title or f"{run.experiment.name} · {run.settings.get('model', '')}")


def tracks_of(forecast: Forecast, experiment: Experiment | None = None, mass: Array | None = None) -> Tracks:
    """The tracks of a forecast, beside the truth that `experiment`, or its own, holds of it at the same times.

    Errors: InputError when its channels are not the coordinates of bodies; Diverged when nothing of it is finite.
    """
    bodies = find_bodies(forecast.channels)
    if not bodies:
        raise InputError(
            f"{', '.join(forecast.channels)} are no coordinates of bodies (x1, y1, z1, ... or name.x, name.y, ...): "
            "use the phase portrait and the time series."
        )
    experiment = forecast.experiment if experiment is None else experiment
    path = _positions(forecast.mean, bodies)
    reached = np.isfinite(path.reshape(len(path), -1)).min(axis=1, initial=True)
    count = len(reached) if reached.all() else int(np.argmin(reached))
    if count < 2:
        raise Diverged(f"the forecast has no two times to show: {forecast.message or 'it is not finite'}")
    spread = _positions((forecast.high - forecast.low) / (2 * NORMAL), bodies)
    truth, measured = np.full(path.shape, np.nan), np.zeros(path.shape[:2], dtype=bool)
    if experiment is not None:
        truth, measured = _truth(experiment, forecast.times, bodies)
    times, time_unit = shown_times(forecast.times, forecast.time_unit)
    trained = None
    if experiment is not None:
        trained = float(shown_times(experiment.train.times[-1:].numpy(), forecast.time_unit)[0][0])
    weight = np.ones(len(bodies)) if mass is None or len(mass) != len(bodies) else np.abs(mass)
    return Tracks(
        title=experiment.name if experiment is not None else "forecast",
        subtitle=_subtitle(times, trained, time_unit),
        names=tuple(body.name for body in bodies),
        times=times[:count],
        forecast=path[:count],
        truth=truth[:count],
        sigma=np.sqrt((spread[:count] ** 2).sum(-1)),
        strands=np.empty((0, count, len(bodies), 3)),
        mass=weight / (weight.max() or 1.0),
        measured=measured[:count],
        word="truth" if experiment is None or "initial" in experiment.truth or experiment.sigma else "measured",
        trained=trained,
        center=_center(experiment),
        unit=forecast.unit,
        time_unit=time_unit,
        places=tuple(range(len(bodies))),
    )


def grid(experiment: Experiment, until: float) -> Array:
    """The times of a picture: those that were measured, thinned to a thousand, and as dense ones where none were.

    Errors: InputError when `until` is not after the initial time.
    """
    start = float(experiment.initial_time)
    if not until > start:
        raise InputError(
            f"a picture until {until:g} was asked for, but the data start at {start:g}. Give a later time."
        )
    parts = [part.times.numpy() for part in (experiment.train, experiment.test) if part is not None]
    known = np.unique(np.concatenate(parts))
    known = known[known <= until]
    if len(known) > POINTS:
        known = known[np.unique(np.linspace(0, len(known) - 1, POINTS).astype(int))]
    even = np.linspace(start, until, POINTS)
    step = even[1] - even[0]
    near = (
        np.abs(known[np.clip(np.searchsorted(known, even), 0, len(known) - 1)] - even) if len(known) else even * np.inf
    )
    before = np.abs(known[np.clip(np.searchsorted(known, even) - 1, 0, None)] - even) if len(known) else near
    return np.unique(np.concatenate([known, even[np.minimum(near, before) > 0.6 * step]]))


def shown_times(times: Array, unit: str) -> tuple[Array, str]:
    """Times as they are read, with their unit: days since J2000 become calendar years, others stay."""
    return (2000.0 + times / 365.25, "year") if unit == J2000 else (times, unit)


def _positions(values: Array, bodies: Sequence[Body]) -> Array:
    """Positions [..., B, 3] of values [..., M]; motion in a plane has z = 0."""
    parts = [values[..., list(body.places)] for body in bodies]
    padded = [np.concatenate([p, np.zeros((*p.shape[:-1], 3 - p.shape[-1]))], -1) for p in parts]
    return np.stack(padded, -2)


def _truth(experiment: Experiment, times: Array, bodies: Sequence[Body]) -> tuple[Array, NDArray[np.bool_]]:
    """True positions of bodies at `times` [T, B, 3]: the test, or else the training data, if they are without noise.

    Between measured times it is interpolated with a cubic, so that a track is whole; beyond them it is not-a-number.
    And where it was measured [T, B].
    """
    from scipy.interpolate import CubicSpline

    found = np.full((len(times), len(bodies), 3), np.nan)
    measured = np.zeros(found.shape[:2], dtype=bool)
    for part in (experiment.train, experiment.test):
        if part is None or (part is experiment.train and experiment.sigma):
            continue
        values = part.observations.reshape(len(part), -1).numpy()
        t, path = part.times.numpy(), _positions(values, bodies)
        for b in range(len(bodies)):
            seen = np.isfinite(path[:, b]).all(-1)
            if seen.sum() >= 4:
                inside = (times >= t[seen][0]) & (times <= t[seen][-1])
                found[inside, b] = CubicSpline(t[seen], path[seen, b])(times[inside])
                measured[inside, b] = np.isin(times[inside], t[seen])
    if experiment.test is not None and not experiment.sigma:
        _bridge(found, times, float(experiment.train.times[-1]), float(experiment.test.times[0]))
    return found, measured


def _bridge(truth: Array, times: Array, last: float, first: float) -> None:
    """Fill the truth between the last time of training and the first of the test, where the test begins later."""
    inside = (times > last) & (times < first)
    left, right = np.flatnonzero(times <= last), np.flatnonzero(times >= first)
    if inside.any() and len(left) and len(right):
        a, b = left[-1], right[0]
        weight = ((times[inside] - times[a]) / (times[b] - times[a]))[:, None, None]
        truth[inside] = (1 - weight) * truth[a] + weight * truth[b]


def _center(experiment: Experiment | None) -> str:
    """The name of the body that positions are relative to, where the experiment has one."""
    if experiment is None or experiment.constants.get("relative_to") is None:
        return ""
    bodies = experiment.options.get("bodies")
    place = int(experiment.constants["relative_to"])
    return str(bodies[place]) if bodies is not None and place < len(bodies) else "center"


def _subtitle(times: Array, trained: float | None, unit: str) -> str:
    """Model, data and end of the forecast."""
    after = f" {unit}" if unit and unit != "year" else ""
    if trained is None:
        return f"forecast to {times[-1]:.4g}{after}"
    if trained >= times[-1]:
        return f"fitted on [{times[0]:.4g}, {times[-1]:.4g}]{after}"
    return f"fitted on [{times[0]:.4g}, {trained:.4g}]{after}, forecast to {times[-1]:.4g}"
