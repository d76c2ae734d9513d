"""Which engine carries out a solve: compiled code wherever it applies, else torch, with the reason."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from physid.errors import InputError, unknown_name
from physid.ode.eager.backend import EAGER, Tier
from physid.ode.gradients.aca import ACA, Gradient, wants_gradient
from physid.ode.gradients.adjoint import Adjoint
from physid.ode.gradients.forward import Forward
from physid.ode.hearing import TimeUp, check, end_of, listening
from physid.ode.problem import Problem, Recall

ENGINES = ("auto", "native", "eager")


@dataclass(frozen=True)
class Choice:
    """A tier, and why it is not the compiled one (empty if it is, or if eager was asked for)."""

    tier: Tier
    note: str = ""


def check_engine(engine: str) -> None:
    """InputError for an unknown name."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)


def choose(problem: Problem, engine: str, forward: bool = False) -> Choice:
    """The tier for a solve (`forward`: with sensitivities); InputError where engine 'native' cannot run it."""
    if engine == "eager":
        return Choice(EAGER)
    if problem.recalled is not None and not forward:
        return Choice(problem.recalled)
    end = end_of(problem.started, problem.limits.seconds)
    if end is not None and time.perf_counter() >= end:
        return Choice(EAGER, "eager: no time was left")
    from physid.ode.native.choose import native_tier

    try:
        with listening(None if end is None else end - time.perf_counter()):
            found = native_tier(problem, forward)
    except TimeUp:
        check()  # that of who called
        return Choice(EAGER, "eager: the time limit ran out while f was being compiled")
    if not isinstance(found, str):
        return Choice(found)
    return _eager(found, engine)


def memory(engine: str, method: Gradient | None = None) -> Recall | None:
    """What may spare a solve the look at f: the compiled engine's memory, where that engine may run."""
    module = sys.modules.get("physid.ode.native.cache")
    if engine == "eager" or module is None or not (method is None or isinstance(method, ACA | Forward)):
        return None
    found: Recall = module.recall
    return found


def equip(method: Gradient, problem: Problem, engine: str) -> tuple[Gradient, Choice]:
    """The gradient method on the tier that is chosen for this solve."""
    if isinstance(method, ACA | Forward):
        carried = isinstance(method, Forward) and (wants_gradient(problem) or problem.probes is not None)
        choice = choose(problem, engine, carried)
        tier: Any = choice.tier
        if engine == "native" and isinstance(method, ACA) and method.step_aware:
            tier = replace(tier, strict=True)
        return replace(method, tier=tier), choice
    if isinstance(method, Adjoint) and engine == "auto" and wants_gradient(problem):
        note = "gradient 'adjoint' marches by torch; its reverse solves are compiled where that is possible"
        return replace(method, compiled=True), _eager(note, engine)
    if engine != "eager" and wants_gradient(problem):
        return method, _eager(f"gradient '{method.name}' is not compiled", engine)
    return method, Choice(EAGER, "")


def _eager(cause: str, engine: str) -> Choice:
    if engine == "native":
        raise InputError(
            f"engine 'native' cannot run this solve: {cause}. Use engine='auto', which falls back to eager, or change "
            "what stands in the way."
        )
    return Choice(EAGER, f"eager: {cause}")
