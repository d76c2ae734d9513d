"""Backend: what carries out the solves of a gradient method, and what an engine, eager or compiled, can do.

Eager is the specification, native must equal it: on a given grid of accepted steps the two agree to 1e-12 in states,
gradients, statuses and counts. What the compiled engine cannot do in this way it leaves to the eager one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.outcome import Outcome
from physid.ode.problem import ODEProblem
from physid.ode.solution import Statistics

Cotangents = tuple[Tensor, list[Tensor | None], Tensor | None, Tensor | None]


class Backend(Protocol):
    """Engine of a gradient method: compiled code wherever it runs the problem, else torch."""

    def solve(self, problem: ODEProblem) -> Outcome:
        """The states of a problem, without a graph and without anything kept for a backward pass."""
        ...

    def of(self, problem: ODEProblem, forward: bool = False) -> Engine:
        """The engine for a problem (`forward`: with sensitivities). Errors: InputError where it must be compiled."""
        ...

    def by_torch(self, why: str) -> Engine:
        """The eager engine, for what is never compiled. Errors: InputError where it must be, which says `why`."""
        ...


class Engine(Backend, Protocol):
    """Marches, pulls cotangents back, differentiates forwards; what it keeps of a march is its own affair."""

    @property
    def name(self) -> str:
        """The engine's name in a Solution."""
        ...

    def count_from_here(self) -> Callable[[int], None]:
        """A function that adds to the count of an f which counts its evaluations, where others evaluate it."""
        ...

    def march(
        self, problem: ODEProblem, aware: bool = False, checkpoints: int | None = None, remember: bool | None = None
    ) -> tuple[Outcome, Any]:
        """Solve and keep what `pull` and `tape` need, with `aware` the choice of the steps, too.

        No more than `checkpoints` states of a lane are held, during the march and during the pullback. `remember`: the
        graphs of the stages may be kept, where that spares evaluations.
        """
        ...

    def pull(
        self,
        problem: ODEProblem,
        kept: Any,
        captured: Sequence[Tensor],
        needs: Sequence[bool],
        need_times: bool,
        stats: Statistics,
        g: Tensor,
    ) -> Cotangents:
        """g [T, L * N] -> cotangents of y0 [L * N], of those of `captured` that need one, of the times [T, L].

        The last ones are those of the jumps that move [J, L or 1].
        """
        ...

    def tape(self, problem: ODEProblem, kept: Any) -> Tape:
        """The accepted steps, for a differentiable replay."""
        ...

    def differentiate(self, problem: ODEProblem, params: list[Tensor]) -> tuple[Outcome, Tensor, Tensor]:
        """Solve, with the derivatives of the states by y0 [T, L, N, N] and by all parameters [T, L, N, Q]."""
        ...
