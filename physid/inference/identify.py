"""`fit`: from a model and experiments to identified unknowns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.holdout import split
from physid.door import there
from physid.errors import Diverged, InputError
from physid.formats import ARCHIVE_ERRORS, SUMS, read_archive, sound
from physid.inference.assemble import agree, described, pose, prepare, suited
from physid.inference.derivative_check import doubt, slope_error
from physid.inference.options import Plan, resolve
from physid.inference.parameters import aligned, vector_of
from physid.inference.problem import Point, Problem
from physid.inference.protocols import compare, start_of_protocol
from physid.inference.result import Fit
from physid.inference.search.monitor import Progress, Watch
from physid.inference.search.optimise import Optimum, optimise
from physid.inference.settle import forecast_judged, left_open, settled, status_needs_optimum
from physid.inference.uncertainty.baselines import trivial_scores
from physid.inference.uncertainty.contributions import shares_of
from physid.inference.uncertainty.derived import combined, read_out
from physid.inference.uncertainty.estimates import estimate
from physid.inference.uncertainty.information import likelihood
from physid.inference.uncertainty.scores import scores
from physid.inference.uncertainty.shrunken import shrunken
from physid.inference.uncertainty.statistics import Statistics, assess
from physid.modelling.address import blame, contained
from physid.modelling.answers import answer
from physid.modelling.model import Model
from physid.modelling.modules import ready
from physid.modelling.unknown import Tie
from physid.ode import Integrator
from physid.ode.hearing import TimeUp, listening, within
from physid.predict.ensemble import pooled
from physid.runs import fits
from physid.runs.reader import beginning, load
from physid.runs.writer import CHECKPOINT, Keeper, Origin, StartsAnew, checkpoint, recall

GRACE = 0.2  # seconds in which a search that was ended is concluded, at least
SOLVES = 8  # as many as the conclusion needs, and some

# what `fit` is asked where nothing is asked
NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("optimizer", "integrator", "gradient", "protocol", "epochs", "lr", "time_limit")),
    "strategy": None,
    "seed": 0,
}


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
    if not isinstance(model, Model):
        found = (
            f"the class {model.__name__}" if isinstance(model, type) else f"something of type {type(model).__name__}"
        )
        raise InputError(
            f"fit was given {found} as model: an instance of a Model is allowed, as in fit(Model(), data)."
        )
    given = aligned([experiment] if isinstance(experiment, Experiment) else experiment)
    ready(model)
    agree(model, given)
    answer(model, given[0])
    asked: dict[str, Any] = {
        "optimizer": optimizer,
        "strategy": strategy,
        "integrator": integrator,
        "gradient": gradient,
        "protocol": protocol,
        "epochs": epochs,
        "lr": lr,
        "seed": seed,
        "time_limit": time_limit,
        "noise": noise,
        "loss": loss,
        "loss_scale": loss_scale,
        "starts": starts,
        "seeds": seeds,
        "workers": workers,
        "holdout": holdout,
        "probes": probes,
    }
    asked = suited(asked, model, given[0])
    plan = resolve(**asked)
    if out is not None:
        fits.check(Path(out))
        fits.check_integrator(plan.integrator)
    split(given, plan.holdout)  # refused before anything is changed
    prepare(model, fix or {}, free, tie or {})
    model.draw(seed)
    origin = Origin.of(model, given, fits.request(model, asked, labels or {}))
    keeper = None if out is None else Keeper(Path(out), origin.files)
    return run(model, given, plan, origin, Watch(progress, time_limit), labels or {}, keeper)


def run(
    model: Model,
    experiments: Sequence[Experiment],
    plan: Plan,
    origin: Origin,
    watch: Watch,
    labels: Mapping[str, Any],
    keeper: Keeper | None = None,
) -> Fit:
    """Fit by a plan from where `watch` stands, and leave the run with its keeper."""
    try:
        if keeper is not None:
            watch.keep = lambda watch: keeper(watch.stage, partial(checkpoint, watch, origin.request))
        fitted, held = split(experiments, plan.holdout)
        if len(fitted) > 1 and plan.optimizer != "lm":
            raise InputError(f"optimizer {plan.optimizer} takes one experiment, {len(fitted)} were given. Use lm.")
        start_of_protocol(vector_of(model, fitted), plan)
        problem = pose(model, fitted, plan)
        plan = replace(plan, integrator=problem.integrator)
        problem.evaluations = watch.evaluations()
        watch.evaluations = lambda: problem.evaluations
        start = problem.vector.get()
        with contained():
            optimum = _search(problem, plan, watch, start)
        with within(_patience(problem, optimum)):
            result = _conclude(problem, plan, watch, start, optimum, held, labels)
            last = checkpoint(watch, origin.request)
            if optimum.members:
                result = pooled(result, plan, optimum.members)
            result = replace(forecast_judged(result), origin=origin, held=last)
            if keeper is not None and keeper.there:
                keeper.keep(watch.stage, lambda: last)
                keeper.finish(fits.contents(result))
            elif keeper is not None:
                result.save(keeper.folder)
    finally:
        if keeper is not None:
            keeper.close()
    return result


def resume(
    folder: Path,
    model: Model | None = None,
    trust: bool = False,
    progress: Progress | None = None,
    time_limit: float | None = None,
) -> Fit:
    """Go on with the run in `folder`; see Fit.resume."""
    if there(folder, SUMS):
        found = load(folder, model, trust)
        if found.status in ("converged", "diverged"):
            return found
    begun = beginning(folder, model, trust)
    with sound(folder):
        plan = resolve(**{**fits.arguments(begun.origin.asked), "time_limit": time_limit})
    keeper = Keeper(folder, begun.origin.files, resumed=True)
    watch, before = Watch(progress, time_limit), 0
    try:
        if begun.checkpoint:
            before = recall(watch, read_archive(begun.checkpoint), begun.origin.request)
        else:
            warnings.warn(f"{folder} has no {CHECKPOINT}: the fit starts anew.", StartsAnew, stacklevel=3)
    except (*ARCHIVE_ERRORS, TypeError, IndexError, RuntimeError) as error:
        keeper.close()
        raise InputError(f"{folder / CHECKPOINT} is damaged: {error}. Remove it, and the fit starts anew.") from None
    watch.evaluations = lambda: before
    return run(begun.model, begun.experiments, plan, begun.origin, watch, begun.labels, keeper)


def go_on(fit: Fit, points: Sequence[Array]) -> Fit:
    """The fit on from the best of some points x [Q], by least squares over the full horizon."""
    asked = {} if fit.origin is None else fits.arguments(fit.origin.asked)
    plan = resolve(**{**NOTHING, **asked, "time_limit": None, "starts": 1, "seeds": 1, "workers": None})
    plan = replace(plan, optimizer="lm", strategy="full", integrator=replace(fit.integrator, gradient="forward"))
    problem = pose(fit.model, fit.experiments, plan)
    plan = replace(plan, integrator=problem.integrator)
    problem.evaluations = fit.evaluations
    solved = [(point.cost, x) for x in points if (point := problem.at(x)) is not None]
    if not solved:
        raise InputError("none of the points to go on from can be solved. Give others.")
    watch = Watch()
    watch.before, watch.history = fit.seconds, list(fit.history)
    watch.held = {"stage": "full", "x": min(solved, key=lambda pair: pair[0])[1]}
    start = problem.vector.raw(np.array([one.start for one in fit.estimates]))
    out = [] if fit.origin is None else split(fit.origin.experiments(), plan.holdout)[1]
    found = _conclude(problem, plan, watch, start, _search(problem, plan, watch, start), out, {})
    held = b"" if fit.origin is None else checkpoint(watch, fit.origin.request)
    found = forecast_judged(found)
    return replace(found, settings=fit.settings, origin=fit.origin, held=held, paper=fit.paper, starts=fit.starts)


def _search(problem: Problem, plan: Plan, watch: Watch, start: Array) -> Optimum:
    """The optimum, or the best so far with the reason why it is not one."""
    try:
        with listening(watch.left):
            return optimise(problem, plan, watch)
    except Diverged as error:
        status, message = "diverged", str(error)
    except KeyboardInterrupt as error:
        if blame(error) is not None:  # the model's own
            raise
        status, message = "interrupted", "Interrupted; the unknowns are the best so far."
    except TimeUp:
        status, message = (
            "time limit",
            f"The time limit of {plan.time_limit:g} s ran out; the unknowns are the best so far.",
        )
    best = watch.best if watch.best is not None else start
    return Optimum(best, None, status, f"{message[:1].upper()}{message[1:]}")


def _patience(problem: Problem, optimum: Optimum) -> float | None:
    """Seconds for all that is said of a search that was cut off, 0 where nothing was solved; None for any other."""
    if optimum.status not in ("interrupted", "time limit"):
        return None
    return 0.0 if problem.longest is None else max(GRACE, SOLVES * problem.longest)


def _conclude(
    problem: Problem,
    plan: Plan,
    watch: Watch,
    start: Array,
    optimum: Optimum,
    held: Sequence[Experiment],
    labels: Mapping[str, Any],
) -> Fit:
    """Everything that is said of the optimum."""
    vector, experiment, x = problem.vector, problem.experiment, optimum.x
    problem.limited(None)
    point: Point | None = optimum.point
    if point is None and _patience(problem, optimum) != 0:
        point = problem.at(x)
    about = {**described(problem, plan), **fits.identity(vector.model), **labels}
    needed = status_needs_optimum(problem, plan)
    statistics: Statistics | None = None if point is None else assess(problem, point, about, needed)
    least = plan.optimizer == "lm" and plan.strategy != "rates"
    status, message = settled(optimum, statistics, needed, least)
    error = None if point is None or plan.optimizer != "lm" else slope_error(problem, point)
    small = shrunken(problem, x) if error is not None and status == "converged" else ""
    together, each = scores(problem, x, plan.integrator, held)
    vector.put(x)
    estimates = estimate(vector, start, x, statistics)
    if statistics is not None:
        statistics = statistics.also(left_open(estimates, statistics))
    result = Fit(
        model=vector.model,
        experiment=experiment,
        experiments=problem.experiments,
        integrator=plan.integrator,
        settings=about,
        history=watch.history,
        status=status,
        message=f"{message}{doubt(error, plan.integrator)}{small}",
        x=x,
        estimates=estimates,
        statistics=statistics,
        derived=read_out(vector, start, x, statistics),
        combinations=combined(vector, start, x, statistics),
        shares={} if point is None else shares_of(vector, x, plan.integrator),
        scores=together,
        scores_of=each,
        trivial=trivial_scores(problem.experiments),
        likelihood=None if point is None or statistics is None else likelihood(problem, point, statistics.floor),
        starts=optimum.starts,
        evaluations=problem.evaluations,
        seconds=watch.seconds,
        engine=problem.engine,
        gradient_error=error,
    )
    result.paper = compare(result)
    return result
