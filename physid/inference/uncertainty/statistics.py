"""Statistics at an optimum: covariance, identifiability and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from physid.arrays import Array
from physid.inference.problem import Point, Problem
from physid.inference.search.optimality import optimal
from physid.inference.uncertainty.covariance import covariances
from physid.inference.uncertainty.identifiability import named_basis, null_basis, spoken_direction
from physid.inference.uncertainty.information import criteria
from physid.inference.uncertainty.residual_tests import (
    CORRELATED,
    EXCEEDED,
    ResidualTest,
    at_solver_error,
    channels_of,
    residual_tests,
    solver_limited,
    standardised,
)
from physid.inference.uncertainty.verdict import (
    NO_OPTIMUM,
    Evidence,
    Verdict,
    faults,
    no_optimum_remedies,
    pronounce,
    tests_data,
    worst,
)
from physid.records import former_field, formerly

SHOWN = 3  # channels whose sigma is shown


@dataclass(frozen=True)
class FitStatistics:
    """Uncertainty of the vector x at the optimum, and tests of the residuals.

    `covariance` [Q, Q] (for residuals independent of one another) and `robust` (heteroskedasticity- and
    autocorrelation-consistent) are those of the transformed unknowns, without the directions that the data do not
    determine; `identifiable` [Q] says which unknowns have no part in such a direction. `chosen` names the one that
    everything is computed from, by the whiteness of the residuals.
    `dof` are the degrees of freedom, `sigma` the noise: known, or estimated from the residuals. `null_directions`
    are those that the data do not determine, `identifiable_combinations` what they do determine of the unknowns in
    those, `powers` the weights [K][Q] of these.
    `reason` says why there are no errors, `robust_reason` why there are no robust ones. `verdict` is the worst
    that holds (see `physid.inference.uncertainty.verdict`), `sentence` why, `remedies` what may help,
    `others` what holds besides; `each` are all tests, by channel, and `floor` the channels at their floor, which are
    left out of the likelihood. `optimum` is False where the values are none, and so have no errors.
    """

    covariance: Array
    robust: Array
    identifiable: NDArray[np.bool_]
    dof: int
    sigma: float | None
    sigma_known: bool
    rms: float
    condition: float
    null_directions: list[str] = field(metadata=formerly("hidden"))
    identifiable_combinations: list[str] = field(default_factory=list, metadata=formerly("told"))
    tests: dict[str, Any] = field(default_factory=dict)
    verdict: str = "not tested"
    sentence: str = ""
    reason: str = ""
    robust_reason: str = ""
    chosen: str = "plain"
    powers: list[list[float]] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)
    others: list[list[str]] = field(default_factory=list)
    each: list[dict[str, Any]] = field(default_factory=list)
    floor: list[str] = field(default_factory=list)
    optimum: bool = True

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A field by its former name, with a DeprecationWarning."""
            return former_field(self, name)

    @property
    def best(self) -> Array:
        """The covariance [Q, Q] that was chosen: errors, intervals, bands and combinations are made of it."""
        return self.robust if self.chosen == "robust" else self.covariance

    @property
    def usable(self) -> bool:
        """Whether there are errors: at an optimum alone."""
        return self.optimum and self.verdict != "no optimum"

    def quantile(self, level: float = 0.95) -> float:
        """The two-sided quantile: Student's t, normal when the noise is known."""
        p = 0.5 + level / 2
        return float(stats.norm.ppf(p) if self.sigma_known or self.dof <= 0 else stats.t.ppf(p, self.dof))

    def also(self, verdict: Verdict | None) -> FitStatistics:
        """The statistics with one more verdict, of which the worst stands first."""
        if verdict is None:
            return self
        own = Verdict(self.verdict, self.sentence, self.remedies, self.others)
        found = worst([own, verdict])
        remedies, others = found.remedies, found.others
        return replace(self, verdict=found.word, sentence=found.sentence, remedies=remedies, others=others)


