"""Growing horizon: fits of the first part of the record, each from where the one before ended, up to the whole."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.inference.options import FitPlan
from physid.inference.parameters import vector_of
from physid.inference.problem import Problem
from physid.inference.search.full_horizon import ROUGH, looser
from physid.inference.search.levenberg_marquardt import descent
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import PointObjective
from physid.inference.search.optimizer import Phase
from physid.ode import Integrator

HORIZONS = (0.125, 0.25, 0.5)  # of the whole, before the whole


def grow(problem: Problem, plan: FitPlan, monitor: Monitor, x: Array) -> Generator[Phase, Any, Array | None]:
    """The unknowns from horizons that grow, each fit starting from the one before; None when none could be solved."""
    solved = False
    for part in HORIZONS:
        short = shortened(problem, looser(plan.integrator), part)
        if short is None:
            continue
        at = PointObjective(short, monitor, f"horizon {part:g}", measure=short.objective)
        monitor.begin(x)
        end = yield from descent(f"horizon {part:g}", at, x, ROUGH)
        if end is not None:
            x, solved = end.x, True
        problem.evaluations += short.evaluations
    return x if solved else None


def shortened(problem: Problem, integrator: Integrator, part: float) -> Problem | None:
    """The problem on the first `part` of every experiment's times; None when too little is measured there."""
    cut: list[Experiment] = []
    for one in problem.experiments:
        first, last = float(one.initial_time or 0.0), float(one.train.times[-1])
        early = one.train.select(one.train.times <= first + part * (last - first))
        if early is None:
            return None
        cut.append(replace(one, train=early, test=None))
    made = vector_of(problem.vector.model, cut)
    short = Problem(made, integrator, problem.noise)
    return short if short.count > len(made) else None
