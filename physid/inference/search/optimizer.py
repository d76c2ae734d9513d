"""Optimizer: a search as init, step and done with plain data for its state; Strategy: an optimizer made of optimizers.

The state is a dataclass of numbers, arrays and strings, so that a checkpoint is its fields. What only saves an
evaluation, as the Jacobian at the point where a descent stands, is a field with the metadata TRANSIENT, which no
checkpoint holds. `search` is the one loop over all of them.

Source: the protocol is that of optimistix (Rader, Lyons and Kidger 2024) and of blackjax (Cabezas et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from physid.arrays import Array
from physid.errors import Diverged
from physid.inference.problem import Point
from physid.inference.search.monitor import Monitor
from physid.inference.search.one_start import Start
from physid.modelling.address import blame
from physid.ode.hearing import TimeUp, listening

S = TypeVar("S")


class Optimizer(Protocol[S]):
    """A search for the minimum of an objective, one step at a time.

    `step` may change the state that it is given, and returns that of the next step. Errors of both: Diverged where
    nothing can be evaluated; TimeUp and KeyboardInterrupt pass through.
    """

    def init(self, objective: Any, x: Array) -> S:
        """The state at the starting point x [Q]."""

    def step(self, objective: Any, state: S) -> S:
        """The state after one step."""

    def done(self, state: S) -> bool:
        """Whether the search has ended."""


TRANSIENT: Mapping[str, bool] = {"transient": True}  # of a field that no checkpoint holds


@dataclass
class Optimum:
    """End of a search: the unknowns x [Q], the problem there if it is known, the status and a reason for it.

    `starts` are the records of many starts, `members` the ends x of several seeds.
    """

    x: Array
    point: Point | None
    status: str
    message: str
    starts: list[Start] = field(default_factory=list)
    members: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class Phase:
    """One optimizer of a strategy at work: its stage by name, its objective, and the x or the state it begins at."""

    stage: str
    optimizer: Optimizer[Any]
    objective: Any
    x: Any = None
    state: Any = None

    def begin(self) -> Any:
        """The state at the beginning."""
        return self.optimizer.init(self.objective, self.x) if self.state is None else self.state


# What a strategy does: it yields phases, is sent the state in which each ended, and returns the optimum.
Script = Generator[Phase, Any, Optimum]


@dataclass
class Failed:
    """The end of a phase in which nothing could be evaluated."""

    message: str


@dataclass
class StrategyState:
    """State of a strategy: the states in which its phases ended, the state of the phase that runs, and its stage.

    At the end `status`, `message` and `x` are those of the optimum. `anew`: the strategy had ended without converging,
    and continues from there.
    """

    x: Array
    anew: bool = False
    ended: list[Any] = field(default_factory=list)
    running: Any = None
    stage: str = ""
    status: str = ""
    message: str = ""


class Strategy:
    """An optimizer made of optimizers: a script that runs one after another, each from where others ended.

    `script(objective, x, anew)` is a generator of phases. When the search resumes in another process, the script is
    gone through again: phases that have ended are not run but answered with the states in which they did. A strategy
    that `restarts` continues from its end where it ended without converging, others end there again.
    """

    def __init__(self, script: Callable[[Any, Array, bool], Script], restarts: bool = True) -> None:
        self.script, self.restarts = script, restarts
        self.optimum: Optimum | None = None
        self._going: Script | None = None
        self._phase: Phase | None = None

    def init(self, objective: Any, x: Array) -> StrategyState:
        """Nothing is done yet."""
        return StrategyState(x)

    def resumed(self, state: StrategyState) -> StrategyState:
        """The state from which a search resumes that was written down in `state`."""
        if not state.status:
            return state
        return StrategyState(state.x, anew=True) if self.restarts else replace(state, status="", message="")

    def step(self, objective: Any, state: StrategyState) -> StrategyState:
        """One step of the phase that runs, or the beginning of the first."""
        script, phase = self._going, self._phase
        if script is None or phase is None:
            return self._begin(objective, state)
        try:
            state.running = phase.optimizer.step(phase.objective, state.running)
        except Diverged as error:
            self._record(state, Failed(str(error)))
            self._send(script, state, error)
            return self._run(script, state)
        except BaseException:
            script.close()  # tidies up
            raise
        if phase.optimizer.done(state.running):
            self._send(script, state, self._record(state, state.running))
            return self._run(script, state)
        return state

    def done(self, state: StrategyState) -> bool:
        """Whether the script has ended."""
        return bool(state.status)

    def _begin(self, objective: Any, state: StrategyState) -> StrategyState:
        """Go through the phases that have ended, up to the one that runs."""
        script = self._going = self.script(objective, state.x.copy(), state.anew)
        known = state.ended or state.running is not None
        with objective.monitor.aside() if known else nullcontext():
            self._send(script, state, None)
            for end in state.ended:
                self._send(script, state, Diverged(end.message) if isinstance(end, Failed) else end)
        return self._run(script, state)

    def _record(self, state: StrategyState, end: Any) -> Any:
        """The phase has ended."""
        if isinstance(end, StrategyState):
            end.ended, end.running = [], None
        state.ended.append(end)
        state.running = None
        return end

    def _send(self, script: Script, state: StrategyState, end: Any) -> None:
        """Answer the script's phase with its end, a state or an error; it yields the next one, or returns."""
        try:
            self._phase = script.throw(end) if isinstance(end, BaseException) else script.send(end)
            state.stage = self._phase.stage
        except StopIteration as stop:
            self._phase, self.optimum = None, stop.value
            state.x, state.status, state.message = stop.value.x, stop.value.status, stop.value.message

    def _run(self, script: Script, state: StrategyState) -> StrategyState:
        """Begin the phase, unless it runs already; one that cannot begin has ended."""
        while self._phase is not None and state.running is None:
            try:
                state.running = self._phase.begin()
            except Diverged as error:
                self._record(state, Failed(str(error)))
                self._send(script, state, error)
                continue
            if self._phase.optimizer.done(state.running):
                self._send(script, state, self._record(state, state.running))
        return state


def search(strategy: Strategy, objective: Any, x: Array) -> Optimum:
    """The optimum from x [Q], or the best so far with the reason why it is none: the loop of every search.

    The monitor's state is that of the search, and is handed on after every step. Ctrl-C and the time limit of the
    monitor end it. `objective.monitor` gets every evaluation from its caller.
    """
    monitor: Monitor = objective.monitor
    try:
        with listening(monitor.left):
            state = strategy.init(objective, x) if monitor.state is None else strategy.resumed(monitor.state)
            while (found := strategy.optimum) is None:
                monitor.hold(state := strategy.step(objective, state))
            return found
    except Diverged as error:
        status, message = "diverged", str(error)
    except KeyboardInterrupt as error:
        if blame(error) is not None:  # the model's own
            raise
        status, message = "interrupted", "Interrupted; the unknowns are the best so far."
    except TimeUp:
        status = "time limit"
        message = f"The time limit of {monitor.time_limit:g} s ran out; the unknowns are the best so far."
    best = x if monitor.best is None else monitor.best
    return Optimum(best, None, status, f"{message[:1].upper()}{message[1:]}")
