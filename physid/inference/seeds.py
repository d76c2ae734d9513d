"""Seeds: the members of a fit from several seeds, their predictions and the scores of their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from physid.arrays import Array
from physid.errors import InputError
from physid.inference.options import FitPlan
from physid.inference.result import FitResult
from physid.inference.simulate import simulate


def each(fit: FitResult, times: Array, members: Sequence[Array] | None = None) -> Array:
    """The predictions [K, T, M] of every member at `times` [T]; the model is left as it was."""
    seed = int(fit.settings["seed"])
    begun = {name: value.clone() for name, value in fit.model.state_dict().items()}
    found = []
    for number, x in enumerate(fit.members if members is None else members):
        fit.model.draw(seed + number, anew=True)
        found.append(simulate(fit.vector, [x], times, fit.integrator)[0].mean)
    fit.model.load_state_dict(begun)
    fit.vector.put(fit.x)
    return np.stack(found)


def pooled(fit: FitResult, plan: FitPlan, members: list[Array]) -> FitResult:
    """The fit with the members of its seeds, and the scores of their mean.

    Errors: InputError for several experiments.
    """
    if len(fit.experiments) > 1:
        raise InputError(f"{plan.seeds} seeds with {len(fit.experiments)} experiments: expected one. Use one seed.")
    experiment = fit.experiment
    scores = dict(fit.scores)
    for name in ("train", "test", "forecast"):
        part = getattr(experiment, name)
        if part is not None:
            mean = each(fit, part.times.numpy(), members).mean(0).reshape(part.observations.shape)
            scores[name] = experiment.score(torch.from_numpy(mean), part) if np.isfinite(mean).all() else None
    return replace(fit, members=members, scores=scores, scores_of={experiment.name: scores})
