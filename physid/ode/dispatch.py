"""Dispatch: chooses the engine of a solve, compiled code where it applies, else torch, with the reason."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from physid.errors import InputError, unknown_name
from physid.ode.backend import Engine
from physid.ode.eager.engine import EAGER
from physid.ode.eager.outcome import Outcome
from physid.ode.hearing import TimeUp, check, end_of, listening
from physid.ode.problem import ODEProblem, Recall

ENGINES = ("auto", "native", "eager")


@dataclass(frozen=True)
class Choice:
    """An engine, and why it is not the compiled one (empty if it is, or if eager was asked for)."""

    engine: Engine
    note: str = ""


class Dispatch:
    """The backend of one solve: hands each problem to the engine for it, as `asked` ("auto", "native", "eager").

    `name` and `note` are those of the engine that took the first problem, which gave the states.
    """

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.name = self.note = ""
        self.sought = 0.0  # seconds that were spent on the choice

    def solve(self, problem: ODEProblem) -> Outcome:
        """The states of a problem, without a graph."""
        return self.of(problem).solve(problem)

    def of(self, problem: ODEProblem, forward: bool = False) -> Engine:
        """The engine for a problem, and for all that are made from it."""
        began = time.perf_counter()
        choice = choose(problem, self.asked, forward)
        self.sought += time.perf_counter() - began
        if not self.name:
            self.name, self.note = choice.engine.name, choice.note
        if not forward:
            problem.engine = choice.engine
        return choice.engine

    def by_torch(self, why: str) -> Engine:
        """The eager engine. Errors: InputError where the compiled one was asked for, which says `why`."""
        choice = Choice(EAGER) if self.asked == "eager" else _eager(why, self.asked)
        self.name, self.note = choice.engine.name, choice.note
        return choice.engine


def check_engine(engine: str) -> None:
    """InputError for an unknown name."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)


def choose(problem: ODEProblem, asked: str, forward: bool = False) -> Choice:
    """The engine for a solve (`forward`: with sensitivities); InputError where engine 'native' cannot run it."""
    if asked == "eager":
        return Choice(EAGER)
    tangents = forward or (problem.probes is not None and problem.engine is not EAGER)
    if problem.engine is not None and not tangents:
        return Choice(problem.engine)
    end = end_of(problem.started, problem.limits.seconds)
    if end is not None and time.perf_counter() >= end:
        return Choice(EAGER, "eager: no time was left")
    from physid.ode.native.choose import native_engine

    try:
        with listening(None if end is None else end - time.perf_counter()):
            found = native_engine(problem, forward)
    except TimeUp:
        check()  # that of who called
        return Choice(EAGER, "eager: the time limit ran out while f was being compiled")
    if not isinstance(found, str):
        return Choice(found)
    return _eager(found, asked)


def memory(asked: str) -> Recall | None:
    """The compiled engine's memory of f, where that engine may run."""
    module = sys.modules.get("physid.ode.native.cache")
    if asked == "eager" or module is None:
        return None
    found: Recall = module.recall
    return found


def _eager(cause: str, asked: str) -> Choice:
    if asked == "native":
        raise InputError(
            f"engine 'native' cannot run this solve: {cause}. Use engine='auto', which falls back to eager, or change "
            "what stands in the way."
        )
    return Choice(EAGER, f"eager: {cause}")
