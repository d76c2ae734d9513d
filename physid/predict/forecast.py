"""Forecast: mean, bands and predictability horizon."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.inputs import Inputs
from physid.door import bounded
from physid.errors import InputError
from physid.formats import plain, table_bytes
from physid.inference.marginal import part
from physid.inference.noise import NoiseModel
from physid.inference.noise_models import of_settings
from physid.inference.result import FitResult
from physid.inference.seeds import each
from physid.inference.simulate import Prediction, simulate
from physid.predict.draws import drawn
from physid.predict.ensemble import FEWEST, band
from physid.predict.predictability import Horizon, horizon
from physid.store import write

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
POINTS, DRAWS = 1_000_000, 1_000_000  # at most, unless limits are raised
LEAST_DRAWS = 100
NONE: Any = None


@dataclass(frozen=True)
class Coverage:
    """Numbers of `count` held-out observations in the 95 % bands: of the unknowns, and of unknowns and noise."""

    count: int
    parameters: float | None
    noise: float | None


@dataclass(frozen=True)
class Forecast:
    """Observations [T, M] at `times` [T]: the mean and the ends of two 95 % bands.

    `low` and `high` bound what the uncertainty of the unknowns leaves open of the noise-free observations; `noise_low`
    and `noise_high` where a new measurement falls. `method` is "linearised": mean -+ q sqrt(diag(J C J^T)), J the exact
    derivative by the unknowns and C their covariance; or "sampled": quantiles of the observations of so many draws of
    the unknowns; a trained network says its own (predict/networks.py). Not-a-number where there is no covariance, or no
    known noise. `horizon` says until when the signal is predictable, `coverage` how the bands did on
    held-out data. `message` says why a forecast ends early, if it does. `experiment` holds what was measured, which
    pictures show beside it, and `seen` the last time of which the predictor was shown anything, where it is not known
    from there.
    """

    times: Array
    mean: Array
    low: Array
    high: Array
    channels: tuple[str, ...]
    unit: str = ""
    time_unit: str = ""
    message: str = ""
    noise_low: Array = NONE
    noise_high: Array = NONE
    method: str = "linearised"
    coverage: Coverage | None = None
    horizon: Horizon | None = None
    experiment: Experiment | None = field(default=None, repr=False)
    seen: float | None = None

    def __post_init__(self) -> None:
        """Without a known noise there is no band of it."""
        for name in ("noise_low", "noise_high"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(self.mean.shape, np.nan))

    @property
    def columns(self) -> list[str]:
        """The names of the columns of `rows`: the time, then five for each channel."""
        ends = ("", "_low", "_high", "_noise_low", "_noise_high")
        return ["time", *(f"{name}{end}" for name in self.channels for end in ends)]

    def rows(self) -> Array:
        """The table [T, 1 + 5 M]."""
        parts = (self.mean, self.low, self.high, self.noise_low, self.noise_high)
        return np.column_stack([self.times, np.stack(parts, -1).reshape(len(self.times), -1)])

    def frame(self) -> pd.DataFrame:
        """The table with pandas."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=self.columns)

    def csv(self, path: str | Path) -> None:
        """Write the table as CSV."""
        write(Path(path), table_bytes(self.columns, self.rows().tolist()))

    def facts(self) -> dict[str, Any]:
        """Method and coverage of the bands, and the predictability horizon."""
        return {
            "method": self.method,
            "coverage": None if self.coverage is None else vars(self.coverage),
            "horizon": None if self.horizon is None else vars(self.horizon),
        }

    def json(self) -> dict[str, Any]:
        """The forecast as data that JSON can say, not-a-number as null."""
        names = ("mean", "low", "high", "noise_low", "noise_high")
        about = {
            **self.facts(),
            "level": LEVEL,
            "unit": self.unit,
            "time_unit": self.time_unit,
            "message": self.message,
            "times": self.times,
            "channels": {c: {n: getattr(self, n)[:, i] for n in names} for i, c in enumerate(self.channels)},
        }
        found: dict[str, Any] = plain(about)
        return found

    def __str__(self) -> str:
        """The forecast in a sentence, without its numbers."""
        how = "" if self.method == "linearised" else f" ({self.method})"
        bands = self.method if self.method.startswith("no band") else f"with 95 % bands{how}"
        lines = [
            f"Forecast up to {self.times[-1]:g} {self.time_unit}".rstrip() + f", {bands}.".replace(", with", " with")
        ]
        if self.coverage is not None:
            alone = "the seeds' spread" if "spread of" in self.method else "parameters alone"
            known = {alone: self.coverage.parameters, "parameters and noise": self.coverage.noise}
            parts = [f"{100 * part:.1f} % in the band of {name}" for name, part in known.items() if part is not None]
            if parts:
                lines.append(f"Of {self.coverage.count} held-out observations: {', '.join(parts)}.")
        if self.horizon is not None:
            lines.append(self.horizon.sentence)
        return "\n".join([*lines, *([self.message] if self.message else [])])


