"""Fit: what a fit found, and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.exits import EXIT_CODES
from physid.inference.parameters import Vector, vector_of
from physid.inference.search.monitor import Progress
from physid.inference.search.one_start import Start
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.information import Likelihood
from physid.inference.uncertainty.statistics import Statistics
from physid.modelling.model import Model
from physid.ode import Integrator
from physid.runs.writer import Origin

if TYPE_CHECKING:
    from physid.inference.uncertainty.profile import Profile
    from physid.predict.forecast import Forecast
    from physid.report.text import Report

REFUSED = 3  # of a converged fit that does not fit known noise, or is of no use


@dataclass
class Fit:
    """The result of `fit`: the model at its best unknowns, the estimates, scores, history, and how it was had.

    `status` is "converged", "not converged", "diverged", "interrupted" or "time limit", `message` a sentence.
    `x` [Q] are the unknowns in the transformed space, in the order of `estimates`; `statistics` is None when the model
    could not be solved at them. `scores` holds mse and rmse by train, test and forecast, None where there is none;
    `trivial` those of the forecasts of three trivial forecasters, by name. `experiments` are all that were fitted,
    `experiment` the first of them, `scores_of` the scores of each by its name.
    `likelihood` is None with a robust loss. `starts` are the records of many starts, in the order of the starts.
    `paper` compares with the published figures where the fit followed a protocol of the paper. `origin` is how the fit
    began and `held` where its search stood last, so that it can be replayed and continued; `profiles` are those made.
    `derived` are quantities that the model reads out of its unknowns, `combinations` those products and quotients of
    unknowns that the data determine where they do not determine each, `shares` how much of the derivative of every
    state each of the model's parts makes up along the data. `members` are the vectors x from several seeds, `x` the
    first of them; forecasts and scores are then of their mean. `gradient_error` is the relative error of the
    derivatives of the predictions, estimated by a solve at a hundredth of the tolerances; None without such a solve.
    """

    model: Model
    experiment: Experiment
    integrator: Integrator
    settings: dict[str, Any]
    history: list[dict[str, Any]]
    status: str
    message: str
    x: Array
    estimates: list[Estimate]
    statistics: Statistics | None
    scores: dict[str, dict[str, float] | None]
    evaluations: int
    seconds: float
    engine: str
    paper: dict[str, Any] | None = None
    experiments: list[Experiment] = field(default_factory=list)
    scores_of: dict[str, dict[str, dict[str, float] | None]] = field(default_factory=dict)
    likelihood: Likelihood | None = None
    starts: list[Start] = field(default_factory=list)
    origin: Origin | None = None
    held: bytes = b""
    profiles: list[Profile] = field(default_factory=list)
    derived: list[Estimate] = field(default_factory=list)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    members: list[Array] = field(default_factory=list)
    combinations: list[Estimate] = field(default_factory=list)
    trivial: dict[str, dict[str, float]] = field(default_factory=dict)
    gradient_error: float | None = None

    @property
    def exit_code(self) -> int:
        """What the command line ends with: by the status, and 3 where a converged model is refused by its verdict.

        That is one that does not fit known noise, or is of no use; a protocol of the paper that ran to its end is 0.
        """
        code = EXIT_CODES[self.status]
        if code or self.statistics is None or self.settings.get("protocol", "default") != "default":
            return code
        words = {self.verdict, *(word for word, _ in self.statistics.others)}
        known = self.statistics.sigma_known and "does not fit" in words
        return REFUSED if known or "no use" in words else code

    @property
    def verdict(self) -> str:
        """The verdict in a word or two, the worst that holds; empty where the model could not be solved."""
        return "" if self.statistics is None else self.statistics.verdict

    @property
    def listed(self) -> list[Estimate]:
        """The estimates that mean something one by one: all but the weights of networks."""
        return [one for one in self.estimates if one.listed]

    @property
    def covariance(self) -> Array | None:
        """The covariance [Q, Q] of the transformed unknowns that the intervals are made of."""
        return None if self.statistics is None else self.statistics.best

    @property
    def correlation(self) -> Array | None:
        """The correlations [Q, Q] of the unknowns, not-a-number where one is not identifiable."""
        if self.statistics is None or self.covariance is None:
            return None
        error = np.sqrt(np.diag(self.covariance))
        error[~self.statistics.identifiable] = np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.covariance / np.outer(error, error))

    @property
    def vector(self) -> Vector:
        """The map between `x` and the model."""
        return vector_of(self.model, self.experiments or self.experiment)

    @property
    def recovered(self) -> bool | None:
        """Whether every unknown whose truth is known lies within one per cent of it; None where none is known."""
        known = [(e.value, e.truth) for e in self.estimates if e.truth is not None and e.of != "initial"]
        return all(abs(value - truth) <= 0.01 * abs(truth) for value, truth in known) if known else None

    def __repr__(self) -> str:
        """One line; `report()` says more."""
        names = ", ".join(one.name for one in self.experiments or [self.experiment])
        said = ", ".join(filter(None, (self.status, self.verdict)))
        return f"<Fit of {names} with {self.settings['model']}: {said}, {len(self.estimates)} unknowns>"

    def report(self) -> Report:
        """The report: text, JSON, table."""
        from physid.report.text import Report

        return Report(self)

    def forecast(
        self, until: float | Sequence[float] | Array, points: int = 201, draws: int = 0, seed: int = 0
    ) -> Forecast:
        """The mean and the 95 % bands of the observations, at given times or at `points` times up to `until`.

        The bands are linearised or, with `draws`, sampled: that many draws of the unknowns, solved as one batch.
        """
        from physid.predict.forecast import forecast

        return forecast(self, until, points, draws, seed)

    def of(self, experiment: str) -> Fit:
        """The part of the fit that is about one of its experiments, by name, with what its unknowns leave open there.

        It forecasts, plots and tabulates that experiment; the tests and the noise are those of the whole fit. Errors:
        InputError for a name that is none.
        """
        from physid.inference.marginal import part

        return part(self, experiment)

    def profile(self, *names: str, jobs: int = 1) -> tuple[Fit, list[Profile]]:
        """The profile likelihoods of the unknowns `names` (default: all but the initial state), and whose they are.

        A profile that meets a better optimum adopts it: the fit returned is then another, and better, one.
        """
        from physid.inference.uncertainty.profile import profile

        return profile(self, names, jobs)

    def view(self, **settings: Any) -> object:
        """Show the forecast in space: a window, in a notebook a page, without a display the path of one.

        Settings: until, bodies, theme, size, camera; see physid.viewer.show.
        """
        from physid.viewer import show

        return show(self, **settings)

    def save(self, folder: str | Path) -> Path:
        """Write the run directory `folder`, which must be new or empty; InputError when it cannot be written."""
        from physid.runs.fits import save

        return save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, model: Model | None = None, trust: bool = False) -> Fit:
        """The fit saved in the run directory `folder`; no code of the run is executed unless `trust` says so.

        A model of the catalogue is found by its name; any other is given as `model`, or imported from the file that the
        run names with trust=True, if that file has not changed. Errors: InputError for what is no intact run.
        """
        from physid.runs.reader import load

        return load(Path(folder), model, trust)

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        model: Model | None = None,
        trust: bool = False,
        progress: Progress | None = None,
        time_limit: float | None = None,
    ) -> Fit:
        """Go on with the unfinished or interrupted run in `folder`, and finish it there; a converged one is loaded.

        Errors: as `load`, and InputError when another process fits into the folder.
        """
        from physid.inference.identify import resume

        return resume(Path(folder), model, trust, progress, time_limit)
