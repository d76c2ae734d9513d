"""Eager notice: one warning, with the reason, for every f that "auto" runs by torch when that has taken a while."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from physid.ode.caching import Cache
from physid.ode.dispatch import Dispatch
from physid.ode.solution import Solution

SECONDS = 0.1  # of solves by torch in all, from which on it is worth a word
CHOSEN = ("the state is on the device", "inside of a torch.func", "forward-mode", "gradient 'naive'")  # no news


class EagerWarning(UserWarning):
    """Solves run by torch that would be faster compiled."""


@dataclass
class Spent:
    """The seconds that solves of f have taken by torch; `told` when they were told of."""

    f: Any
    seconds: float = 0.0
    told: bool = False


_SPENT: Cache[Any, Spent] = Cache(64)


def notice(f: Callable[..., Any], solution: Solution, backend: Dispatch, stacklevel: int) -> None:
    """Warn once of an f that engine "auto" runs eagerly, when its solves have taken SECONDS; functions by their code.

    The look for compiled code does not count.
    """
    cause = solution.engine_note.removeprefix("eager: ")
    if backend.asked != "auto" or not cause or solution.engine != "eager" or cause.startswith(CHOSEN):
        return
    spent = _SPENT.made(_who(f), lambda: Spent(f))
    spent.seconds += max(0.0, solution.statistics.seconds - backend.sought)
    if spent.told or spent.seconds < SECONDS:
        return
    spent.told = True
    name = getattr(f, "__qualname__", None) or type(f).__qualname__
    warnings.warn(
        f"eager because {cause}: solves of {name} have taken {spent.seconds:.2g} s by torch so far. Change what stands "
        "in the way of compiled code; engine='eager' silences this.",
        EagerWarning,
        stacklevel=stacklevel + 1,
    )


def _who(f: Any) -> Any:
    """Key of f: the code of a function, the id of another object."""
    if isinstance(f, types.FunctionType):
        return f.__code__
    return (f.__func__, id(f.__self__)) if isinstance(f, types.MethodType) else id(f)
