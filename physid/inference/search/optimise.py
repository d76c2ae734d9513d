"""The strategy of a plan, and the optimum that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from physid.arrays import Array
from physid.errors import InputError
from physid.inference.options import FitPlan
from physid.inference.problem import Problem
from physid.inference.search.catalogue import name_of
from physid.inference.search.external import (
    AskTellState,
    CompletionState,
    RunToCompletion,
    SteppedState,
    optimizer_of,
)
from physid.inference.search.first_order import Adam, AdamState, DescentLoss, lbfgs
from physid.inference.search.geodesic_acceleration import GeodesicState
from physid.inference.search.levenberg_marquardt import Iterate, LevenbergMarquardtState
from physid.inference.search.monitor import Monitor
from physid.inference.search.multistart import best_of
from physid.inference.search.objective import FitObjective
from physid.inference.search.one_start import Start
from physid.inference.search.optimality import optimal
from physid.inference.search.optimizer import (
    Failed,
    Optimizer,
    Optimum,
    Phase,
    Script,
    Strategy,
    StrategyState,
    search,
)
from physid.inference.search.strategies import least_squares, optimum, sentence
from physid.inference.search.workers import StartResult, WorkersState
from physid.modelling.model import Model

# the states of all optimizers and what they hold: what a checkpoint is made of
STATES = (
    AdamState,
    AskTellState,
    CompletionState,
    Failed,
    GeodesicState,
    Iterate,
    LevenbergMarquardtState,
    Start,
    StartResult,
    SteppedState,
    StrategyState,
    WorkersState,
)


def optimise(problem: Problem, plan: FitPlan, monitor: Monitor, x: Array) -> Optimum:
    """The optimum from x [Q] by the plan, or where its search was cut off; it continues where the monitor stands."""
    return search(strategy_of(problem, plan), FitObjective(problem, plan, monitor), x)


def strategy_of(problem: Problem, plan: FitPlan) -> Strategy:
    """The plan as an optimizer made of optimizers. Errors: InputError where several seeds would begin alike."""
    if plan.seeds == 1:
        return from_seed(plan)
    model = problem.vector.model
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    differ(model, plan, begun)
    return Strategy(partial(_seeds, plan, begun), restarts=False)


def from_seed(plan: FitPlan) -> Strategy:
    """The plan from the model as it is."""
    if plan.optimizer == "lm":
        script = _many_starts if plan.starts > 1 else _one_start
        return Strategy(partial(script, plan), restarts=plan.starts == 1)
    if plan.optimizer == "adam":
        return Strategy(partial(_adam, plan), restarts=False)
    optimizer = RunToCompletion(lbfgs) if plan.optimizer == "lbfgs" else optimizer_of(plan.optimizer, plan.seed)
    other = partial(_other, name_of(plan.optimizer), optimizer)
    return Strategy(other, restarts=isinstance(optimizer, RunToCompletion))


def _seeds(plan: FitPlan, begun: Mapping[str, Tensor], fit: FitObjective, x: Array, anew: bool) -> Script:
    """The plan from each of its seeds: the optimum of the first, with the ends of all of them as members."""
    model, vector = fit.problem.vector.model, fit.problem.vector
    found: list[Optimum] = []
    for number in range(plan.seeds):
        model.load_state_dict(begun)
        model.draw(plan.seed + number, anew=number > 0)
        strategy = from_seed(plan)
        end = yield Phase(f"seed {plan.seed + number}", strategy, fit, vector.get())
        found.append(strategy.optimum or Optimum(end.x, None, end.status, end.message))
    model.load_state_dict(begun)
    return replace(found[0], members=[one.x for one in found])


def differ(model: Model, plan: FitPlan, begun: Mapping[str, Tensor]) -> None:
    """Errors: InputError where another seed draws nothing else, so that several would have no spread."""
    model.draw(plan.seed + 1, anew=True)
    moved = any(not torch.equal(value, begun[name]) for name, value in model.state_dict().items())
    model.load_state_dict(begun)
    if not moved:
        raise InputError(
            f"{plan.seeds} seeds were asked for, but {type(model).__name__} begins alike from each: it has no weights, "
            "or its constructor sets a seed of its own. Leave the seeds out, or torch.manual_seed in __init__."
        )


def _one_start(plan: FitPlan, fit: FitObjective, x: Array, anew: bool) -> Script:
    """Least squares from x."""
    fit.monitor.begin(x)
    found = optimum((yield from least_squares(fit, plan, x, anew)))
    return replace(found, status="converged") if plan.strategy == "rates" else found


def _many_starts(plan: FitPlan, fit: FitObjective, x: Array, anew: bool) -> Script:
    """Least squares from x and from other starts."""
    fit.monitor.begin(x)
    end, records = yield from best_of(fit, plan, x)
    return replace(optimum(end), starts=records)


def _adam(plan: FitPlan, fit: FitObjective, x: Array, anew: bool) -> Script:
    """The best point of an Adam run."""
    fit.monitor.begin(x)
    yield Phase("adam", Adam(plan), DescentLoss(fit.problem, plan, fit.monitor), x)
    message = f"The {plan.schedule.epochs} epochs ran."
    found = _best(fit, x, message)
    if plan.protocol == "default":
        return found
    return replace(found, status="converged", message=f"Protocol {plan.protocol} ran to its end.")


def _other(name: str, optimizer: Optimizer[Any], fit: FitObjective, x: Array, anew: bool) -> Script:
    """The best point of any other optimizer."""
    fit.phase = name
    fit.monitor.begin(x)
    end = yield Phase(name, optimizer, fit, x)
    return _best(fit, x, sentence(getattr(end, "message", "") or f"{name} ended"))


def _best(fit: FitObjective, x: Array, message: str) -> Optimum:
    """The best point that was evaluated, converged where it is an optimum of least squares."""
    problem, x = fit.problem, x if fit.monitor.best is None else fit.monitor.best
    point = problem.at(x)
    there = point is not None and optimal(problem, point)
    return Optimum(x, point, "converged" if there else "not converged", message)
