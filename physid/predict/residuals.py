"""The residuals of a fit over time."""

from __future__ import annotations

import numpy as np

from physid.arrays import Array
from physid.inference.result import FitResult
from physid.inference.simulate import simulate


def residual_table(fit: FitResult) -> Array:
    """Predicted less measured [T, M] at the times of training, not-a-number where nothing was measured."""
    train = fit.experiment.train
    (found,) = simulate(fit.vector, [fit.x], train.times, fit.integrator, sensitivities=True)  # as the fit has it
    mask = train.mask.reshape(len(train), -1).numpy()
    return np.where(mask, found.mean - np.nan_to_num(train.observations.reshape(len(train), -1).numpy()), np.nan)
