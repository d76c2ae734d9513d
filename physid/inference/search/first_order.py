"""Gradient descent through the solver: Adam with the paper's schedule, and L-BFGS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from physid.arrays import Array
from physid.errors import Diverged, InputError
from physid.inference.options import FitPlan
from physid.inference.parameters import Vector
from physid.inference.problem import Problem, prior_rows
from physid.inference.search.monitor import Watch
from physid.modelling.prior import Ridge

REASONS = {0: "the objective no longer falls", 1: "the limit of iterations was reached"}
FAILURES = 20  # failing solves in a row after which a descent has diverged


class Objective:
    """The experiment's metric on its training part, weighted by discount^(t - t0), and its gradient by x.

    Penalties of weights are added in the same unit; a protocol of the paper has none.
    Errors: InputError for unknowns with priors, which are residuals and need least squares.
    """

    def __init__(self, problem: Problem, plan: FitPlan, watch: Watch) -> None:
        self.problem, self.plan, self.watch = problem, plan, watch
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
        limit = self.watch.left
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
            self.watch.saw(phase, x, float("inf"))
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
            self.watch.saw(phase, x, float("inf"))
            return None
        self.watch.saw(phase, x, value)
        return value, gradient


def start_of(vector: Vector, shift: Tensor) -> Tensor:
    """The initial state [*state] moved by `shift` [F] in units of its scale, differentiable."""
    flat = vector.experiment.initial.reshape(-1)
    if len(shift):
        flat = flat.index_put((vector.places,), flat[vector.places] + shift * torch.from_numpy(vector.scale))
    return flat.view(vector.experiment.initial.shape).to(vector.like)


def adam(objective: Objective, x: Array, plan: FitPlan) -> Array:
    """The best x of an Adam run, step size lr decay^epoch. Source: Kingma and Ba (2015).

    With `natural` the steps are those of the natural values, held inside their domains. A failing solve is taken back
    and the step size halved. Errors: Diverged after too many of them.
    """
    vector, schedule = objective.vector, plan.schedule
    theta = torch.nn.Parameter(torch.from_numpy(vector.natural(x) if schedule.natural else x.copy()))
    # of gradients far below what Adam divides by at least, no steps would come: data in mol/l have such
    small = 1.0 if plan.protocol != "default" else min(1.0, objective.problem.spread**2)
    optimizer = torch.optim.Adam([theta], lr=schedule.lr, betas=schedule.betas, eps=1e-8 * small)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, schedule.decay)
    good, failures, first = theta.detach().clone(), 0, 0
    watch, held = objective.watch, objective.watch.held
    if held.get("stage") == "adam":
        first, failures = int(held["epoch"]), int(held["failures"])
        good = _recall(held, theta, optimizer, scheduler)
    for epoch in range(first, schedule.epochs):
        x = vector.raw(theta.detach().numpy()) if schedule.natural else theta.detach().numpy().copy()
        found = objective.at(x, "adam")
        if found is None:
            failures += 1
            if failures > FAILURES:
                raise Diverged(f"{failures} solves failed in a row: {objective.problem.message}")
            theta.data.copy_(0.5 * (theta.data + good))
        else:
            good, failures = theta.detach().clone(), 0
            theta.grad = torch.from_numpy(found[1] / vector.slopes(x) if schedule.natural else found[1])
            optimizer.step()
            scheduler.step()
        moments = {name: value.clone() for name, value in optimizer.state.get(theta, {}).items()}
        rate, state = scheduler.get_last_lr()[0], {"theta": theta.detach().clone(), "good": good}
        watch.hold("adam", epoch=epoch + 1, failures=failures, rate=rate, **state, **moments)
    return x if objective.watch.best is None else objective.watch.best


def _recall(
    held: Mapping[str, Any],
    theta: torch.nn.Parameter,
    optimizer: torch.optim.Adam,
    scheduler: torch.optim.lr_scheduler.ExponentialLR,
) -> Tensor:
    """Put Adam back where it stood, and return the last unknowns whose solve succeeded."""
    with torch.no_grad():
        theta.copy_(torch.as_tensor(held["theta"]))
    names = [name for name in ("step", "exp_avg", "exp_avg_sq") if name in held]
    optimizer.state[theta] = {name: torch.as_tensor(held[name]) for name in names}
    if names:
        optimizer.state[theta]["step"] = optimizer.state[theta]["step"].float().reshape(())
    for group in optimizer.param_groups:
        group["lr"] = float(held["rate"])
    scheduler.last_epoch = int(held["epoch"])
    return torch.as_tensor(held["good"])


def lbfgs(objective: Objective, x: Array, plan: FitPlan) -> tuple[Array, str]:
    """The optimum by limited-memory BFGS, and why it stopped. Source: Byrd et al. (1995)."""
    watch = objective.watch
    x = watch.held["x"] if watch.held.get("stage") == "lbfgs" else x
    first = objective.at(x, "lbfgs")
    if first is None:
        raise Diverged(f"the solve failed at the start: {objective.problem.message}")
    unit = first[0] or 1.0

    def value(z: Array) -> tuple[float, Array]:
        found = objective.at(z, "lbfgs")
        if watch.best is not None and np.array_equal(watch.best, z):
            watch.hold("lbfgs", x=z)
        return (1e3, np.zeros_like(z)) if found is None else (found[0] / unit, found[1] / unit)

    found = minimize(
        value,
        x,
        args=(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": plan.schedule.epochs, "ftol": 1e-15, "gtol": 1e-12, "maxls": 40},
    )
    best = objective.watch.best
    return (x if best is None else best), REASONS.get(int(found.status), str(found.message).lower())
