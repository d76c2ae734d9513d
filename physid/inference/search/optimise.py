"""From a plan to an optimum: the strategies of least squares, and the descents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.errors import Diverged, InputError
from physid.inference.options import FitPlan
from physid.inference.problem import Point, Problem
from physid.inference.search.first_order import Objective, adam, lbfgs
from physid.inference.search.monitor import Watch
from physid.inference.search.multistart import best_of
from physid.inference.search.one_start import Start
from physid.inference.search.strategies import least_squares
from physid.inference.search.trust_region import optimal
from physid.modelling.model import Model


@dataclass(frozen=True)
class Optimum:
    """Where a fit ended."""

    x: Array
    point: Point | None
    status: str
    message: str
    starts: list[Start] = field(default_factory=list)
    members: list[Array] = field(default_factory=list)


def optimise(problem: Problem, plan: FitPlan, watch: Watch) -> Optimum:
    """Fit by the plan, from each of its seeds. Errors: Diverged when no solve from the start succeeds.

    The optimum is that of the first seed; `members` are the ends of all of them, in order. A search that goes on does
    so with the seed at which it stood.
    """
    if plan.seeds == 1:
        return from_seed(problem, plan, watch)
    held, model = dict(watch.held), problem.vector.model
    members: list[Array] = []
    first: Optimum | None = None
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    differ(model, plan, begun)
    done = held.get("members")
    for number in range(plan.seeds):
        model.load_state_dict(begun)
        model.draw(plan.seed + number, anew=number > 0)
        if done is not None and number < len(done) and first is not None:
            members.append(np.asarray(done[number]))
            continue
        watch.held = held if done is not None and number == len(done) else {}
        watch.carried = {"members": np.array(members)} if members else {}
        found = from_seed(problem, plan, watch)
        members.append(found.x)
        first = first or found
    watch.carried = {}
    model.load_state_dict(begun)
    if first is None:
        raise Diverged("no seed was fitted")
    return replace(first, members=members)


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


def from_seed(problem: Problem, plan: FitPlan, watch: Watch) -> Optimum:
    """Fit by the plan from the model as it is."""
    x = problem.vector.get()
    if not watch.held:
        watch.begin(x)
    if plan.optimizer == "lm":
        records: list[Start] = []
        if plan.starts > 1:
            found, records = best_of(problem, plan, watch, x)
        else:
            found = least_squares(problem, plan, watch, x)
        if plan.strategy == "rates":
            return Optimum(found.point.x, found.point, "converged", sentence(found.message), records)
        status = "converged" if found.converged else "not converged"
        return Optimum(found.point.x, found.point, status, sentence(found.message), records)
    objective = Objective(problem, plan, watch)
    if plan.optimizer == "adam":
        x, message = adam(objective, x, plan), f"The {plan.schedule.epochs} epochs ran."
        if plan.protocol != "default":
            return Optimum(x, problem.at(x), "converged", f"Protocol {plan.protocol} ran to its end.")
    else:
        x, reason = lbfgs(objective, x, plan)
        message = sentence(f"L-BFGS stopped: {reason}")
    point = problem.at(x)
    return Optimum(x, point, "converged" if point is not None and optimal(problem, point) else "not converged", message)


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
