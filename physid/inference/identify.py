"""`identify`: from a model and experiments to identified unknowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.holdout import split
from physid.errors import InputError
from physid.inference.assemble import agree, assemble, described, prepare, suited
from physid.inference.derivative_check import doubt, slope_error
from physid.inference.fit_options import FitOptions
from physid.inference.options import DEFAULTS, FitPlan, resolve
from physid.inference.parameters import aligned, vector_of
from physid.inference.problem import Point, Problem
from physid.inference.protocols import compare, start_of_protocol
from physid.inference.recorder import FitRecorder, Request
from physid.inference.result import FitResult, Provenance
from physid.inference.search.catalogue import name_of
from physid.inference.search.external import optimizer_of
from physid.inference.search.monitor import Monitor, Progress
from physid.inference.search.optimise import optimise
from physid.inference.search.optimizer import Optimum, StrategyState
from physid.inference.seeds import pooled
from physid.inference.settle import forecast_judged, left_open, settled, status_needs_optimum
from physid.inference.uncertainty.baselines import trivial_scores
from physid.inference.uncertainty.contributions import contributions
from physid.inference.uncertainty.derived import combined, read_out
from physid.inference.uncertainty.estimates import estimate
from physid.inference.uncertainty.information import likelihood
from physid.inference.uncertainty.scores import scores
from physid.inference.uncertainty.shrunken import shrunken
from physid.inference.uncertainty.statistics import FitStatistics, assess
from physid.modelling.address import contained
from physid.modelling.answers import answer
from physid.modelling.model import Model
from physid.modelling.modules import ready
from physid.ode.hearing import within

GRACE = 0.2  # seconds in which a search that was ended is concluded, at least
SOLVES = 8  # as many as the conclusion needs, and some


def identify(
    model: Model,
    experiment: Experiment | Sequence[Experiment],
    options: FitOptions | None = None,
    *,
    progress: Progress | None = None,
    labels: Mapping[str, Any] | None = None,
    recorder: FitRecorder | None = None,
) -> FitResult:
    """Identify the free unknowns of `model`, and the free parts of the initial states; see physid.fit.

    `recorder` gets the request, every state from which the search could continue, and the result. Errors:
    InputError, as of `physid.fit`.
    """
    recorder = recorder or FitRecorder()
    if not isinstance(model, Model):
        found = (
            f"the class {model.__name__}" if isinstance(model, type) else f"something of type {type(model).__name__}"
        )
        raise InputError(f"fit was given {found} as model: expected an instance of a Model, as in fit(Model(), data).")
    given = aligned([experiment] if isinstance(experiment, Experiment) else experiment)
    ready(model)
    agree(model, given)
    answer(model, given[0])
    options = suited(options or FitOptions(), model, given[0])
    plan = resolve(options)
    if name_of(plan.optimizer) not in DEFAULTS:
        optimizer_of(plan.optimizer, plan.seed)  # refused before anything is changed, as the rest here
    recorder.check(plan)
    split(given, plan.holdout)
    prepare(model, options)
    model.draw(options.seed)
    origin = recorder.start(Request(model, given, options, labels or {}))
    return run(model, given, plan, origin, Monitor(progress, options.time_limit), labels or {}, recorder)


def run(
    model: Model,
    experiments: Sequence[Experiment],
    plan: FitPlan,
    origin: Provenance | None,
    monitor: Monitor,
    labels: Mapping[str, Any],
    recorder: FitRecorder,
) -> FitResult:
    """Fit by a plan from the state of `monitor`, recorded by `recorder`."""
    try:
        monitor.keep = recorder.keep
        fitted, held = split(experiments, plan.holdout)
        if len(fitted) > 1 and not plan.least_squares:
            raise InputError(f"optimizer {plan.optimizer} takes one experiment, {len(fitted)} were given. Use lm.")
        start_of_protocol(vector_of(model, fitted), plan)
        problem = assemble(model, fitted, plan)
        plan = replace(plan, integrator=problem.integrator)
        problem.evaluations = monitor.evaluations()
        monitor.evaluations = lambda: problem.evaluations
        start = problem.vector.get()
        with contained():
            optimum = optimise(problem, plan, monitor, start)
        with within(_patience(problem, optimum)):
            about = {**described(problem, plan), **recorder.identity(model), **labels}
            result = _conclude(problem, plan, monitor, start, optimum, held, about)
            last = b"" if origin is None else origin.checkpoint(monitor)
            if optimum.members:
                result = pooled(result, plan, optimum.members)
            result = replace(forecast_judged(result), origin=origin, held=last)
            recorder.done(result, monitor)
    finally:
        recorder.close()
    return result


def go_on(fit: FitResult, points: Sequence[Array]) -> FitResult:
    """The fit on from the best of some points x [Q], by least squares over the full horizon."""
    asked = FitOptions() if fit.origin is None else fit.origin.options
    plan = resolve(replace(asked, time_limit=None, starts=1, seeds=1, workers=None))
    plan = replace(plan, optimizer="lm", strategy="full", integrator=replace(fit.integrator, gradient="forward"))
    problem = assemble(fit.model, fit.experiments, plan)
    plan = replace(plan, integrator=problem.integrator)
    problem.evaluations = fit.evaluations
    solved = [(point.cost, x) for x in points if (point := problem.at(x)) is not None]
    if not solved:
        raise InputError("none of the points to start from can be solved. Give others.")
    monitor = Monitor()
    monitor.before, monitor.history = fit.seconds, list(fit.history)
    monitor.state = StrategyState(min(solved, key=lambda pair: pair[0])[1], anew=True)
    start = problem.vector.raw(np.array([one.start for one in fit.estimates]))
    out = [] if fit.origin is None else split(fit.origin.experiments(), plan.holdout)[1]
    optimum = optimise(problem, plan, monitor, start)
    about = {**fit.settings, **described(problem, plan)}
    found = _conclude(problem, plan, monitor, start, optimum, out, about)
    held = b"" if fit.origin is None else fit.origin.checkpoint(monitor)
    found = forecast_judged(found)
    return replace(found, settings=fit.settings, origin=fit.origin, held=held, paper=fit.paper, starts=fit.starts)


def _patience(problem: Problem, optimum: Optimum) -> float | None:
    """Seconds for the conclusion of a search that was cut off, 0 where nothing was solved; None for any other."""
    if optimum.status not in ("interrupted", "time limit"):
        return None
    return 0.0 if problem.longest is None else max(GRACE, SOLVES * problem.longest)


def _conclude(
    problem: Problem,
    plan: FitPlan,
    monitor: Monitor,
    start: Array,
    optimum: Optimum,
    held: Sequence[Experiment],
    about: dict[str, Any],
) -> FitResult:
    """The result at the optimum; `about` are the settings."""
    vector, experiment, x = problem.vector, problem.experiment, optimum.x
    problem.limited(None)
    point: Point | None = optimum.point
    if point is None and _patience(problem, optimum) != 0:
        point = problem.at(x)
    needed = status_needs_optimum(problem, plan)
    statistics: FitStatistics | None = None if point is None else assess(problem, point, about, needed)
    least = plan.least_squares and plan.strategy != "rates"
    status, message = settled(optimum, statistics, needed, least)
    error = None if point is None or not plan.least_squares else slope_error(problem, point)
    small = shrunken(problem, x) if error is not None and status == "converged" else ""
    together, each = scores(problem, x, plan.integrator, held)
    vector.put(x)
    estimates = estimate(vector, start, x, statistics)
    if statistics is not None:
        statistics = statistics.also(left_open(estimates, statistics))
    result = FitResult(
        model=vector.model,
        experiment=experiment,
        experiments=problem.experiments,
        integrator=plan.integrator,
        settings=about,
        history=monitor.history,
        status=status,
        message=f"{message}{doubt(error, plan.integrator)}{small}",
        x=x,
        estimates=estimates,
        statistics=statistics,
        derived=read_out(vector, start, x, statistics),
        combinations=combined(vector, start, x, statistics),
        shares={} if point is None else contributions(vector, x, plan.integrator),
        scores=together,
        scores_of=each,
        trivial=trivial_scores(problem.experiments),
        likelihood=None if point is None or statistics is None else likelihood(problem, point, statistics.floor),
        starts=optimum.starts,
        evaluations=problem.evaluations,
        seconds=monitor.seconds,
        engine=problem.engine,
        gradient_error=error,
    )
    result.paper = compare(result)
    return result
