"""Diagnostics of a failed solve: where it failed, why, and what to do."""

from __future__ import annotations

import torch
from torch import Tensor

from physid.ode.control import Fixed
from physid.ode.eager.stages import InPlace, Stages
from physid.ode.problem import ODEProblem
from physid.ode.solution import Status

STIFF = 3.25  # |h lambda| on the border of stability of the 5th-order method (Hairer and Wanner, 1996, IV.2)


def sentence(problem: ODEProblem, lane: int, status: Status, culprit: Tensor | None, t: float, stiff: bool) -> str:
    """The sentence for a lane that ended at t; `culprit` [L * N] shows which components are not numbers."""
    at = f"near t = {t:.9g}"
    if status is Status.NOT_A_NUMBER and culprit is not None:
        row = culprit.detach().view(problem.layout.lanes, -1)[lane]
        where = torch.nonzero(~torch.isfinite(row)).flatten().tolist()
        named = ", ".join(map(str, where[:4])) + (", ..." if len(where) > 4 else "")
        return f"f returned not-a-number in component {named} {at}: look at f there, or at y0 and the parameters."
    if status is Status.BLOW_UP:
        return f"the solution grows without bound {at}: end earlier, or look at the sign of f."
    if status is Status.STEP_TOO_SMALL:
        return (
            f"the step fell below the resolution of time {at}: loosen rtol and atol, or look for a jump in f (jump_t)."
        )
    remedy = " f looks stiff: rescale it, or use an implicit solver (SciPy's Radau)." if stiff else ""
    limits = problem.limits
    if status is Status.MAX_STEPS:
        return f"{limits.max_steps} steps reached only t = {t:.9g}: raise max_steps or loosen the tolerances.{remedy}"
    limit = "the time limit" if limits.seconds is None else f"{limits.seconds} s of time limit"
    return f"{limit} reached only t = {t:.9g}: raise it or loosen the tolerances.{remedy}"


def flown_off(problem: ODEProblem, y: Tensor, y1: Tensor) -> Tensor:
    """Mask [L] of lanes that have grown far beyond their start, or with fixed steps to infinity."""
    lanes, fixed = problem.layout.lanes, isinstance(problem.control, Fixed)
    rows, first = (x.detach().view(lanes, -1).abs().amax(1).cpu() for x in (y, problem.y0))
    infinite = torch.isinf(y1.detach().abs()).view(lanes, -1).any(1).cpu()
    return (rows > 1e8 * (1 + first)) | (infinite & fixed)


def looks_stiff(problem: ODEProblem, stages: Stages) -> bool:
    """Whether h times the dominant eigenvalue, seen in the last two stages, lies on the border of stability."""
    if not problem.tableau.fsal or len(problem.tableau.b) < 6 or not isinstance(stages, InPlace):
        return False
    last, rows = len(problem.tableau.b) - 1, (problem.layout.lanes, -1)
    y = torch.zeros_like(problem.y0)
    states = stages.combine(y, last) - stages.combine(y, last - 1)
    slopes = stages.hk[last] - stages.hk[last - 1]
    ratio = slopes.view(rows).norm(dim=1) / states.view(rows).norm(dim=1).clamp(min=1e-300)
    return bool((ratio > STIFF).any())