def assess(
    problem: Problem, point: Point, search: Mapping[str, Any] | None = None, needed: bool = True
) -> FitStatistics:
    """The statistics of the optimum `point`, of a search that was asked for as `search` says.

    Where no optimum is `needed`, as of weights or of a protocol, values that are none have no errors but a verdict.
    """
    known = bool(problem.sigma)
    rms = float(np.linalg.norm(point.residual[: problem.count])) * problem.scale
    exact = at_solver_error(problem, point)
    silent = 0 if known or all(exact) else int(problem.mask[:, exact].sum())
    found = covariances(problem, point, known, silent)
    dof = found.dof
    entries, slopes = problem.vector.entries, problem.vector.slopes(point.x)
    weights = named_basis(found.seen, entries, slopes) if not found.identifiable.all() else []
    null = null_basis(found.unseen, entries, slopes)
    at_floor = [flag or bool(limit) for flag, limit in zip(exact, problem.residuals.limited, strict=True)]
    channels, optimum = channels_of(problem), optimal(problem, point)
    each = residual_tests(problem, point, [c for c, flag in enumerate(at_floor) if not flag], dof)
    floor = [name for name, flag in zip(channels, at_floor, strict=True) if flag]
    numbers = {**_summary(each), **criteria(problem, point, _series(problem, point), floor)}
    square = 2.0 * point.cost / dof if dof > 0 else np.nan
    if known and dof > 0:
        numbers["chi_squared_per_dof"] = square * problem.count
        numbers["chi_squared_p"] = next(one.p for one in each if one.kind == EXCEEDED)
    evidence = Evidence(
        size=_size(problem, rms),
        tests=each,
        channels=channels,
        exact=[name for name, flag in zip(channels, exact, strict=True) if flag],
        undetermined=_undetermined(problem, null),
        explained=None if all(at_floor) else numbers["fit_percent"],
        positive=bool((problem.measured[problem.mask] > 0).all()),
        loose=solver_limited(problem, point),
        search=search or {},
        noise=problem.noise,
    )
    said = pronounce(evidence)
    if not optimum and needed:
        said = worst([said, Verdict("no optimum", NO_OPTIMUM, no_optimum_remedies(evidence.search))])
    coloured = any(one.kind == CORRELATED for one in faults(each)) or all(exact)
    reason = "" if dof > 0 or known else "there are no more observations than unknowns"
    if not optimum:
        valley = "the fit ended in a flat valley, where errors mean nothing"
        reason = reason or ("these values are no optimum of least squares" if needed else valley)
    return FitStatistics(
        covariance=found.plain,
        robust=found.robust,
        identifiable=found.identifiable,
        dof=dof,
        sigma=problem.sigma if known else (float(np.sqrt(square * problem.count)) * problem.scale if dof > 0 else None),
        sigma_known=known,
        rms=rms,
        condition=found.condition,
        null_directions=[spoken_direction(row, entries) for row in null],
        identifiable_combinations=[name for name, _ in weights],
        powers=[list(map(float, row)) for _, row in weights],
        tests=numbers,
        verdict=said.word,
        sentence=said.sentence,
        remedies=said.remedies,
        others=said.others,
        reason=reason,
        robust_reason=found.robust_reason,
        chosen="robust" if coloured and not found.robust_reason else "plain",
        each=tests_data(each),
        floor=floor,
        optimum=optimum,
    )


def _series(problem: Problem, point: Point) -> list[Array]:
    """The residuals of each channel in the order of time, without what was not measured."""
    table = standardised(problem, point)
    return [column[np.isfinite(column)] for column in table.T]


def _summary(each: list[ResidualTest]) -> dict[str, Any]:
    """Whiteness in three numbers: of all channels together where there are several, else of the one."""
    white = [one for one in each if one.kind == CORRELATED]
    if not white:
        return {"whiteness_p": None, "autocorrelation": None}
    one = next((one for one in white if not one.channel), white[0])
    return {"whiteness_p": one.p, "autocorrelation": one.size}


def _size(problem: Problem, rms: float) -> str:
    """Size of the residuals, in words."""
    unit = f" {problem.experiment.unit}" if problem.experiment.unit else ""
    if not problem.residuals.unknown.any():
        return f"rms {rms:.3g}{unit}, {rms / problem.spread:.1g} of the data's spread"
    sigmas = list(zip(problem.residuals.sigma, channels_of(problem), strict=True))
    shown = ", ".join(f"{sigma:.3g} for {name}" for sigma, name in sigmas[:SHOWN])
    more = f" and {len(sigmas) - SHOWN} more" if len(sigmas) > SHOWN else ""
    return f"sigma {shown}{more}" if len(sigmas) > 1 else f"sigma {sigmas[0][0]:.3g}"


def _undetermined(problem: Problem, null: list[Array]) -> list[str]:
    """The directions that the data do not determine, those among the weights of networks left out."""
    unknowns, entries = problem.vector.model.unknowns, problem.vector.entries
    named = []
    for row in null:
        used = [entry for weight, entry in zip(row, entries, strict=True) if weight]
        if any(entry.owner not in unknowns or unknowns[entry.owner].listed for entry in used):
            named.append(spoken_direction(row, entries))
    return named
