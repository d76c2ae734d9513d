"""Residual tests per channel: whiteness, normality, constant variance, correlation with inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import stats

from physid.arrays import Array
from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.inference.parameters import vector_of
from physid.inference.problem import Point, Problem

LAGS = 10
FEWEST = 20  # residuals of a channel that tests of their distribution need
MANY = 5000  # residuals up to which the test of Shapiro and Wilk has p values
LEVEL = 0.01  # of all tests together
FAR = 4.5  # robust standard deviations from which on a residual is counted as an outlier
PRECISION = 2e-8  # of a channel's size: no instrument measures as well, so that smaller residuals may be the solver's
OWN = 30.0  # times the solver's own error up to which residuals are that error
ROUND = 1e-13  # of a channel's size: round-off
LOOSENED = 1e-8  # relative tolerance from which on the solver's own error may be mistaken for a lack of the model
LIMITED = 0.1  # of the residuals
TIGHTER = 1e-2  # times its tolerances, for the second solve
TIGHTEST = 1e-13  # relative tolerance, as round-off is not far below

CORRELATED, HETEROSCEDASTIC, NOT_NORMAL = "correlated", "heteroscedastic", "not normal"
OUTLIERS, INTERPOLATION, EXCEEDED = "outliers", "interpolation", "beyond the known noise"


@dataclass(frozen=True)
class ResidualTest:
    """One test: what it would find, on which channel ("" for all together), its p value, and the size of the effect.

    `size` is the first autocorrelation, the ratio of the variances of the larger and the smaller half of the
    predictions, the excess kurtosis, the number of outliers, the part of the variance that an input explains, or
    chi-squared per degree of freedom.
    """

    kind: str
    channel: str
    p: float
    size: float


def standardised(problem: Problem, point: Point) -> Array:
    """Residuals [R, M] in units of their scale, normal if the noise model is right; not-a-number where no measurement.

    Those of other than normal noise go through its distribution to normal scores; those of a robust loss are as the
    fit weighs them.
    """
    mask = problem.mask
    table = np.full(mask.shape, np.nan)
    if point.seen is None:
        table[mask] = point.residual[: problem.count] * math.sqrt(problem.count)
        return table
    triple = (point.seen[mask], problem.measured[mask], problem.residuals.scales[mask])
    table[mask] = problem.noise.normal_scores(*triple)
    return table


def residual_tests(problem: Problem, point: Point, judged: Sequence[int], dof: int) -> list[ResidualTest]:
    """Every test of the channels `judged`, then those of all of them together, with `dof` degrees of freedom."""
    names = channels_of(problem)
    table, normal = standardised(problem, point), problem.noise.likelihood
    found: list[ResidualTest] = []
    for c in judged:
        parts = [column[np.isfinite(column)] for column in (table[rows, c] for rows in problem.parts)]
        e = np.concatenate(parts)
        if len(e) < 5 or not float(np.ptp(e)) > 0:
            continue
        uneven, rows = None, np.isfinite(table[:, c])
        if point.seen is not None:
            uneven = heteroscedasticity(e, point.seen[rows, c], problem.times[rows])
        robust = uneven is not None and uneven[0] < LEVEL
        white = whiteness(parts, robust)
        if white is not None:
            found.append(ResidualTest(CORRELATED, names[c], *white))
        if uneven is not None:
            found.append(ResidualTest(HETEROSCEDASTIC, names[c], *uneven))
        if normal:
            even = evened(e, point.seen[rows, c], problem.times[rows]) if robust and point.seen is not None else e
            found += [ResidualTest(kind, names[c], *pair) for kind, pair in distribution(even)]
    found += pooled(problem, table, judged)
    known = (interpolation(problem, point, judged), exceeded(problem, point, dof))
    return found + [one for one in known if one is not None]


def channels_of(problem: Problem) -> tuple[str, ...]:
    """The channels' names."""
    return problem.experiment.channels


def ljung_box(parts: Sequence[Array], lags: int, robust: bool = False) -> float:
    """Q = sum over lags k of the squared autocorrelations over their variance, of records with one mean of zero.

    n (n + 2) rho_k^2 / (n - k) for one variance; (sum_t e_t e_(t+k))^2 / sum_t e_t^2 e_(t+k)^2 where variances differ.
    Both are chi-squared with `lags` degrees of freedom for independent residuals.
    Source: Ljung and Box (1978); Lo and MacKinlay (1989).
    """
    count, total = sum(map(len, parts)), sum(float(e @ e) for e in parts)
    found = 0.0
    for k in range(1, lags + 1):
        product = sum(float(e[k:] @ e[:-k]) for e in parts if len(e) > k)
        if robust:
            below = sum(float((e[k:] ** 2) @ (e[:-k] ** 2)) for e in parts if len(e) > k)
            found += product**2 / below if below > 0 else 0.0
        else:
            found += count * (count + 2) * (product / total) ** 2 / (count - k)
    return found


