"""Classifier scores on the test set: errors under any solver, and the agreement of repeated runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import f as f_distribution

from physid.errors import InputError
from physid.ode import Integrator
from physid.training import TrainingResult, evaluate, moved

Classes = npt.NDArray[np.int64]


def predicted(trained: TrainingResult, batch: int | None = None) -> tuple[Classes, Classes]:
    """The classes [N] that the learner gives to the test set of its collection, and the true ones [N].

    Errors: InputError for a learner that does not classify.
    """
    learner, found, truth = trained.learner, [], []
    device = next(learner.parameters()).device
    learner.eval()
    with torch.no_grad():
        for one in trained.collection.test(batch or trained.recipe.batch):
            logits = learner(moved(one, device)) if isinstance(one, tuple) and len(one) == 2 else None
            if logits is None or logits.ndim != 2 or one[1].is_floating_point():
                name = learner.identity.get("model", type(learner).__name__)
                raise InputError(f"{name} is no classifier. Give a run of one, as of node18.")
            found.append(logits.argmax(1).cpu())
            truth.append(one[1].cpu())
    return torch.cat(found).numpy(), torch.cat(truth).numpy()


def scores_with(trained: TrainingResult, **changes: Any) -> dict[str, float]:
    """The scores of the test set when the ODEs of the learner are integrated otherwise, without training again.

    `changes` are those of `Integrator.changed`: solver, rtol, atol, step. Errors: InputError for a learner without an
    integrator.
    """
    learner: Any = trained.learner
    kept = getattr(learner, "integrator", None)
    if not isinstance(kept, Integrator):
        name = learner.identity.get("model", type(learner).__name__)
        raise InputError(f"{name} has no ODE whose solver could be changed. Leave --solver, --rtol and --step out.")
    learner.integrator = kept.changed(**changes)
    try:
        return evaluate(learner, trained.collection, trained.recipe)
    finally:
        learner.integrator = kept


@dataclass(frozen=True)
class Agreement:
    """An intraclass correlation coefficient with the ends of its confidence interval."""

    value: float
    low: float
    high: float


UNDEFINED = Agreement(math.nan, math.nan, math.nan)


def icc(ratings: npt.ArrayLike, confidence: float = 0.95) -> tuple[Agreement, Agreement]:
    """ICC1 and ICC1k of ratings [n subjects, k raters]: of a single rater, and of the mean of k.

    With the mean squares B between and W within subjects, F = B / W,
    ICC1 = (B - W) / (B + (k - 1) W), ICC1k = (B - W) / B; the interval of both follows from that of F with n - 1 and
    n (k - 1) degrees of freedom.

    Errors: InputError for fewer than two subjects or raters, and for ratings that are all the same.

    Source: Shrout and Fleiss (1979), Intraclass correlations: uses in assessing rater reliability, case 1.
    """
    x = np.asarray(ratings, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2:
        raise InputError(f"ratings of shape {list(x.shape)}: at least two subjects by two raters are needed.")
    n, k = x.shape
    mean = x.mean(1)
    between = k * mean.var(ddof=1)
    within = float(((x - mean[:, None]) ** 2).sum()) / (n * (k - 1))
    if between == within == 0:
        raise InputError("all ratings are the same: their agreement is not defined. Give more subjects.")
    if within == 0:
        return Agreement(1.0, 1.0, 1.0), Agreement(1.0, 1.0, 1.0)
    ratio, tail = between / within, 1 - (1 - confidence) / 2
    low = ratio / f_distribution.ppf(tail, n - 1, n * (k - 1))
    high = ratio * f_distribution.ppf(tail, n * (k - 1), n - 1)
    ratios = (float(ratio), float(low), float(high))
    single = Agreement(*((f - 1) / (f + k - 1) for f in ratios))
    return single, Agreement(*(1 - 1 / f if f > 0 else -math.inf for f in ratios))


def reliability(answers: Sequence[Classes], truth: Classes) -> dict[str, Mapping[str, Any]]:
    """ICC1 and ICC1k of the classes that several runs gave, on all images and on those that any of them got wrong.

    Not-a-number where there are too few images. The paper's reading is not stated; here the number of the class is the
    rating, an image a subject, a run a rater.

    Source: Zhuang et al. (2020), table 3.
    """
    ratings = np.stack(answers, axis=1)
    wrong = (ratings != truth[:, None]).any(1)
    found: dict[str, Mapping[str, Any]] = {}
    for name, chosen in (("all", ratings), ("misclassified", ratings[wrong])):
        defined = len(chosen) > 1 and chosen.min() < chosen.max()
        single, mean_of_all = icc(chosen) if defined else (UNDEFINED, UNDEFINED)
        found[name] = {"images": len(chosen), "icc1": single, "icc1k": mean_of_all}
    return found
