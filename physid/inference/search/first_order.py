"""First-order optimizers: Adam with the paper's schedule, and L-BFGS, by gradients through the solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from physid.arrays import Array
from physid.errors import Diverged, InputError
from physid.inference.options import FitPlan
from physid.inference.parameters import ParameterVector
from physid.inference.problem import Problem, prior_rows
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import FitObjective
from physid.modelling.prior import Ridge

FAILURES = 20  # failing solves in a row after which a descent has diverged
REASONS = {0: "the objective no longer falls", 1: "the limit of iterations was reached"}


class DescentLoss:
    """The experiment's metric on its training part, weighted by discount^(t - t0), and its gradient by x.

    Penalties of weights are added in the same unit; a protocol of the paper has none.
    Errors: InputError for unknowns with priors, which are residuals and need least squares.
    """

    def __init__(self, problem: Problem, plan: FitPlan, monitor: Monitor) -> None:
        self.problem, self.plan, self.monitor = problem, plan, monitor
        vector = self.vector = problem.vector
        beliefs = vector.beliefs
        priors = [name for name, prior in beliefs.items() if prior is not None and not isinstance(prior, Ridge)]
        if priors:
            raise InputError(
                f"{', '.join(priors)} has a prior, which optimizer {plan.optimizer} does not take. Use lm."
            )
        train, experiment = problem.train, problem.experiment
        start = float(experiment.initial_time or 0.0)
        self.times = torch.cat([torch.tensor([start], dtype=torch.float64), train.times])
        mask = train.mask.reshape(len(train), -1).double()
        counts = mask.sum(0, keepdim=True).clamp(min=1) if experiment.metric == "sum" else mask.sum()
        weights = mask / counts * plan.schedule.discount ** (train.times - start)[:, None]
        self.weights = weights.to(vector.like)
        self.measured = torch.from_numpy(problem.measured).to(vector.like)
        self.integrator = plan.integrator
        columns = problem.mask.shape[1] if experiment.metric == "sum" else 1
        self.penalty = 0.0 if plan.protocol != "default" else columns * problem.scale**2

    def at(self, x: Array, phase: str) -> tuple[float, Array] | None:
        """The loss and its gradient [Q]; None when the solve fails."""
        limit = self.monitor.left
        shift = torch.from_numpy(x[self.vector.parameters :].copy()).requires_grad_()
        self.vector.put(x)
        y0 = start_of(self.vector, shift)
        steps = min(self.integrator.most_steps, self.problem.patience)
        integrator = replace(self.integrator, max_steps=steps, time_limit=limit or self.integrator.time_limit)
        solution = integrator.solve(self.vector.model, y0, self.times, throw=False)
        states = solution.y
        self.problem.account(solution)
        before = solution.statistics.backward_evaluations
        if not solution.ok or not isinstance(states, Tensor):
            self.monitor.saw(phase, x, float("inf"))
            return None
        self.problem.took(solution)
        error = self.vector.model.observe(states[1:]).reshape(self.measured.shape) - self.measured
        loss = (self.weights * error.square()).sum()
        inputs = [*self.vector.raws, shift]
        found = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
        self.problem.evaluations += solution.statistics.backward_evaluations - before
        gradient = torch.cat([g.reshape(-1).double().cpu() for g in found]).numpy()
        rows, slopes = prior_rows(self.vector, x, self.problem.prior_weight) if self.penalty else (x[:0], gradient[:0])
        value = float(loss.detach()) + self.penalty * float(rows @ rows)
        if len(rows):
            gradient = gradient + 2.0 * self.penalty * (rows @ slopes)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            self.monitor.saw(phase, x, float("inf"))
            return None
        self.monitor.saw(phase, x, value)
        return value, gradient


def start_of(vector: ParameterVector, shift: Tensor) -> Tensor:
    """The initial state [*state] moved by `shift` [F] in units of its scale, differentiable."""
    flat = vector.experiment.initial.reshape(-1)
    if len(shift):
        flat = flat.index_put((vector.places,), flat[vector.places] + shift * torch.from_numpy(vector.scale))
    return flat.view(vector.experiment.initial.shape).to(vector.like)


@dataclass
class AdamState:
    """State of Adam: theta [Q] and the last one that was solved, moments, step size, and counts.

    theta are the unknowns x, or their natural values. `epoch` counts evaluations, `steps` those that were solved,
    `failures` those in a row that were not.
    """

    theta: Array
    good: Array
    first: Array
    second: Array
    lr: float
    epoch: int = 0
    steps: int = 0
    failures: int = 0


class Adam:
    """Adam over the gradient of a solve, step size lr decay^epoch. Source: Kingma and Ba (2015).

    With `natural` the steps are those of the natural values, held inside their domains. A failing solve is taken back
    and the step size halved. Errors: Diverged after too many of them.
    """

    def __init__(self, plan: FitPlan) -> None:
        self.schedule, self.paper = plan.schedule, plan.protocol != "default"

    def init(self, objective: DescentLoss, x: Array) -> AdamState:
        """The state at x [Q]."""
        theta = objective.vector.natural(x) if self.schedule.natural else x.copy()
        return AdamState(theta, theta.copy(), np.zeros(len(x)), np.zeros(len(x)), self.schedule.lr)

    def step(self, objective: DescentLoss, state: AdamState) -> AdamState:
        """One epoch."""
        vector, schedule = objective.vector, self.schedule
        x = vector.raw(state.theta) if schedule.natural else state.theta.copy()
        found = objective.at(x, "adam")
        state.epoch += 1
        if found is None:
            state.failures += 1
            if state.failures > FAILURES:
                raise Diverged(f"{state.failures} solves failed in a row: {objective.problem.message}")
            state.theta = 0.5 * (state.theta + state.good)
            return state
        state.good, state.failures, state.steps = state.theta, 0, state.steps + 1
        gradient = found[1] / vector.slopes(x) if schedule.natural else found[1]
        (b1, b2), t = schedule.betas, state.steps
        state.first = b1 * state.first + (1.0 - b1) * gradient
        state.second = b2 * state.second + (1.0 - b2) * gradient**2
        # of gradients far below what Adam divides by at least, no steps would come: data in mol/l have such
        least = 1e-8 * (1.0 if self.paper else min(1.0, objective.problem.spread**2))
        size = np.sqrt(state.second / (1.0 - b2**t)) + least
        state.theta = state.theta - state.lr / (1.0 - b1**t) * state.first / size
        state.lr *= schedule.decay
        return state

    def done(self, state: AdamState) -> bool:
        """Whether all epochs ran."""
        return state.epoch >= self.schedule.epochs


def lbfgs(objective: FitObjective, x: Array) -> Any:
    """Limited-memory BFGS over the gradient of a solve. Source: Byrd et al. (1995)."""
    loss = DescentLoss(objective.problem, objective.plan, objective.monitor)
    first = loss.at(x, "lbfgs")
    if first is None:
        raise Diverged(f"the solve failed at the start: {objective.problem.message}")
    unit = first[0] or 1.0

    def value(z: Array) -> tuple[float, Array]:
        found = loss.at(z, "lbfgs")
        if found is not None:
            objective.note(z, found[0])
        return (1e3, np.zeros_like(z)) if found is None else (found[0] / unit, found[1] / unit)

    options: Any = {"maxiter": objective.plan.schedule.epochs, "ftol": 1e-15, "gtol": 1e-12, "maxls": 40}
    found: Any = minimize(value, x, args=(), jac=True, method="L-BFGS-B", options=options)
    found.message = f"L-BFGS stopped: {REASONS.get(int(found.status), str(found.message).lower())}"
    return found
