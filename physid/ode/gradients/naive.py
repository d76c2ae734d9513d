"""The gradient method `naive`: autograd through the whole march."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from physid.ode.backend import Backend
from physid.ode.eager.engine import EAGER
from physid.ode.eager.outcome import Outcome
from physid.ode.gradients.protocol import wants_gradient
from physid.ode.problem import ODEProblem


@dataclass(frozen=True)
class Naive:
    """Backpropagation through everything, rejected trials and the search for the step size included.

    Memory and depth grow with every attempt. Source: Zhuang et al. (2020), section 3.2.
    """

    name: str = "naive"

    def solve(self, problem: ODEProblem, backend: Backend) -> tuple[Tensor, Outcome]:
        """March inside of autograd's graph."""
        if wants_gradient(problem):
            backend.by_torch("gradient 'naive' is not compiled")
            outcome = EAGER.traced(problem)
        else:
            outcome = backend.solve(problem)
        return outcome.values, outcome
