"""`fit` and Fit: from a model and experiments to identified unknowns, and what can be done with them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

from physid.api.forecast import ViewableForecast
from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.inputs import Inputs
from physid.door import there
from physid.errors import InputError
from physid.formats import ARCHIVE_ERRORS, SUMS, read_archive, sound
from physid.inference.identify import identify, run
from physid.inference.marginal import part
from physid.inference.options import UNASKED, resolve
from physid.inference.result import FitResult
from physid.inference.search.monitor import Progress, Watch
from physid.inference.uncertainty.profile import profile
from physid.inference.uncertainty.profile_curve import Profile
from physid.modelling.model import Model
from physid.modelling.unknown import Tie
from physid.ode import Integrator
from physid.predict.draws import draw, strengths
from physid.predict.forecast import predict, times_of
from physid.predict.predictor import even_times, unseen
from physid.report.text import Report
from physid.runs.fits import save
from physid.runs.reader import beginning, load
from physid.runs.recorder import RunRecorder
from physid.runs.writer import CHECKPOINT, StartsAnew, recall


class Fit(FitResult):
    """The result of `fit`, and what can be done with it: report, forecast, profile, view, save, load, resume.

    Its fields are those of physid.inference.result.FitResult; it is a Predictor.
    """

    several: ClassVar[int] = 0

    @classmethod
    def of_result(cls, found: FitResult) -> Self:
        """The same result, with what can be done with it."""
        return cls(**{one.name: getattr(found, one.name) for one in fields(found)})

    def report(self) -> Report:
        """The report: text, JSON, table."""
        return Report(self)

    def forecast(
        self, until: float | Sequence[float] | Array, points: int = 201, draws: int = 0, seed: int = 0
    ) -> ViewableForecast:
        """The mean and the 95 % bands of the observations, at given times or at `points` times up to `until`.

        The bands are linearised or, with `draws`, sampled: that many draws of the unknowns, solved as one batch.
        """
        return self.predict(times_of(self.experiment, until, points), draws=draws, seed=seed)

    def predict(self, times: Array, inputs: Inputs | None = None, draws: int = 0, seed: int = 0) -> ViewableForecast:
        """The forecast at `times` [T], driven by `inputs` in place of those that were measured; see `forecast`."""
        return ViewableForecast.of_result(predict(self, times, inputs, draws, seed))

    def times(self, until: float | None = None, points: int | None = None) -> Array:
        """Times [T] of equal distance from the start of the data to their end, or to `until`."""
        return even_times(self.experiment, until, points)

    def paths(self, times: Array, count: int) -> Array:
        """Observations [count, T, M] for draws of the unknowns from their covariance; none of them without one."""
        return draw(self, times, count)

    @property
    def strengths(self) -> Array | None:
        """How heavy the observed bodies are [B], relative to one another, where the model says so."""
        return strengths(self)

    def shown(self, seen: float) -> Self:
        """A fit forecasts from its initial state, whatever it is shown. Errors: InputError."""
        raise unseen(self.settings["model"])

    def of(self, experiment: str) -> Self:
        """The part of the fit that is about one of its experiments, by name, with what its unknowns leave open there.

        It forecasts, plots and tabulates that experiment; the tests and the noise are those of the whole fit. Errors:
        InputError for a name that is none.
        """
        return part(self, experiment)

    def profile(self, *names: str, jobs: int = 1) -> tuple[Self, list[Profile]]:
        """The profile likelihoods of the unknowns `names` (default: all but the initial state), and whose they are.

        A profile that meets a better optimum adopts it: the fit returned is then another, and better, one.
        """
        found, profiles = profile(self, names, jobs)
        return self.of_result(found), profiles

    def view(self, **settings: Any) -> object:
        """Show the forecast in space: a window, in a notebook a page, without a display the path of one.

        Settings: until, bodies, theme, size, camera; see physid.viewer.show.
        """
        from physid.viewer import show

        return show(self, **settings)

    def save(self, folder: str | Path) -> Path:
        """Write the run directory `folder`, which must be new or empty; InputError when it cannot be written."""
        return save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, model: Model | None = None, trust: bool = False) -> Self:
        """The fit saved in the run directory `folder`; no code of the run is executed unless `trust` says so.

        A model of the catalogue is found by its name; any other is given as `model`, or imported from the file that the
        run names with trust=True, if that file has not changed. Errors: InputError for what is no intact run.
        """
        return cls.of_result(load(Path(folder), model, trust))

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        model: Model | None = None,
        trust: bool = False,
        progress: Progress | None = None,
        time_limit: float | None = None,
    ) -> Self:
        """Go on with the unfinished or interrupted run in `folder`, and finish it there; a converged one is loaded.

        Errors: as `load`, and InputError when another process fits into the folder.
        """
        return cls.of_result(resume(Path(folder), model, trust, progress, time_limit))


def fit(
    model: Model,
    experiment: Experiment | Sequence[Experiment],
    *,
    optimizer: str | None = None,
    strategy: str | None = None,
    integrator: Integrator | None = None,
    gradient: str | None = None,
    protocol: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
    time_limit: float | None = None,
    labels: Mapping[str, Any] | None = None,
    noise: str | None = None,
    loss: str | None = None,
    loss_scale: float | None = None,
    starts: int = 1,
    seeds: int | None = None,
    workers: int | None = None,
    holdout: str | float | None = None,
    probes: int | None = None,
    fix: Mapping[str, Any] | None = None,
    free: Sequence[str] = (),
    tie: Mapping[str, Tie] | None = None,
) -> Fit:
    """Identify the free unknowns of `model`, and the free parts of the initial states, from one experiment or several.

    Minimises sum ((predicted - measured) / scale)^2 over what was measured. Several experiments share the unknowns,
    but for those declared `per_experiment` and their initial states; what one of them did not measure is a gap.
    optimizer: "lm" (Levenberg-Marquardt with exact sensitivities, the default), "adam" or "lbfgs"; strategy (of lm):
    "auto", "full", "segments", "grow", "match" (rates first), "stages" (the known part first) or "rates" (these alone);
    protocol: "paper-text" or "paper-code", the settings of Zhuang et al. (2020).
    noise: "equal" (one size of normal errors on all channels), "normal", "lognormal" or "student:NU", each with a sigma
    for every channel, estimated by maximum likelihood where the experiment does not know it; by default the model's.
    loss: "linear", "soft_l1", "huber", "cauchy" or "arctan" of errors in units of `loss_scale`. `starts`: how many
    starts are tried, the model's own values and draws from priors and domains, as one batch, or over `workers`
    processes; the best wins. `seeds`: from how many seeds a model with weights is fitted; forecasts are then their
    mean, with bands from their spread. `holdout`: a part of the times, "after:TIME" or an experiment's name, kept for
    the test. `probes`: how many tangents are held to the tolerances beside the state (see `Probes`), 0 for none, 1 for
    all columns of lm; by default the integrator's, and without one 1 for lm where the model is compiled, else 0.
    `fix` holds unknowns at values, or where they are for None; `free` identifies some that the model fixes or ties;
    `tie` makes some a function of the others, as in {"width": "2 * length"}.
    `model` is left at the optimum. `out` is a new folder for the run; `progress` is called with a dict at every
    evaluation; `labels` are kept in the settings. Ctrl-C and the time limit (seconds) end the fit with the best so far
    and a status that says so.

    Errors: InputError for names, options and shapes that cannot work. A fit that fails has a status, not an error.
    """
    asked = {name: value for name, value in locals().items() if name in UNASKED}
    recorder = RunRecorder(None if out is None else Path(out))
    return Fit.of_result(
        identify(
            model,
            experiment,
            asked,
            progress=progress,
            labels=labels,
            fix=fix,
            free=free,
            tie=tie,
            recorder=recorder,
        )
    )


def resume(
    folder: Path,
    model: Model | None = None,
    trust: bool = False,
    progress: Progress | None = None,
    time_limit: float | None = None,
) -> FitResult:
    """Go on with the run in `folder`; see Fit.resume."""
    if there(folder, SUMS):
        found = load(folder, model, trust)
        if found.status in ("converged", "diverged"):
            return found
    begun = beginning(folder, model, trust)
    with sound(folder):
        plan = resolve(**{**begun.origin.keywords, "time_limit": time_limit})
    recorder = RunRecorder.continued(folder, begun.origin)
    watch, before = Watch(progress, time_limit), 0
    try:
        if begun.checkpoint:
            before = recall(watch, read_archive(begun.checkpoint), begun.origin.request)
        else:
            warnings.warn(f"{folder} has no {CHECKPOINT}: the fit starts anew.", StartsAnew, stacklevel=3)
    except (*ARCHIVE_ERRORS, TypeError, IndexError, RuntimeError) as error:
        recorder.close()
        raise InputError(f"{folder / CHECKPOINT} is damaged: {error}. Remove it, and the fit starts anew.") from None
    watch.evaluations = lambda: before
    return run(begun.model, begun.experiments, plan, begun.origin, watch, begun.labels, recorder)