def whiteness(parts: Sequence[Array], robust: bool = False) -> tuple[float, float] | None:
    """The p value of independence of one channel's records, by one lag and by ten, and the first autocorrelation."""
    count = sum(map(len, parts))
    lags = min(LAGS, count // 5)
    if lags < 1:
        return None
    total = sum(float(e @ e) for e in parts)
    first = sum(float(e[1:] @ e[:-1]) for e in parts) / total
    each = [float(stats.chi2.sf(ljung_box(parts, k, robust), k)) for k in sorted({1, lags})]
    return min(1.0, len(each) * min(each)), first


def heteroscedasticity(e: Array, seen: Array, times: Array) -> tuple[float, float] | None:
    """The p value of one variance against one that goes with the prediction's size or with time, and its ratio.

    n R^2 of the regression of e^2 on both is chi-squared. Source: Breusch and Pagan (1979); Koenker (1981).
    """
    table = _levels(seen, times)
    if len(e) < FEWEST or table.shape[1] < 2:
        return None
    square = e * e / float((e * e).mean())
    fitted, _, rank, _ = np.linalg.lstsq(table, square, rcond=1e-6)
    varied = float(((square - square.mean()) ** 2).sum())
    if varied <= 0:
        return None
    explained = 1.0 - float(((square - table @ fitted) ** 2).sum()) / varied
    order = np.argsort(table @ fitted)
    low, high = (float((e[half] ** 2).mean()) for half in np.array_split(order, 2))
    return float(stats.chi2.sf(len(e) * explained, int(rank) - 1)), high / low if low > 0 else math.inf


def _levels(seen: Array, times: Array) -> Array:
    """Regressors of a variance [N, 1 to 3]: a constant, the size of the prediction, time."""
    columns = [np.ones_like(seen)]
    for one in (np.abs(seen), times):
        spread = float(np.std(one))
        if spread > 1e-9 * max(float(np.abs(one).max()), 1e-300):
            columns.append((one - one.mean()) / spread)
    return np.column_stack(columns)


def evened(e: Array, seen: Array, times: Array) -> Array:
    """The residuals over the standard deviation that they have there, from a regression of log e^2.

    Source: Harvey (1976).
    """
    table = _levels(seen, times)
    log = np.log(np.maximum(e * e, 1e-12 * float((e * e).mean())))
    return np.asarray(e * np.exp(-0.5 * (table @ np.linalg.lstsq(table, log, rcond=1e-6)[0])))


def distribution(e: Array) -> list[tuple[str, tuple[float, float]]]:
    """Tests of normality and of the residual that lies farthest out, with the excess kurtosis and the outliers' number.

    Source: Shapiro and Wilk (1965), for more than 5000 D'Agostino and Pearson (1973); Grubbs (1969).
    """
    count = len(e)
    if count < FEWEST:
        return []
    p = float(stats.shapiro(e).pvalue if count <= MANY else stats.normaltest(e).pvalue)
    farthest = float(np.abs(e - e.mean()).max() / e.std(ddof=1))
    room = (count - 1) ** 2 - count * farthest**2
    t = math.sqrt(count * (count - 2) * farthest**2 / room) if room > 0 else math.inf
    grubbs = min(1.0, 2.0 * count * float(stats.t.sf(t, count - 2)))
    return [(NOT_NORMAL, (p, float(stats.kurtosis(e)))), (OUTLIERS, (grubbs, float(outliers(e))))]


def outliers(e: Array) -> int:
    """Number of residuals beyond 4.5 standard deviations, by the median absolute deviation from the median."""
    away = np.abs(e - np.median(e))
    size = float(np.median(away)) / 0.6745
    return int((away > FAR * size).sum()) if size > 0 else 0


def pooled(problem: Problem, table: Array, judged: Sequence[int]) -> list[ResidualTest]:
    """Whiteness of all channels together, which sees what is weak in each."""
    total, dof, first = 0.0, 0, []
    for c in judged:
        parts = [column[np.isfinite(column)] for column in (table[rows, c] for rows in problem.parts)]
        lags = min(LAGS, sum(map(len, parts)) // 5)
        if lags < 1 or not sum(float(e @ e) for e in parts) > 0:
            continue
        total, dof = total + ljung_box(parts, lags), dof + lags
        first.append(sum(float(e[1:] @ e[:-1]) for e in parts) / sum(float(e @ e) for e in parts))
    if len(first) < 2:
        return []
    return [ResidualTest(CORRELATED, "", float(stats.chi2.sf(total, dof)), float(np.mean(first)))]


def exceeded(problem: Problem, point: Point, dof: int) -> ResidualTest | None:
    """Chi-squared against the known noise."""
    if not problem.sigma or dof <= 0:
        return None
    square = 2.0 * point.cost * problem.count
    return ResidualTest(EXCEEDED, "", float(stats.chi2.sf(square, dof)), square / dof)


def interpolation(problem: Problem, point: Point, judged: Sequence[int]) -> ResidualTest | None:
    """Whether the residuals follow what held inputs would do if they ran linearly between their samples.

    The difference d of both predictions is that of the inputs, half a sample times du/dt, seen through the model. With
    what the unknowns can make good taken from it, the regression of the residuals on d is Student's t (a score test).
    """
    if point.slope is None or point.seen is None or problem.noise.logarithms or not problem.noise.likelihood:
        return None
    moved = _linear_instead(problem, point)
    if moved is None:
        return None
    scale = problem.residuals.scales
    d = np.where(np.isfinite(moved), (moved - point.seen) / scale, 0.0)
    there = problem.mask.copy()
    there[:, [c for c in range(there.shape[1]) if c not in judged]] = False
    jacobian = (point.slope / scale[..., None])[there]
    d, e = d[there], ((point.seen - problem.measured) / scale)[there]
    size = np.linalg.norm(jacobian, axis=0)
    q = np.linalg.qr(jacobian / np.where(size > 0, size, 1.0))[0]
    left, dof = d - q @ (q.T @ d), len(e) - len(point.x) - 1
    if dof < 1 or not np.linalg.norm(left) > 1e-6 * np.linalg.norm(d):
        return None
    e = e - q @ (q.T @ e)
    part = float(e @ left) ** 2 / (float(left @ left) * float(e @ e))
    t = math.sqrt(dof * part / max(1.0 - part, 1e-300))
    return ResidualTest(INTERPOLATION, "", float(2.0 * stats.t.sf(t, dof)), part)


def _linear_instead(problem: Problem, point: Point) -> Array | None:
    """The predictions [R, M] with held inputs run linearly between their samples; None where nothing is held."""
    drives = [linearised(one.inputs) for one in problem.experiments]
    if all(one is None for one in drives):
        return None
    pairs = zip(problem.experiments, drives, strict=True)
    try:
        changed = [one if drive is None else replace(one, inputs=drive) for one, drive in pairs]
        other = Problem(vector_of(problem.vector.model, changed), problem.integrator, problem.noise)
    except InputError:  # as when a held input is needed beyond its record
        return None
    found = other.predictions([point.x])[0]
    problem.vector.put(point.x)
    return None if found is None else found[0]


def linearised(inputs: Inputs | None) -> Inputs | None:
    """The inputs with held ones run linearly between their samples; None where none is held, or too few are known."""
    if inputs is None or "hold" not in inputs.kinds or inputs.coefficients.ndim != 3:
        return None
    breaks, table = inputs.breaks, inputs.coefficients
    parts = []
    for i, (name, kind) in enumerate(zip(inputs.names, inputs.kinds, strict=True)):
        if kind != "hold":
            parts.append(inputs.select([name]))
            continue
        values = torch.cat([table[:, 0, i], table[-1:, 0, i]])
        try:
            parts.append(Inputs.through(breaks, values, [name], "linear"))
        except InputError:
            return None
    return Inputs.join(parts)


def at_solver_error(problem: Problem, point: Point) -> list[bool]:
    """Mask of channels [M] that are reproduced to the solver's own error: by solving again at a tighter tolerance.

    Their residuals are of the size of the difference of the two solves and below what any instrument can measure, so
    that no tolerance that a user loosened makes a model exact.
    """
    mask, count = problem.mask, problem.mask.shape[1]
    if point.seen is None or problem.noise.logarithms:
        return [False] * count
    away = np.where(mask, point.seen - problem.measured, 0.0)
    per = np.maximum(mask.sum(0), 1)
    rms, size = (np.sqrt((table**2).sum(0) / per) for table in (away, np.where(mask, problem.measured, 0.0)))
    size = np.where(size > 0, size, size.max())
    close = mask.any(0) & (rms <= PRECISION * size)
    if not close.any():
        return [False] * count
    own = np.sqrt((np.where(mask, _solver_error(problem, point), 0.0) ** 2).sum(0) / per)
    return [bool(flag) for flag in close & (rms <= OWN * own + ROUND * size)]


def solver_limited(problem: Problem, point: Point) -> bool:
    """Whether a tolerance was loosened so far that the solver's own error is a good part of the residuals."""
    rtol = float(torch.as_tensor(problem.integrator.rtol).max())
    if point.seen is None or rtol <= LOOSENED:
        return False
    away = (point.seen - problem.measured)[problem.mask]
    return float(np.linalg.norm(_solver_error(problem, point)[problem.mask])) > LIMITED * float(np.linalg.norm(away))


def _solver_error(problem: Problem, point: Point) -> Array:
    """The difference [R, M] of the predictions from those at a tighter tolerance, zero where that cannot be solved."""
    before, integrator = problem.integrator, problem.integrator
    tighter: dict[str, Any] = {}
    for name, value in (("rtol", integrator.rtol), ("atol", integrator.absolute)):
        if isinstance(value, float | int):
            tighter[name] = max(TIGHTER * float(value), TIGHTEST if name == "rtol" else 0.0)
        else:
            tighter[name] = TIGHTER * torch.as_tensor(value)
    problem.integrator = replace(integrator, max_steps=100 * integrator.most_steps, **tighter)
    patience, problem.patience = problem.patience, 100 * integrator.most_steps
    try:
        found = problem.predictions([point.x])[0]
    finally:
        problem.integrator, problem.patience = before, patience
    seen = point.seen if point.seen is not None else np.zeros(problem.mask.shape)
    return np.zeros(seen.shape) if found is None else found[0] - seen
