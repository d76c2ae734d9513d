"""Gradient precision: the end of probe tangents beside that of a second solve at a tighter tolerance."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.eager.outcome import Outcome
from physid.ode.problem import ODEProblem
from physid.ode.torch_internals import version_of

TIGHTER = 1e-2  # the tolerances of the second solve, as a share of those of the first
Again = Callable[[ODEProblem], Outcome]


def asked(problem: ODEProblem, values: Tensor, outcome: Outcome, again: Again) -> Callable[[], float] | None:
    """A function that measures the error of the tangents of a solve that gave `values` [T, L * N].

    None without tangents; not-a-number where no lane reached its end in both solves. The unknowns must still be what
    they were: InputError if they have changed.
    """
    if outcome.tangents is None:
        return None
    found = _reached(outcome, problem)
    marks = [(x, version_of(x)) for x in (problem.y0, *problem.unknowns)]

    def measure() -> float:
        if not any(status.ok for status in outcome.statuses):
            return float("nan")
        if any(version_of(x) != version for x, version in marks):
            raise InputError(
                "gradient_error: the unknowns have changed since the solve. Ask for it before they do, or solve again."
            )
        changes: dict[str, Any] = {"rtol": problem.rtol * TIGHTER, "atol": problem.atol * TIGHTER, "notes": {}}
        with torch.no_grad():
            other = again(problem.but(**changes, started=time.perf_counter()))
            return relative(problem, values.detach(), found, _reached(other, problem))

    return measure


def _reached(outcome: Outcome, problem: ODEProblem) -> Tensor:
    """The tangents [K, L * N] of an outcome that has them, not-a-number in lanes that did not reach their end."""
    tangents, layout = outcome.tangents, problem.layout
    if tangents is None:
        raise RuntimeError("there are no tangents")
    failed = torch.tensor([not status.ok for status in outcome.statuses])
    if not failed.any():
        return tangents
    lanes = tangents.view(-1, layout.lanes, layout.width)
    return lanes.masked_fill(failed[:, None].to(tangents.device), float("nan")).view(tangents.shape)


def relative(problem: ODEProblem, values: Tensor, found: Tensor, truth: Tensor) -> float:
    """The size of found - truth [K, L * N] over that of the truth, in the lane where it is largest.

    Components count in units of the largest that each has been in `values` [T, L * N]; not-a-number where no lane has
    finite tangents. What is below atol / rtol is not held to any relative error, and counts as that large.
    """
    layout = problem.layout
    shape = (-1, layout.lanes, layout.width)
    largest = torch.nan_to_num(values.abs()).view(shape).amax(0)
    unit = torch.where(largest > 0, largest, 1.0)
    rtol, atol = (
        torch.as_tensor(x).to(unit).expand(unit.numel()).view(unit.shape) for x in (problem.rtol, problem.atol)
    )
    least = (torch.where(rtol > 0, atol / rtol, 0.0) / unit).square().mean(1).sqrt()
    apart, whole = (((x.view(shape) / unit).square().mean((0, 2))).sqrt() for x in (found - truth, truth))
    errors = apart / torch.maximum(whole, least).clamp(min=1e-300)
    errors = errors[torch.isfinite(errors)]
    return float(errors.max()) if len(errors) else float("nan")
