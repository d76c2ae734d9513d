"""Choice of compiled code for a solve, with the reason where it does not apply."""

from __future__ import annotations

from physid.ode.native.cache import refused, remember
from physid.ode.native.compile import Refusal, kernel_for, tangents_of
from physid.ode.native.engine import Native, engine_of
from physid.ode.native.structures import MOST_STAGES
from physid.ode.problem import ODEProblem
from physid.ode.torch_internals import forward_mode


def native_engine(problem: ODEProblem, forward: bool = False) -> Native | str:
    """The compiled engine of a problem, or in one line why there is none; `forward` when sensitivities are wanted."""
    pushes = forward or problem.probes is not None
    found = problem.engine if isinstance(problem.engine, Native) else _beyond(problem) or refused(problem)
    if not found:
        kernel = kernel_for(problem, pushes=pushes)
        found = kernel.reason if isinstance(kernel, Refusal) else engine_of(kernel)
        remember(problem, found, kernel.around)
    if isinstance(found, Native) and pushes:
        if forward and found.kernel.sampled:
            return "sensitivities by parameters that differ between samples"
        return tangents_of(found.kernel, problem) or found.pushing()
    return found


def _beyond(problem: ODEProblem) -> str:
    """What the compiled march does not do."""
    if forward_mode():
        return "forward-mode derivatives"
    if problem.landings is not None and problem.landings.tied:
        return "jumps at one time that move apart"
    if problem.norm is not None:
        return "a norm of the user's"
    if problem.callbacks:
        return f"f has {next(iter(problem.callbacks))}"
    if len(problem.tableau.dense) > MOST_STAGES:
        return f"a method of more than {MOST_STAGES} stages"
    return ""