def forecast(
    fit: FitResult, until: float | Sequence[float] | Array, points: int = 201, draws: int = 0, seed: int = 0
) -> Forecast:
    """The forecast of a fit at the times `until`, or at `points` times from the initial time to the one time `until`.

    Errors: as of `predict`.
    """
    return predict(fit, times_of(fit.experiment, until, points), draws=draws, seed=seed)


def predict(fit: FitResult, times: Array, inputs: Inputs | None = None, draws: int = 0, seed: int = 0) -> Forecast:
    """The forecast of a fit at `times` [T], driven by `inputs` in place of those of its experiment.

    With `draws` the bands are sampled: so many draws of the unknowns from their normal distribution in the transformed
    space (Student's t where the noise was estimated), solved as one batch. What was measured under other inputs is not
    held against the forecast. Errors: InputError for times that do not increase from the initial time, inputs that do
    not cover them, or too few draws.
    """
    if draws and draws < LEAST_DRAWS:
        raise InputError(f"{draws} draws were asked for: expected {LEAST_DRAWS} or more, or none.")
    bounded("draws", draws, DRAWS, 0)
    given = times_of(fit.experiment, times)
    measured = fit.experiment if inputs is None else None
    fit = fit if inputs is None else driven(fit, inputs)
    if fit.experiment.inputs is not None:
        fit.experiment.inputs.need(float(fit.experiment.initial_time or 0.0), float(given[-1]))
    held = None if measured is None else held_out(measured, float(given[-1]))
    times = given if held is None else np.union1d(given, held[0])
    rows = np.searchsorted(times, given)
    if fit.members:
        found, message, deviation = each(fit, times), "", None
        mean, none = found.mean(0), np.full(found.shape[1:], np.nan)
        bands = (*band(found, LEVEL), none, none)
        many = f"mean and spread of {len(found)} seeds, no covariance"
        method = many if len(found) >= FEWEST else f"no band: {len(found)} of {FEWEST} seeds or more"
    else:
        (said,) = simulate(fit.vector, [fit.x], times, fit.integrator, sensitivities=True)
        mean, message = said.mean, "" if said.solution.ok else said.solution.message
        bands = _sampled(fit, said, times, draws, seed) if draws else _linearised(fit, said)
        method = f"sampled, {draws} draws" if draws else "linearised"
        deviation = None if fit.covariance is None else np.sqrt(_variance(fit.covariance, said))
    low, high, noise_low, noise_high = (one[rows] for one in bands)
    return Forecast(
        times=given,
        mean=mean[rows],
        low=low,
        high=high,
        channels=fit.experiment.channels,
        unit=fit.experiment.unit,
        time_unit=fit.experiment.time_unit,
        message=message,
        noise_low=noise_low,
        noise_high=noise_high,
        method=method,
        coverage=None if held is None else coverage_of(times, bands, held),
        horizon=None if deviation is None else horizon(fit, times, mean, deviation),
        experiment=measured,
    )


def driven(fit: FitResult, inputs: Inputs) -> FitResult:
    """The part of a fit that is about its first experiment, driven by other inputs."""
    fit = part(fit, fit.experiment.name) if len(fit.experiments) > 1 else fit
    experiment = copy(fit.experiment)
    object.__setattr__(experiment, "inputs", inputs)  # they need not cover what was measured under the others
    return replace(fit, model=deepcopy(fit.model), experiment=experiment, experiments=[experiment])


