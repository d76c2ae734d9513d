"""Derivative check: the error of a fit's derivatives at its optimum, by a second solve at tighter tolerances."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from physid.inference.options import chooses
from physid.ode import Integrator
from physid.ode.probes import read

if TYPE_CHECKING:
    from physid.inference.problem import Point, Problem


TIGHTER, FLOOR = 1e-2, 1e-13  # the tolerances of a second solve, as a share of those of the first, and the least
NOTHING = 1e-9  # a column of less than this part of the largest one moves nothing
ENOUGH = 1e-2  # a relative error of derivatives that a fit can live with


def slope_error(problem: Problem, point: Point) -> float | None:
    """Relative error of the predictions' derivatives, against a solve at a hundredth of the tolerances.

    The second solve has its columns in the error norm, or else both may be wrong alike, as at rest. The difference is
    relative, by the column of the unknown where it is largest, columns of unknowns that move nothing left out; None
    where no tolerance controls the steps, with weights of a network, or where the second solve fails.
    """
    before, model = problem.integrator, problem.vector.model
    if not chooses(before) or any(not model.unknowns[name].listed for name in model.free()):
        return None
    problem.integrator = _tightened(before)
    try:
        other = problem.at(point.x)
    finally:
        problem.integrator = before
    if other is None:
        return None
    ours, theirs = (one.jacobian[: problem.count] for one in (point, other))
    if ours.shape != theirs.shape:
        return None
    apart, whole = (np.linalg.norm(table, axis=0) for table in (ours - theirs, theirs))
    counts = whole > NOTHING * whole.max(initial=0.0)
    return float((apart[counts] / whole[counts]).max()) if counts.any() else None


def _tightened(integrator: Integrator) -> Integrator:
    """With a hundredth of the tolerances, or as much less as round-off allows."""
    least = float(torch.as_tensor(integrator.rtol, dtype=torch.float64).min())
    share = min(1.0, max(TIGHTER, FLOOR / least)) if least > 0 else TIGHTER
    rtol, atol = (_times(value, share) for value in (integrator.rtol, integrator.absolute))
    return replace(integrator, rtol=rtol, atol=atol, probes=read(integrator.probes) or 1)


def _times(value: Any, factor: float) -> Any:
    """A tolerance, a number or numbers nested in any way, times a factor."""
    if isinstance(value, list | tuple):
        return type(value)(_times(one, factor) for one in value)
    return value * factor


def doubt(error: float | None, integrator: Integrator) -> str:
    """The warning about derivatives with this relative error; nothing where they are good enough."""
    if error is None or error <= ENOUGH:
        return ""
    probed = "" if read(integrator.probes) else ", or fit with probes=1"
    return (
        f" The derivatives it was found by are wrong by {error:.1g} of their size, and so are the standard errors: "
        f"tighten rtol and atol{probed}."
    )
