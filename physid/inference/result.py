"""FitResult: estimates, statistics, scores and history of a fit, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.exits import EXIT_CODES
from physid.inference.fit_options import FitOptions
from physid.inference.parameters import ParameterVector, vector_of
from physid.inference.search.monitor import Monitor
from physid.inference.search.one_start import Start
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.information import Likelihood
from physid.inference.uncertainty.profile_curve import Profile
from physid.inference.uncertainty.statistics import FitStatistics
from physid.modelling.model import Model
from physid.ode import Integrator

REFUSED = 3  # of a converged fit that does not fit known noise, or is of no use


class Provenance(Protocol):
    """Provenance of a fit, as its recorder has written it."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files by name."""

    @property
    def options(self) -> FitOptions:
        """The options that were asked for."""

    def experiments(self) -> list[Experiment]:
        """The experiments that were given."""

    def checkpoint(self, monitor: Monitor) -> bytes:
        """The state of this fit's search, from which it can continue."""


@dataclass
class FitResult:
    """The result of a fit: the model at its best unknowns, the estimates, scores, history and settings.

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
    statistics: FitStatistics | None
    scores: dict[str, dict[str, float] | None]
    evaluations: int
    seconds: float
    engine: str
    paper: dict[str, Any] | None = None
    experiments: list[Experiment] = field(default_factory=list)
    scores_of: dict[str, dict[str, dict[str, float] | None]] = field(default_factory=dict)
    likelihood: Likelihood | None = None
    starts: list[Start] = field(default_factory=list)
    origin: Provenance | None = None
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
        """Exit code of the command line: by the status, and 3 where a converged model is refused by its verdict.

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
    def vector(self) -> ParameterVector:
        """The map between `x` and the model."""
        return vector_of(self.model, self.experiments or self.experiment)

    @property
    def recovered(self) -> bool | None:
        """Whether every unknown whose truth is known lies within one per cent of it; None where none is known."""
        known = [(e.value, e.truth) for e in self.estimates if e.truth is not None and e.of != "initial"]
        return all(abs(value - truth) <= 0.01 * abs(truth) for value, truth in known) if known else None

    def __repr__(self) -> str:
        """One line; a report says more."""
        names = ", ".join(one.name for one in self.experiments or [self.experiment])
        said = ", ".join(filter(None, (self.status, self.verdict)))
        return (
            f"<{type(self).__name__} of {names} with {self.settings['model']}: {said}, {len(self.estimates)} unknowns>"
        )