def times_of(experiment: Experiment, until: float | Sequence[float] | Array, points: int = 201) -> Array:
    """The times asked for [T]: those of `until`, or `points` times from the initial time to the one time `until`.

    Errors: InputError for times that do not increase from the initial time, and for fewer than two points.
    """
    bounded("points", points, POINTS, 0)
    start = float(experiment.initial_time or 0.0)
    given = np.asarray(until, dtype=np.float64)
    if given.ndim == 0:
        if points < 2:
            raise InputError(f"{points} points were asked for: expected two or more.")
        given = np.linspace(start, float(given), points)
    if (
        given.ndim != 1
        or not len(given)
        or not np.isfinite(given).all()
        or np.any(np.diff(given) <= 0)
        or given[0] < start
    ):
        raise InputError(
            f"a forecast was asked for at times that do not increase from the initial time {start:g}. "
            "Give later times, in order."
        )
    return given


def held_out(experiment: Experiment, until: float) -> tuple[Array, Array] | None:
    """Times [T] and observations [T, M] beyond training and up to `until`, not-a-number where nothing was measured."""
    later = experiment.forecast
    if later is None or float(later.times[0]) > until:
        return None
    rows = later.times.numpy() <= until
    mask = later.mask.reshape(len(later), -1).numpy()[rows]
    values = np.where(mask, later.observations.reshape(len(later), -1).numpy()[rows], np.nan)
    return later.times.numpy()[rows], values


def _variance(covariance: Array, found: Prediction) -> Array:
    """The variance [T, M] that the uncertainty of the unknowns leaves to the observations."""
    return np.asarray(np.maximum((found.slopes @ covariance * found.slopes).sum(-1), 0.0))


def noise_of(fit: FitResult) -> tuple[NoiseModel, Array] | None:
    """The noise and its sigma of every channel [M], known or estimated; None where there is none, or but a loss."""
    statistics, channels = fit.statistics, fit.experiment.channels
    noise = of_settings(fit.settings)
    if statistics is None or statistics.sigma is None or not noise.likelihood:
        return None
    known = fit.experiment.sigma if noise.normal else None
    sigmas: Any = known or statistics.sigma
    if noise.estimated and not known:
        if fit.likelihood is None or statistics.dof <= 0 or any(c not in fit.likelihood.sigmas for c in channels):
            return None
        factor = np.sqrt(fit.likelihood.observations / statistics.dof)
        sigmas = [factor * fit.likelihood.sigmas[name] for name in channels]
    return noise, np.broadcast_to(np.asarray(sigmas, dtype=np.float64), len(channels))


def _linearised(fit: FitResult, found: Prediction) -> tuple[Array, Array, Array, Array]:
    """The ends of both bands [T, M] from the derivative of the observations."""
    none = np.full(found.mean.shape, np.nan)
    if fit.statistics is None or fit.covariance is None:
        return none, none, none, none
    deviation, quantile = np.sqrt(_variance(fit.covariance, found)), fit.statistics.quantile(LEVEL)
    inner, outer, noise = quantile * deviation, (none, none), noise_of(fit)
    if noise is not None:
        outer = noise[0].band(found.mean, deviation, noise[1], quantile, LEVEL)
    return found.mean - inner, found.mean + inner, *outer


def _sampled(
    fit: FitResult, found: Prediction, times: Array, draws: int, seed: int
) -> tuple[Array, Array, Array, Array]:
    """The ends of both bands [T, M] as quantiles over draws of the unknowns."""
    none = np.full(found.mean.shape, np.nan)
    if fit.statistics is None or fit.covariance is None:
        return none, none, none, none
    random, noise = np.random.default_rng(seed), noise_of(fit)
    xs, heavy = drawn(fit, draws, random)
    seen = np.stack([one.mean for one in simulate(fit.vector, xs, times, fit.integrator)])
    fit.vector.put(fit.x)
    ends = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
    low, high = np.quantile(seen, ends, axis=0)
    if noise is None:
        return low, high, none, none
    seen = noise[0].draw(seen, noise[1] * heavy[:, :, None], random)
    return low, high, *np.quantile(seen, ends, axis=0)


def coverage_of(times: Array, bands: tuple[Array, Array, Array, Array], held: tuple[Array, Array]) -> Coverage:
    """Coverage of held-out observations by the bands."""
    rows, measured = np.searchsorted(times, held[0]), np.isfinite(held[1])
    parts: list[float | None] = []
    for low, high in ((bands[0], bands[1]), (bands[2], bands[3])):
        known = np.isfinite(low[rows]) & np.isfinite(high[rows])
        inside = (held[1] >= low[rows]) & (held[1] <= high[rows])
        parts.append(float(inside[measured].mean()) if known[measured].all() and measured.any() else None)
    return Coverage(int(measured.sum()), *parts)
