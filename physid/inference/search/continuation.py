"""Continuation: a fit is led through easier models, whose corners are rounder, to the one that is meant.

Source: Allgower and Georg (1990), Numerical Continuation Methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.problem import Problem
from physid.inference.search.monitor import Watch
from physid.inference.search.trust_region import Found
from physid.modelling.model import Model


def lead(problem: Problem, watch: Watch, x: Array, search: Callable[[Watch, Array], Found]) -> Array:
    """The unknowns from which the search begins, after one search for each value of the model's `continuation`.

    A search that goes on does not repeat those that are done. Errors: TimeUp when the time runs out.
    """
    model, held, done = problem.vector.model, watch.held, 0
    names = list(model.continuation)
    steps = list(zip(*model.continuation.values(), strict=True))
    if held.get("stage") == "lead":
        done, x = int(held["done"]), held["x"]
    elif held:
        return x
    for number, values in enumerate(steps[done:], done + 1):
        settings = dict(zip(names, values, strict=True))
        inner = Watch(watch.progress, watch.left)
        with changed(model, settings), suppress(Diverged):  # then the next one begins where this one did
            x = search(inner, x).point.x
        told = ", ".join(f"{name} {value:g}" for name, value in settings.items())
        watch.history += [{**row, "phase": f"{told}, {row['phase']}"} for row in inner.history]
        watch.hold("lead", done=number, x=x)
    if steps:
        watch.begin(x)
    return x


@contextmanager
def changed(model: Model, settings: dict[str, float]) -> Iterator[None]:
    """The model with other constants."""
    own = {name: getattr(model, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(model, name, value)
        yield
    finally:
        for name, value in own.items():
            setattr(model, name, value)
