"""`odeint_dense`: the solution as a function of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.conclude import conclude
from physid.ode.eager.checkpoints import Tape
from physid.ode.eager.dense_output import theta_of
from physid.ode.eager.march import March
from physid.ode.eager.replay import pieces
from physid.ode.gradients.protocol import wants_gradient
from physid.ode.odeint_options import Options, read_options
from physid.ode.problem import ODEProblem
from physid.ode.request import Tolerance
from physid.ode.rhs import RightHandSide, State


@dataclass(frozen=True)
class DenseSolution:
    """y(t) for t between `t0` and `t1`: a scalar gives [*state], times [m] give [m, *state]; differentiable."""

    problem: ODEProblem
    starts: Tensor
    steps: Tensor
    states: Tensor
    stages: Tensor

    @property
    def t0(self) -> float:
        """Start of the solution."""
        return float(self.problem.grid[0])

    @property
    def t1(self) -> float:
        """End of the solution."""
        return float(self.problem.grid[-1])

    def __call__(self, t: Tensor | float) -> State:
        """The state(s) at t; InputError outside of the interval."""
        p, layout = self.problem, self.problem.layout
        times = torch.as_tensor(t).to("cpu", torch.float64)
        asked = times.reshape(-1)
        low, high = sorted((self.t0, self.t1))
        if times.ndim > 1 or bool(((asked < low) | (asked > high)).any()):
            raise InputError(f"t = {asked.tolist()[:3]} is asked of a solution on [{low}, {high}]: ask inside of it.")
        ahead = (self.starts.detach() * p.direction).contiguous()
        step = torch.searchsorted(ahead, asked.detach() * p.direction, right=True) - 1
        step = step.clamp(0, len(self.starts) - 1)
        theta = theta_of(asked, self.starts[step], self.steps[step])
        weights = p.coefficients.basis(theta, self.stages.shape[1]).to(layout.device, layout.dtype)
        step = step.to(layout.device)
        values = self.states[step] + torch.einsum("ms,msn->mn", weights, self.stages[step])
        return layout.unpack(values, (len(asked),)) if times.ndim else layout.unpack(values[0])


def odeint_dense(
    func: RightHandSide,
    y0: State,
    t0: Tensor | float,
    t1: Tensor | float,
    *,
    rtol: Tolerance = 1e-7,
    atol: Tolerance = 1e-9,
    method: str | None = None,
    options: Options | None = None,
) -> DenseSolution:
    """The solution of dy/dt = func(t, y), y(t0) = y0 as a function of t on [t0, t1]; like torchdiffeq's odeint_dense.

    It keeps the stages of every step, with their graph where gradients are wanted. Errors: as `odeint`.
    """
    ends = [torch.as_tensor(end).to("cpu", torch.float64).reshape(()) for end in (t0, t1)]
    problem = read_options(method, options).pose(func, y0, torch.stack(ends), rtol, atol, None)
    layout = problem.layout
    tape = Tape(1, layout.width, layout.dtype, layout.device)
    outcome = March(problem, tape=tape).run()
    conclude(problem, outcome.values, outcome, "naive", True)
    with torch.set_grad_enabled(wants_gradient(problem)), problem.field.unseen():
        parts = list(pieces(problem, tape, problem.y0, problem.t, problem.moved, dense=True))
        return DenseSolution(
            problem,
            torch.cat([part.start for part in parts]),
            torch.cat([part.h for part in parts]),
            torch.stack([part.y for part in parts]),
            torch.stack([part.hk for part in parts]),
        )
