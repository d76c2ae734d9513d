"""`fit`: from a model and an experiment to identified unknowns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.errors import Diverged, InputError
from physid.experiment import Experiment, Trajectory
from physid.fitting import runs
from physid.fitting.estimates import estimate
from physid.fitting.files import ARCHIVE_ERRORS, SUMS, read_archive, sha256
from physid.fitting.keep import CHECKPOINT, REQUEST, Keeper, Origin, checkpoint, recall
from physid.fitting.optimise import Optimum, optimise
from physid.fitting.paper import compare, start_of_protocol
from physid.fitting.plan import Plan, default_integrator, resolve
from physid.fitting.problem import Point, Problem
from physid.fitting.restore import beginning, load
from physid.fitting.result import Fit
from physid.fitting.statistics import Statistics, assess
from physid.fitting.vector import Array, Vector
from physid.fitting.watch import Progress, TimeUp, Watch
from physid.ode import Integrator
from physid.spec import Model

# what `fit` is asked where nothing is asked
NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("optimizer", "integrator", "gradient", "protocol", "epochs", "lr", "time_limit")),
    "strategy": "auto",
    "seed": 0,
}


def fit(
    model: Model,
    experiment: Experiment,
    *,
    optimizer: str | None = None,
    strategy: str = "auto",
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
) -> Fit:
    """Identify the free unknowns of `model`, and the free part of the initial state, from the experiment.

    Minimises sum ((predicted - measured) / scale)^2 over what was measured. optimizer: "lm" (Levenberg-Marquardt with
    exact sensitivities, the default), "adam" or "lbfgs"; strategy (of lm): "auto", "full" or "segments"; protocol:
    "paper-text" or "paper-code", the settings of Zhuang et al. (2020). `model` is left at the optimum.
    `out` is a new folder for the run; `progress` is called with a dict at every evaluation; `labels` are kept in the
    settings. Ctrl-C and the time limit (seconds) end the fit with the best so far and a status that says so.

    Errors: InputError for names, options and shapes that cannot work. A fit that fails has a status, not an error.
    """
    if integrator is None and experiment.integrator:
        integrator = replace(default_integrator(optimizer, protocol), **experiment.integrator)
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
    }
    plan = resolve(**asked)
    if out is not None:
        runs.check(Path(out))
    origin = Origin.of(model, experiment, runs.request(model, asked, labels or {}))
    keeper = None if out is None else Keeper(Path(out), origin)
    return run(model, experiment, plan, origin, Watch(progress, time_limit, keeper), labels or {}, keeper)


def run(
    model: Model,
    experiment: Experiment,
    plan: Plan,
    origin: Origin,
    watch: Watch,
    labels: Mapping[str, Any],
    keeper: Keeper | None = None,
) -> Fit:
    """Fit by a plan from where `watch` stands, and leave the run with its keeper."""
    vector = Vector(model, experiment)
    start_of_protocol(vector, plan)
    problem = Problem(vector, plan.integrator)
    problem.evaluations = watch.evaluations()
    watch.evaluations = lambda: problem.evaluations
    start = vector.get()
    try:
        optimum = _search(problem, plan, watch, start)
        result = _conclude(problem, plan, watch, start, optimum, labels)
        request = sha256(origin.files[REQUEST])
        result = replace(result, origin=origin, held=checkpoint(watch, request))
        if keeper is not None and keeper.there:
            keeper.keep(watch)
            keeper.finish(runs.contents(result))
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
    if (folder / SUMS).is_file():
        found = load(folder, model, trust)
        if found.status in ("converged", "diverged"):
            return found
    begun = beginning(folder, model, trust)
    plan = resolve(**{**runs.arguments(begun.origin.asked), "time_limit": time_limit})
    keeper = Keeper(folder, begun.origin, resumed=True)
    watch = Watch(progress, time_limit, keeper)
    try:
        before = recall(watch, read_archive(begun.checkpoint), sha256(begun.origin.files[REQUEST]))
    except ARCHIVE_ERRORS as error:
        keeper.close()
        raise InputError(f"{folder / CHECKPOINT} is damaged: {error}. Remove it, and the fit starts anew.") from None
    watch.evaluations = lambda: before
    return run(begun.model, begun.experiment, plan, begun.origin, watch, begun.labels, keeper)


def go_on(fit: Fit, points: Sequence[Array]) -> Fit:
    """The fit on from the best of some points x [Q], by least squares over the full horizon."""
    vector = Vector(fit.model, fit.experiment)
    asked = {} if fit.origin is None else runs.arguments(fit.origin.asked)
    plan = resolve(**{**NOTHING, **asked, "time_limit": None})
    plan = replace(plan, optimizer="lm", strategy="full", integrator=replace(fit.integrator, gradient="forward"))
    problem = Problem(vector, plan.integrator)
    problem.evaluations = fit.evaluations
    solved = [(point.cost, x) for x in points if (point := problem.at(x)) is not None]
    if not solved:
        raise InputError("none of the points to go on from can be solved. Give others.")
    watch = Watch()
    watch.before, watch.history = fit.seconds, list(fit.history)
    watch.held = {"stage": "full", "x": min(solved, key=lambda pair: pair[0])[1]}
    start = vector.raw(np.array([one.start for one in fit.estimates]))
    found = _conclude(problem, plan, watch, start, _search(problem, plan, watch, start), {})
    held = b"" if fit.origin is None else checkpoint(watch, sha256(fit.origin.files[REQUEST]))
    return replace(found, settings=fit.settings, origin=fit.origin, held=held, paper=fit.paper)


def _search(problem: Problem, plan: Plan, watch: Watch, start: Array) -> Optimum:
    """The optimum, or the best so far with the reason why it is not one."""
    try:
        return optimise(problem, plan, watch)
    except Diverged as error:
        status, message = "diverged", str(error)
    except KeyboardInterrupt:
        status, message = "interrupted", "Interrupted; the unknowns are the best so far."
    except TimeUp:
        status, message = (
            "time limit",
            f"The time limit of {plan.time_limit:g} s ran out; the unknowns are the best so far.",
        )
    best = watch.best if watch.best is not None else start
    return Optimum(best, None, status, f"{message[:1].upper()}{message[1:]}")


def _conclude(
    problem: Problem, plan: Plan, watch: Watch, start: Array, optimum: Optimum, labels: Mapping[str, Any]
) -> Fit:
    """Everything that is said of the optimum."""
    vector, experiment, x = problem.vector, problem.experiment, optimum.x
    grace = None if plan.time_limit is None else max(1.0, 0.2 * plan.time_limit)
    problem.limited(grace)
    point: Point | None = optimum.point if optimum.point is not None else problem.at(x)
    statistics: Statistics | None = None if point is None else assess(problem, point)
    vector.put(x)
    result = Fit(
        model=vector.model,
        experiment=experiment,
        integrator=plan.integrator,
        settings={**_settings(problem, plan), **runs.identity(vector.model), **labels},
        history=watch.history,
        status=optimum.status,
        message=optimum.message,
        x=x,
        estimates=estimate(vector, start, x, statistics),
        statistics=statistics,
        scores=scores(problem, x, replace(plan.integrator, time_limit=grace)),
        evaluations=problem.evaluations,
        seconds=watch.seconds,
        engine=problem.engine,
    )
    result.paper = compare(result)
    return result


def _settings(problem: Problem, plan: Plan) -> dict[str, Any]:
    """What was asked for, as data."""
    experiment, like = problem.experiment, problem.vector.like
    noise = "known noise" if experiment.sigma else "spread of the data"
    weight = "" if plan.schedule.discount == 1.0 else f" {plan.schedule.discount:g}^t"
    objective = f"sum over what was measured of ((predicted - measured) / {problem.scale:.6g})^2, scaled by the {noise}"
    if plan.optimizer != "lm":
        over = "sum over channels, mean over time" if experiment.metric == "sum" else "mean over what was measured"
        objective = f"{over} of{weight} (predicted - measured)^2"
    return {
        "experiment": experiment.name,
        "options": dict(experiment.options),
        **plan.settings(),
        "objective": objective,
        "observations": problem.count,
        "dtype": str(like.dtype).removeprefix("torch."),
        "device": str(like.device),
        "engine_note": problem.engine_note,
    }


def scores(problem: Problem, x: Array, integrator: Integrator) -> dict[str, dict[str, float] | None]:
    """Mse and rmse on train, test, forecast (the test beyond training) and validation; None where there is none."""
    experiment, vector = problem.experiment, problem.vector
    parts = {"train": experiment.train, "test": experiment.test, "forecast": experiment.forecast}
    initial = vector.put(x)
    found = _scores(experiment, vector.model, initial, parts, integrator)
    other = experiment.validation
    if other is None:
        return found
    start = torch.where(other.initial_free, initial.double().cpu(), other.initial).to(initial)
    vector.model.drive(other.inputs)
    try:
        return found | _scores(other, vector.model, start, {"validation": other.train}, integrator)
    finally:
        vector.model.drive(experiment.inputs)


def _scores(
    experiment: Experiment,
    model: Model,
    initial: Tensor,
    parts: Mapping[str, Trajectory | None],
    integrator: Integrator,
) -> dict[str, dict[str, float] | None]:
    """The scores of a free run from `initial` [*state]; None where there is nothing or the solve fails."""
    there = [part.times for part in parts.values() if part is not None]
    start = torch.tensor([float(experiment.initial_time or 0.0)], dtype=torch.float64)
    times = torch.unique(torch.cat([start, *there]))  # sorted
    with torch.no_grad():
        solution = integrator.solve(model, initial, times, throw=False)
        states = solution.y
        if not isinstance(states, Tensor):
            raise InputError("the state is a tuple of tensors: fits take one tensor.")
        seen = model.observe(states).double().cpu()
    return {name: _score(experiment, part, times, seen) for name, part in parts.items()}


def _score(experiment: Experiment, part: Trajectory | None, times: Tensor, seen: Tensor) -> dict[str, float] | None:
    if part is None:
        return None
    predicted = seen[torch.searchsorted(times, part.times)].reshape(part.observations.shape)
    found = experiment.score(predicted, part)
    return found if all(math.isfinite(value) for value in found.values()) else None
