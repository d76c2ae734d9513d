"""Optimizers from outside: ask-and-tell classes and functions that run to completion, as optimizers that resume.

Three forms are taken, by what they have:

- a class `Name(x, bounds, seed)` with `ask() -> xs [N, Q]`, `tell(xs, costs)` and `done() -> bool`. Every evaluation is
  recorded; when the search resumes in another process, the class is made anew with the same arguments, asked again, and
  told what was recorded. It must draw its random numbers from `seed` alone.
- a function `name(objective, x)` that minimises `objective` from x and returns x, a result of SciPy, or nothing. When
  the search resumes, it is called again from the best point.
- a class or an object with `init`, `step` and `done` (see `Optimizer`), whose state is a dataclass that `init` names as
  its return type. When the search resumes, the state is made again from its fields.

x [Q] are the unknowns in the transformed, unbounded space; `bounds` [Q, 2] is the box of `FitObjective.bounds`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol, get_type_hints

import numpy as np

from physid.arrays import Array
from physid.errors import InputError, unknown_name
from physid.inference.search.catalogue import OPTIMIZERS, has, name_of
from physid.inference.search.objective import FitObjective
from physid.inference.search.optimizer import TRANSIENT, Optimizer
from physid.modelling.address import import_file, is_file_name, split_file_name


class AskTell(Protocol):
    """An optimizer that is asked for points and told their costs."""

    def ask(self) -> Sequence[Array]:
        """The next points [N, Q], which are evaluated as one batch."""

    def tell(self, xs: Array, costs: Array) -> object:
        """Take the costs [N] of the points xs [N, Q]; infinite where a solve failed."""

    def done(self) -> bool:
        """Whether nothing more is to be asked."""


@dataclass
class AskTellState:
    """The start, every batch of points that was asked with its costs, and whether the optimizer is done."""

    x: Array
    asked: list[Array] = field(default_factory=list)
    costs: list[Array] = field(default_factory=list)
    over: bool = False
    made: AskTell | None = field(default=None, repr=False, compare=False, metadata=TRANSIENT)


class Asking:
    """The optimizer that asks an AskTell of class `make` for points and tells it their costs."""

    def __init__(self, make: Callable[..., AskTell], name: str, seed: int) -> None:
        self.make, self.name, self.seed = make, name, seed

    def init(self, objective: FitObjective, x: Array) -> AskTellState:
        """Nothing is asked yet."""
        return AskTellState(x)

    def step(self, objective: FitObjective, state: AskTellState) -> AskTellState:
        """One batch: asked, evaluated, told, recorded."""
        made = state.made or self._replay(objective, state)
        state.made = made
        if not made.done():
            xs = self._ask(made, len(state.x))
            costs = objective.costs(xs)
            made.tell(xs.copy(), costs.copy())
            state.asked.append(xs)
            state.costs.append(costs)
        state.over = bool(made.done())
        return state

    def done(self, state: AskTellState) -> bool:
        """Whether the optimizer is done."""
        return state.over

    def _replay(self, objective: FitObjective, state: AskTellState) -> AskTell:
        """The optimizer made anew and told what is recorded. Errors: InputError where it asks for other points."""
        made = self.make(state.x.copy(), objective.bounds, self.seed)
        for number, (before, costs) in enumerate(zip(state.asked, state.costs, strict=True), 1):
            xs = self._ask(made, len(state.x))
            if xs.tobytes() != before.tobytes():
                raise InputError(
                    f"optimizer {self.name} asked for other points in batch {number} than when the run was made: one "
                    "that draws from its seed alone is expected, so that it can resume. Use the seed that it is given, "
                    "or remove checkpoint.npz and start anew."
                )
            made.tell(xs, costs.copy())
            for x, cost in zip(xs, costs, strict=True):
                objective.note(x, float(cost))
        return made

    def _ask(self, made: AskTell, width: int) -> Array:
        """The next points [N, Q]. Errors: InputError for what is none."""
        found = np.array([np.asarray(x, dtype=np.float64) for x in made.ask()], dtype=np.float64)
        if found.ndim != 2 or found.shape[1] != width or not len(found) or not np.isfinite(found).all():
            raise InputError(
                f"optimizer {self.name} asked for points of shape {list(found.shape)}: finite numbers of shape "
                f"[N, {width}] are expected. Correct ask()."
            )
        return found


@dataclass
class CompletionState:
    """The best point so far, and what the optimizer said at its end."""

    x: Array
    cost: float = math.inf
    over: bool = False
    message: str = ""


class RunToCompletion:
    """The optimizer that calls a function which minimises by itself; it continues from the best point."""

    def __init__(self, minimise: Callable[[FitObjective, Array], Any]) -> None:
        self.minimise = minimise

    def init(self, objective: FitObjective, x: Array) -> CompletionState:
        """Nothing is evaluated yet."""
        return CompletionState(x)

    def step(self, objective: FitObjective, state: CompletionState) -> CompletionState:
        """The whole run; every better point is one from which it could continue."""

        def note() -> None:
            if objective.best is not None and objective.best[1] < state.cost:
                state.x, state.cost = objective.best
                objective.monitor.hold(objective.monitor.state)

        objective.evaluated = note
        try:
            said = self.minimise(objective, state.x.copy())
        finally:
            objective.evaluated = lambda: None
        state.over, state.message = True, str(getattr(said, "message", ""))
        return state

    def done(self, state: CompletionState) -> bool:
        """Whether the function has returned."""
        return state.over


@dataclass
class SteppedState:
    """The fields of the state of an optimizer from outside, by name."""

    fields: dict[str, Any]
    state: Any = field(default=None, repr=False, compare=False, metadata=TRANSIENT)


class Stepping:
    """The optimizer that steps one from outside, and keeps the fields of its state."""

    def __init__(self, optimizer: Optimizer[Any], name: str) -> None:
        self.optimizer, self.name = optimizer, name

    def init(self, objective: FitObjective, x: Array) -> SteppedState:
        """The state at x."""
        return self._of(self.optimizer.init(objective, x))

    def step(self, objective: FitObjective, state: SteppedState) -> SteppedState:
        """The state after one step."""
        return self._of(self.optimizer.step(objective, self._restored(state)))

    def done(self, state: SteppedState) -> bool:
        """Whether the search has ended."""
        return bool(self.optimizer.done(self._restored(state)))

    def _of(self, state: Any) -> SteppedState:
        if not is_dataclass(state) or isinstance(state, type):
            raise InputError(
                f"optimizer {self.name} has a state of type {type(state).__name__}: a dataclass of numbers and arrays "
                "is expected, so that a run can resume from it. Return one from init and step."
            )
        found = {one.name: getattr(state, one.name) for one in fields(state)}
        for name, value in found.items():
            if not _is_data(value):
                raise InputError(
                    f"optimizer {self.name} has a state whose {name} is of type {type(value).__name__}: numbers, "
                    "strings, arrays, and lists, tuples and mappings of these are expected. Keep others elsewhere."
                )
        return SteppedState(found, state)

    def _restored(self, state: SteppedState) -> Any:
        if state.state is None:
            kind = get_type_hints(self.optimizer.init).get("return")
            if not isinstance(kind, type) or not is_dataclass(kind):
                raise InputError(
                    f"optimizer {self.name} does not say the type of its state, which is needed to resume. Annotate "
                    "what init returns with the dataclass."
                )
            state.state = kind(**state.fields)
        return state.state


def _is_data(value: Any) -> bool:
    """Whether a run directory can hold a value."""
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_data(part) for key, part in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def optimizer_of(given: Any, seed: int) -> Optimizer[Any]:
    """The optimizer that a user gave, or named: one of an installed package, or `FILE.py:NAME`.

    Errors: InputError for a name that is none, and for what is none of the three forms.
    """
    name = name_of(given)
    if isinstance(given, str):
        given = _from_file(given) if is_file_name(given) else OPTIMIZERS.lookup(given)
    if has(given, "init", "step", "done"):
        return Stepping(given() if isinstance(given, type) else given, name)
    inner = given.func if isinstance(given, functools.partial) else given
    if isinstance(inner, type) and has(inner, "ask", "tell", "done"):
        return Asking(given, name, seed)
    if callable(given) and not isinstance(inner, type):
        return RunToCompletion(given)
    raise InputError(
        f"optimizer {name} is {'a class' if isinstance(given, type) else f'a {type(given).__name__}'}: a class with "
        "ask, tell and done, a function of objective and x, or an object with init, step and done is expected. Give "
        "one of these."
    )


def _from_file(text: str) -> Any:
    """The object that `FILE.py:NAME` names. Errors: InputError where the file or the name is not there."""
    path, name = split_file_name(text)
    own = vars(import_file(path))
    if name not in own:
        there = [key for key, value in own.items() if callable(value) and not key.startswith("_")]
        raise unknown_name(f"optimizer of {path.name}", name, there)
    return own[name]
