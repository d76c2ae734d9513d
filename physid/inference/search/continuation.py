"""Continuation: fits models with rounded corners first, and sharpens them to the model asked for.

Source: Allgower and Georg (1990), Numerical Continuation Methods.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.search.objective import FitObjective
from physid.inference.search.optimizer import Phase, Strategy
from physid.modelling.model import Model


def lead(fit: FitObjective, x: Array, strategy: Callable[[], Strategy]) -> Generator[Phase, Any, Array]:
    """The unknowns from which the search begins, after one search for each value of the model's `continuation`."""
    model = fit.problem.vector.model
    names = list(model.continuation)
    for values in zip(*model.continuation.values(), strict=True):
        settings = dict(zip(names, values, strict=True))
        label = ", ".join(f"{name} {value:g}" for name, value in settings.items())
        with changed(model, settings), fit.monitor.aside(label), suppress(Diverged):
            end = yield Phase(label, strategy(), fit, x)
            x = end.x  # where it diverged, the next one begins where this one did
    if names:
        fit.monitor.begin(x)
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
