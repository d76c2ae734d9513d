"""Marginal fit: one experiment's part of a joint fit, as a fit of its own."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TypeVar

import numpy as np

from physid.errors import unknown_name
from physid.inference.result import FitResult
from physid.inference.uncertainty.baselines import trivial_scores

Result = TypeVar("Result", bound=FitResult)


def part(fit: Result, name: str) -> Result:
    """The part of a fit that is about its experiment `name`, with what its unknowns leave open there.

    The tests and the noise are those of the whole fit. Errors: InputError for a name that is none.
    """
    names = [one.name for one in fit.experiments]
    if name not in names:
        raise unknown_name("experiment", name, names)
    if len(names) == 1:
        return fit
    e = names.index(name)
    columns = fit.vector.columns[e]
    statistics = fit.statistics
    if statistics is not None:
        square = np.ix_(columns, columns)
        statistics = replace(
            statistics,
            covariance=statistics.covariance[square],
            robust=statistics.robust[square],
            identifiable=statistics.identifiable[columns],
        )
    model = deepcopy(fit.model)  # the fit's own keeps the unknowns of the first experiment
    found = replace(
        fit,
        model=model,
        experiment=fit.experiments[e],
        experiments=[fit.experiments[e]],
        x=fit.x[columns],
        estimates=[fit.estimates[column] for column in columns],
        statistics=statistics,
        scores=fit.scores_of.get(name, fit.scores),
        trivial=trivial_scores([fit.experiments[e]]),
        profiles=[],
        origin=None,
        held=b"",
    )
    found.vector.put(found.x)
    return found
