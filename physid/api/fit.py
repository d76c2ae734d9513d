"""`fit` and Fit: identifies a model's unknowns from experiments; Fit reports, forecasts, plots and views the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, Self

from physid.api.forecast import ViewableForecast
from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.inputs import Inputs
from physid.inference.fit_options import FitOptions, explained
from physid.inference.identify import identify
from physid.inference.marginal import part
from physid.inference.result import FitResult
from physid.inference.search.monitor import Progress
from physid.inference.uncertainty.profile import profile
from physid.inference.uncertainty.profile_curve import Profile
from physid.lazy import names as _names
from physid.modelling.model import Model
from physid.predict.draws import draw, strengths
from physid.predict.forecast import predict, times_of
from physid.predict.predictor import even_times, unseen
from physid.report.text import Report
from physid.runs.fits import save
from physid.runs.format import Run
from physid.runs.recorder import RunRecorder

P = ParamSpec("P")

__getattr__ = _names(__name__, {})


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
        """Relative masses of the observed bodies [B], where the model says them."""
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
        return cls.of_result(Run.open(folder, "fit", part=model, trust=trust).result())

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        model: Model | None = None,
        trust: bool = False,
        progress: Progress | None = None,
        time_limit: float | None = None,
    ) -> Self:
        """Resume the unfinished or interrupted run in `folder`, and finish it there; a converged one is loaded.

        Errors: as `load`, and InputError when another process fits into the folder.
        """
        return cls.of_result(Run.open(folder, "fit", part=model, trust=trust).resume(progress, time_limit))


@dataclass(frozen=True, kw_only=True)
class FitCall(FitOptions):
    """The keywords of `fit`: its options, and its own arguments."""

    options: FitOptions | None = None
    out: str | Path | None = None
    progress: Progress | None = None
    labels: Mapping[str, Any] | None = None


def _keywords(
    call: Callable[P, FitOptions],
) -> Callable[[Callable[..., Fit]], Callable[Concatenate[Model, Experiment | Sequence[Experiment], P], Fit]]:
    """Gives a function the keywords of `call`, for type checkers, `inspect.signature` and `help`."""

    def signed(function: Callable[..., Fit]) -> Callable[..., Fit]:
        own = signature(function)
        given = [one for one in own.parameters.values() if one.kind is Parameter.POSITIONAL_OR_KEYWORD]
        function.__signature__ = own.replace(  # type: ignore[attr-defined]  # as inspect reads it
            parameters=[*given, *signature(call).parameters.values()]
        )
        function.__doc__ = f"{function.__doc__}\n{explained()}"
        return function

    return signed


@_keywords(FitCall)
def fit(
    model: Model,
    experiment: Experiment | Sequence[Experiment],
    *,
    options: FitOptions | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    labels: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Fit:
    """Identify the free unknowns of `model`, and the free parts of the initial states, from one experiment or several.

    Minimises sum ((predicted - measured) / scale)^2 over what was measured. Several experiments share the unknowns,
    but for those declared `per_experiment` and their initial states; what one of them did not measure is a gap.
    The options are the fields of FitOptions, as keywords or as `options`; keywords win. A noise model gives every
    channel a sigma, estimated by maximum likelihood where the experiment does not know it. Many starts run as one
    batch, or over `workers` processes; the best wins. Forecasts from several seeds are their mean, with bands from
    their spread. Probes are tangents held to the tolerances beside the state (see physid.ode.Probes).
    `model` is left at the optimum. `out` is a new folder for the run; `progress` is called with a dict at every
    evaluation; `labels` are kept in the settings. Ctrl-C and the time limit (seconds) end the fit with the best so far
    and a status that says so.

    Errors: InputError for names, options and shapes that cannot work. A fit that fails has a status, not an error.
    """
    asked = FitOptions.of(options, keywords)
    recorder = RunRecorder(None if out is None else Path(out))
    return Fit.of_result(identify(model, experiment, asked, progress=progress, labels=labels, recorder=recorder))
