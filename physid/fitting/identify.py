"""`fit`: from a model and experiments to identified unknowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from physid.errors import Diverged, InputError
from physid.experiment import Experiment
from physid.fitting import noise as noise_models
from physid.fitting import runs
from physid.fitting.estimates import estimate
from physid.fitting.holdout import split
from physid.fitting.joint import aligned, vector_of
from physid.fitting.likelihood import likelihood
from physid.fitting.optimise import Optimum, optimise
from physid.fitting.paper import compare, start_of_protocol
from physid.fitting.plan import Plan, resolve
from physid.fitting.problem import Point, Problem
from physid.fitting.result import Fit
from physid.fitting.scores import scores
from physid.fitting.statistics import Statistics, assess
from physid.fitting.vector import Array
from physid.fitting.watch import Progress, TimeUp, Watch
from physid.ode import Integrator
from physid.spec import Model
from physid.unknown import Tie


def fit(
    model: Model,
    experiment: Experiment | Sequence[Experiment],
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
    noise: str | None = None,
    loss: str | None = None,
    loss_scale: float | None = None,
    starts: int = 1,
    workers: int | None = None,
    holdout: str | float | None = None,
    fix: Mapping[str, Any] | None = None,
    free: Sequence[str] = (),
    tie: Mapping[str, Tie] | None = None,
) -> Fit:
    """Identify the free unknowns of `model`, and the free parts of the initial states, from one experiment or several.

    Minimises sum ((predicted - measured) / scale)^2 over what was measured. Several experiments share the unknowns,
    but for those declared `per_experiment` and their initial states; what one of them did not measure is a gap.
    optimizer: "lm" (Levenberg-Marquardt with exact sensitivities, the default), "adam" or "lbfgs"; strategy (of lm):
    "auto", "full", "segments" or "grow"; protocol: "paper-text" or "paper-code", the settings of Zhuang et al. (2020).
    noise: "equal" (one size of normal errors on all channels), "normal", "lognormal" or "student:NU", each with a sigma
    for every channel, estimated by maximum likelihood where the experiment does not know it; by default the model's.
    loss: "linear", "soft_l1", "huber", "cauchy" or "arctan" of errors in units of `loss_scale`. `starts`: how many
    starts are tried, the model's own values and draws from priors and domains, as one batch, or over `workers`
    processes; the best wins. `holdout`: a part of the times, "after:TIME" or an experiment's name, kept for the test.
    `fix` holds unknowns at values, or where they are for None; `free` identifies some that the model fixes or ties;
    `tie` makes some a function of the others, as in {"width": "2 * length"}.
    `model` is left at the optimum. `out` is a new folder for the run; `progress` is called with a dict at every
    evaluation; `labels` are kept in the settings. Ctrl-C and the time limit (seconds) end the fit with the best so far
    and a status that says so.

    Errors: InputError for names, options and shapes that cannot work. A fit that fails has a status, not an error.
    """
    plan = resolve(
        optimizer, strategy, integrator, gradient, protocol, epochs, lr, seed, time_limit,
        noise=noise, loss=loss, loss_scale=loss_scale, starts=starts, workers=workers, holdout=holdout,
    )  # fmt: skip
    if out is not None:
        runs.check(Path(out))
    given = aligned([experiment] if isinstance(experiment, Experiment) else experiment)
    fitted, held = split(given, plan.holdout)
    if len(fitted) > 1 and plan.optimizer != "lm":
        raise InputError(f"optimizer {plan.optimizer} takes one experiment, {len(fitted)} were given. Use lm.")
    prepare(model, fix or {}, free, tie or {})
    vector = vector_of(model, fitted)
    start_of_protocol(vector, plan)
    problem = pose(model, fitted, plan)
    start, watch = vector.get(), Watch(progress, time_limit)
    optimum = _search(problem, plan, watch, start)
    result = _conclude(problem, plan, watch, start, optimum, held, labels or {})
    if out is not None:
        result.save(out)
    return result


def prepare(model: Model, fix: Mapping[str, Any], free: Sequence[str], tie: Mapping[str, Tie]) -> None:
    """Release, fix and tie unknowns of `model`; InputError for one that is named twice or that the model lacks."""
    named = [*free, *fix, *tie]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise InputError(f"{', '.join(twice)} is to be more than one of fixed, free and tied. Name it once.")
    for name in free:
        model.release(name)
    for name, value in fix.items():
        model.untie(name)
        model.fix(name, value)
    for name, how in tie.items():
        model.tie(name, how)


def pose(model: Model, experiments: Sequence[Experiment], plan: Plan) -> Problem:
    """The least-squares problem of a plan, with the noise asked for or else the model's."""
    loss_alone = plan.loss != "linear" and plan.noise is None
    noise = noise_models.read("equal" if loss_alone or plan.optimizer != "lm" else plan.noise or model.noise, plan.loss)
    return Problem(vector_of(model, experiments), plan.integrator, noise, plan.loss_scale)


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
    grace = None if plan.time_limit is None else max(1.0, 0.2 * plan.time_limit)
    problem.limited(grace)
    point: Point | None = optimum.point if optimum.point is not None else problem.at(x)
    statistics: Statistics | None = None if point is None else assess(problem, point)
    pooled, each = scores(problem, x, replace(plan.integrator, time_limit=grace), held)
    vector.put(x)
    result = Fit(
        model=vector.model,
        experiment=experiment,
        experiments=problem.experiments,
        integrator=plan.integrator,
        settings={**_settings(problem, plan), **runs.identity(vector.model), **labels},
        history=watch.history,
        status=optimum.status,
        message=optimum.message,
        x=x,
        estimates=estimate(vector, start, x, statistics),
        statistics=statistics,
        scores=pooled,
        scores_of=each,
        likelihood=None if point is None else likelihood(problem, point),
        starts=optimum.starts,
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
    if problem.noise.estimated:
        objective = f"-log likelihood, {problem.noise.kind} noise with a sigma for every channel"
    elif plan.loss != "linear":
        error = f"((predicted - measured) / {problem.scale:.6g})^2"
        objective = f"sum over what was measured of {plan.loss}({error})"
    if plan.optimizer != "lm":
        over = "sum over channels, mean over time" if experiment.metric == "sum" else "mean over what was measured"
        objective = f"{over} of{weight} (predicted - measured)^2"
    return {
        "experiment": experiment.name,
        "options": dict(experiment.options),
        **plan.settings(),
        "noise": problem.noise.kind if problem.noise.kind != "student" else f"student:{problem.noise.nu:g}",
        "ties": {name: tie.text for name, tie in problem.vector.model.ties.items()},
        "objective": objective,
        "experiments": [one.name for one in problem.experiments],
        "observations": problem.count,
        "dtype": str(like.dtype).removeprefix("torch."),
        "device": str(like.device),
        "engine_note": problem.engine_note,
    }
