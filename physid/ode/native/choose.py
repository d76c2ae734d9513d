"""Whether a solve runs as compiled code, and if not, why."""

from __future__ import annotations

from physid.ode.native.kernel import Refusal, kernel_for
from physid.ode.native.known import remember
from physid.ode.native.runtime import MOST_STAGES, source
from physid.ode.native.tier import Native, tier_of
from physid.ode.problem import Problem


def native_tier(problem: Problem) -> Native | str:
    """The compiled tier of a problem, or in one line why there is none."""
    cause = _beyond(problem)
    if cause:
        return cause
    if isinstance(problem.recalled, Native):
        return problem.recalled
    kernel = kernel_for(problem, source())
    if isinstance(kernel, Refusal):
        return kernel.reason
    tier = tier_of(kernel)
    remember(problem, tier)
    return tier


def _beyond(problem: Problem) -> str:
    """What the compiled march does not do."""
    if problem.norm is not None:
        return "a norm of the user's"
    if len(problem.jumps):
        return "jump times or perturbed steps"
    if problem.callbacks:
        return f"f has {next(iter(problem.callbacks))}"
    if len(problem.tableau.dense) > MOST_STAGES:
        return f"a method of more than {MOST_STAGES} stages"
    return ""
