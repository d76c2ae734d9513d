"""Final status of a fit, from the optimizer's status and the verdict: no optimum, not converged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from physid.inference.options import FitPlan
from physid.inference.problem import Problem
from physid.inference.result import FitResult
from physid.inference.search.optimizer import Optimum
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.statistics import FitStatistics
from physid.inference.uncertainty.verdict import FIX, Verdict, useless


def status_needs_optimum(problem: Problem, plan: FitPlan) -> bool:
    """Whether a converged fit must be at an optimum of least squares: not a protocol's, rates', or that of weights."""
    model = problem.vector.model
    weights = any(not model.unknowns[name].listed for name in problem.vector.names)
    return plan.protocol == "default" and plan.strategy != "rates" and not weights


def settled(optimum: Optimum, statistics: FitStatistics | None, needed: bool, least: bool = True) -> tuple[str, str]:
    """Status and message of a fit: one that ended where no optimum is has not converged.

    Where none is `needed`, as of weights, whose optimum is a flat valley, one of `least` squares that misses the data
    has not got there either.
    """
    status, message = optimum.status, optimum.message
    lost = least and statistics is not None and statistics.verdict == "does not fit"
    if (needed or lost) and status == "converged" and statistics is not None and not statistics.optimum:
        return "not converged", f"{message} That is no optimum yet."
    return status, message


def left_open(estimates: Sequence[Estimate], statistics: FitStatistics) -> Verdict | None:
    """Undetermined: the unknowns whose intervals cover zero to everything."""
    seen = zip(estimates, statistics.identifiable, strict=True)
    names = [one.name for one, there in seen if one.listed and one.undetermined and there]
    if not names:
        return None
    return Verdict("undetermined", f"The data do not determine {', '.join(names)}: any value would do.", [FIX])


def forecast_judged(fit: FitResult) -> FitResult:
    """The fit with what its forecast of the test says beside those of trivial forecasters."""
    score = fit.scores.get("forecast")
    if fit.statistics is None or (score is None and fit.status != "converged"):
        return fit
    said = useless(None if score is None else score["rmse"], {name: one["rmse"] for name, one in fit.trivial.items()})
    return fit if said is None else replace(fit, statistics=fit.statistics.also(said))
