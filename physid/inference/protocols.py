"""Protocols of the paper: their starting values, and the published figures beside ours.

Source: Zhuang et al. (2020), table 5 (mean and standard deviation of three runs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from physid.inference.options import FitPlan
from physid.inference.parameters import ParameterVector
from physid.inference.result import FitResult

# model -> gradient method -> test MSE on [0, 2]; whether a sum over the 9 coordinates or a mean over them is not said
PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "gravity": {"aca": (0.0007, 0.0005), "naive": (0.0025, 0.0013), "adjoint": (0.0025, 0.0012)},
    "augmented": {"aca": (0.16, 0.06), "naive": (0.21, 0.11), "adjoint": (3.47, 0.67)},
}


def start_of_protocol(vector: ParameterVector, plan: FitPlan) -> None:
    """Under a protocol of the paper, start at (1 + U(-0.1, 0.1)) times the guess, unless the experiment did so."""
    done = vector.experiment.options.get("protocol", "default")
    if plan.protocol == "default" or done != "default":
        return
    random = np.random.default_rng(plan.seed)
    with torch.no_grad():
        for name in vector.names:
            unknown = vector.model.unknowns[name]
            if not unknown.listed:
                continue  # the weights of a network, which are drawn
            value = unknown.value_in(vector.model).detach().cpu()
            factor = torch.as_tensor(1.0 + random.uniform(-0.1, 0.1, tuple(value.shape)))
            moved = value.double() * factor
            unknown.__set__(vector.model, moved)


def compare(fit: FitResult) -> dict[str, Any] | None:
    """Both readings of the test's metric beside the published figure; None where no protocol was followed."""
    if fit.settings["protocol"] == "default":
        return None
    table = PUBLISHED.get(fit.settings["model"], {}) if fit.experiment.name == "threebody" else {}
    published = table.get(fit.settings["gradient"])
    found: dict[str, Any] = {
        "recovered": fit.recovered,
        "published_mse": None if published is None else published[0],
        "published_sd": None if published is None else published[1],
    }
    channels = len(fit.experiment.channels)
    for name in ("train", "test", "forecast"):
        score = fit.scores[name]
        total = None if score is None else score["mse"] * (1 if fit.experiment.metric == "sum" else channels)
        found[name] = {"sum": total, "mean": None if total is None else total / channels}
    return found
