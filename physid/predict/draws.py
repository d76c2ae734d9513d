"""Forecasts for unknowns drawn from their covariance, and how heavy a fit's bodies are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from physid.arrays import Array
from physid.inference.result import FitResult
from physid.inference.simulate import simulate

SMALL = 1e-12  # eigenvalues of the covariance below this part of the largest are taken for zero
SECONDS = 60.0  # that the draws may take


def draw(fit: FitResult, times: Array, count: int, seed: int = 0) -> Array:
    """Observations [count, T, M] at `times` [T] for unknowns drawn about the estimate, each solved in full.

    Not linearised, so that they fan out as the system does; not-a-number where a draw's solve did not reach. Without a
    covariance there are none: [0, T, M].
    """
    if fit.covariance is None or not np.isfinite(fit.covariance).all():
        return np.empty((0, len(times), len(fit.experiment.channels)))
    xs, _ = drawn(fit, count, np.random.default_rng(seed))
    try:
        found = simulate(fit.vector, xs, times, replace(fit.integrator, time_limit=SECONDS))
    finally:
        fit.vector.put(fit.x)
    return np.stack([one.mean for one in found])


def drawn(fit: FitResult, count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Unknowns [count, Q] from their normal distribution, and by how much each was moved farther [count, 1].

    That is 1 where the noise is known; where it was estimated the draws are Student's t.
    """
    values, vectors = np.linalg.eigh(np.zeros((len(fit.x), len(fit.x))) if fit.covariance is None else fit.covariance)
    root = vectors * np.sqrt(np.where(values > SMALL * values.max(), values, 0.0))
    moved, heavy = random.standard_normal((count, len(fit.x))) @ root.T, np.ones((count, 1))
    if fit.statistics is not None and not fit.statistics.sigma_known and fit.statistics.dof > 0:
        heavy = np.sqrt(fit.statistics.dof / random.chisquare(fit.statistics.dof, (count, 1)))
    return fit.x + moved * heavy, heavy


def strengths(fit: FitResult) -> Array | None:
    """The strengths [B] of the observed bodies, where the model has such; the one they are relative to left out."""
    strength = getattr(fit.model, "strength", None)
    if strength is None:
        return None
    values: Array = strength().detach().double().cpu().numpy()
    center = getattr(fit.model, "relative_to", None)
    return values if center is None else np.delete(values, center)
