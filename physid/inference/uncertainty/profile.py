"""Profile likelihoods: how the fit worsens when one unknown is held at other values and all others are refitted.

Intervals from a profile hold where those from the covariance do not: for lopsided and for flat objectives.
Source: Bates and Watts (1988), section 6.1; Raue et al. (2009).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from physid.arrays import Array, Index
from physid.data.experiment import Experiment
from physid.door import bounded
from physid.errors import InputError, unknown_name
from physid.inference.fit_options import WORKERS
from physid.inference.identify import go_on
from physid.inference.noise import NoiseModel
from physid.inference.noise_models import of_settings
from physid.inference.parameters import vector_of
from physid.inference.problem import Point, Problem
from physid.inference.result import FitResult
from physid.inference.search.levenberg_marquardt import StoppingRule, minimised
from physid.inference.search.worker_calls import Afar, tell
from physid.inference.search.workers import killed
from physid.inference.uncertainty.profile_curve import Profile
from physid.modelling.model import Model
from physid.ode import Integrator

LEVEL = 0.95
STRIDE = 0.4  # of the threshold that a step is to climb
CLOSE = 2e-3  # of the threshold to which its crossing is found
MOST = 24  # steps on a side
BETTER = 1e-6  # of the objective by which another point must be lower to count as a better optimum
FAR = 50.0  # of twice the fall of the mean log-likelihood
KNOWN = {"physid", "torch", *sys.stdlib_module_names}  # which every process can import
HUGE = 1e100  # an unknown that gets so large shows round-off, not the data


@dataclass(frozen=True)
class _Side:
    """One side of a profile: x_i [K] outwards, tau [K], and a point x [Q] with a lower objective, if one was met."""

    x: Array
    tau: Array
    better: Array | None


def profile(fit: FitResult, names: Sequence[str] | None = None, jobs: int = 1) -> tuple[FitResult, list[Profile]]:
    """The profiles of the unknowns `names` (default: all but the initial state), and the fit they belong to.

    Every side of every profile is a task of its own, for `jobs` processes at a time (joblib). If a profile meets a
    better optimum, the fit continues from there, the profiles are made again, and the fit returned is the better one.

    Errors: InputError for a name that is none, or a fit that is at no optimum.
    """
    refuse(fit)
    known = [one.name for one in fit.estimates]
    for name in names or ():
        if name not in known:
            raise unknown_name("unknown", name, known)
    wanted = list(names or [one.name for one in fit.listed if one.of != "initial"] or known)
    for _ in range(3):
        found = [_assemble(fit, known.index(name), sides) for name, sides in _sides(fit, wanted, jobs)]
        better = [one.better for one in found if one.better is not None]
        if not better:
            break
        fit = adopt(fit, better)
    return replace(fit, profiles=found), found


def refuse(fit: FitResult) -> None:
    """Errors: InputError for a fit by a robust loss, which has no likelihood."""
    loss = fit.settings.get("loss", "linear")
    if loss != "linear":
        raise InputError(
            f"the fit has loss {loss}, which is no likelihood and has no profiles. Fit with noise model student, which "
            "outliers do not move either, or use the intervals."
        )


def _sides(fit: FitResult, names: list[str], jobs: int) -> list[tuple[str, tuple[_Side, _Side]]]:
    """Both sides of every profile."""
    statistics = fit.statistics
    if statistics is None or not statistics.usable:
        raise InputError("a profile starts from an optimum, and this fit is at none. Fit on, or use optimizer lm.")
    known = [one.name for one in fit.estimates]
    threshold = statistics.quantile(LEVEL)
    error = np.sqrt(np.maximum(np.diag(statistics.covariance), 0.0))
    tasks = []
    for name in names:
        i = known.index(name)
        step = float(error[i]) if statistics.identifiable[i] and error[i] > 0 else 0.1 * max(1.0, abs(fit.x[i]))
        for sign in (-1.0, 1.0):
            noise = (of_settings(fit.settings), statistics.sigma_known, statistics.dof)
            tasks.append((fit.model, fit.experiments, fit.integrator, fit.x, i, sign * step, threshold, *noise))
    bounded("jobs", jobs, WORKERS, -1)
    count = 1 if len(tasks) == 1 else jobs
    if count == 1:
        done = [walk(*task) for task in tasks]
    else:
        from joblib import Parallel, delayed

        travel_by_value(type(fit.model))
        travel_by_value(type(of_settings(fit.settings)))
        try:
            pairs = list(Parallel(n_jobs=count)(delayed(Afar(walk))(*task) for task in tasks))
        except BrokenProcessPool:
            raise killed("give fewer --jobs, and profile again") from None
        tell(one for _, said in pairs for one in said)
        done = [side for side, _ in pairs]
    fit.vector.put(fit.x)
    return list(zip(names, zip(done[0::2], done[1::2], strict=True), strict=True))


def travel_by_value(cls: type) -> None:
    """Let the classes of a file of the user's own be taken along to other processes, which cannot import it."""
    import cloudpickle

    for base in cls.__mro__:
        module = sys.modules.get(base.__module__)
        if module is not None and base.__module__.partition(".")[0] not in KNOWN:
            cloudpickle.register_pickle_by_value(module)


def walk(
    model: Model,
    experiments: Sequence[Experiment],
    integrator: Integrator,
    x: Array,
    i: int,
    step: float,
    threshold: float,
    noise: NoiseModel,
    known: bool,
    dof: int,
) -> _Side:
    """One side of the profile of unknown i, in steps that climb alike, each from where the last one ended."""
    vector = vector_of(model, experiments)
    problem = Problem(vector, replace(integrator, gradient="forward"), noise)
    rest: Index = np.delete(np.arange(len(x)), i)
    first = problem.at(x)
    if first is None:
        raise InputError(f"the model cannot be solved at the estimate: {problem.message}.")
    first = problem.renewed(first)
    climb = _climb(problem, first, known, dof)
    # what the solver's own error makes of the objective is no better optimum
    margin = BETTER * first.cost + 0.5 * problem.floor**2
    sign = float(np.sign(step))
    found, taus, points, size = [float(x[i])], [0.0], [first], STRIDE * threshold * step
    better: Array | None = None
    for _ in range(MOST):
        point = _held(problem, points[-1], float(points[-1].x[i]) + size, i, rest)
        if point is None:
            size *= 0.25
            if abs(size) < 1e-3 * abs(step):
                break
            continue
        if np.abs(vector.natural(point.x)).max() > HUGE:
            break
        if fall(problem, first, point) < -2.0 * margin:
            better = point.x
            break
        tau = climb(point)
        climbed = tau - abs(taus[-1])
        found.append(float(point.x[i]))
        taus.append(sign * tau)
        points.append(point)
        if tau > threshold:
            break
        size *= float(np.clip(STRIDE * threshold / max(climbed, 1e-3 * threshold), 0.3, 3.0))
    while better is None and abs(taus[-1]) > threshold and len(found) < 2 * MOST:
        near = int(np.argmin(np.abs(np.abs(taus) - threshold)))
        value = _cross(np.array(found), np.array(taus), threshold)
        if value is None or abs(abs(taus[near]) - threshold) <= CLOSE * threshold:
            break
        point = _held(problem, points[near], value, i, rest)
        if point is None:
            break
        place = int(np.searchsorted(sign * np.array(found), sign * value))
        found.insert(place, value)
        taus.insert(place, sign * climb(point))
        points.insert(place, point)
    return _Side(np.array(found), np.array(taus), better)


def fall(problem: Problem, first: Point, point: Point) -> float:
    """2 (cost(point) - cost(first)); twice the fall of the mean log-likelihood where sigmas are estimated."""
    if not problem.residuals.unknown.any():
        return 2.0 * (point.cost - first.cost)
    return 2.0 * (problem.objective(point) - problem.objective(first)) / problem.count


def _climb(problem: Problem, first: Point, known: bool, dof: int) -> Callable[[Point], float]:
    """The function |tau| of a point, above the optimum `first`."""

    def climb(point: Point) -> float:
        gain = max(fall(problem, first, point), 0.0)
        if problem.residuals.unknown.any():
            return float(np.sqrt(dof * np.expm1(min(gain, FAR))))
        return float(np.sqrt(gain * (problem.count if known else max(dof, 1) / (2.0 * first.cost))))

    return climb


def _shift(point: Point, i: int, rest: Index) -> Array:
    """d x_rest / d x_i along the valley, by least squares: where the next fit starts."""
    if not len(rest):
        return np.zeros(0)
    return np.asarray(np.linalg.lstsq(point.jacobian[:, rest], -point.jacobian[:, i], rcond=1e-10)[0])


class _Rest:
    """The problem in all unknowns but i, which is held at a value: x [Q] with x_i, and `rest` [Q - 1] the others."""

    def __init__(self, problem: Problem, x: Array, rest: Index) -> None:
        self.problem, self.x, self.rest = problem, x, rest
        self.whole: dict[bytes, Point] = {}

    def points(self, xs: Sequence[Array], numbers: Sequence[int]) -> list[Point | None]:
        """The points at the others' values; None where the solve fails."""
        return [self.at(x) for x in xs]

    def at(self, part: Array) -> Point | None:
        """The point at the others' values `part` [Q - 1]."""
        full = self.x.copy()
        full[self.rest] = part
        found = self.problem.at(full)
        return None if found is None else self._of_rest(found)

    def renewed(self, point: Point) -> Point:
        """The point with the noise that is estimated there."""
        return self._of_rest(self.problem.renewed(self.whole[point.x.tobytes()]))

    def _of_rest(self, found: Point) -> Point:
        self.whole[found.x[self.rest].tobytes()] = found
        return Point(found.x[self.rest], found.residual, found.jacobian[:, self.rest])


def _held(problem: Problem, near: Point, value: float, i: int, rest: Index) -> Point | None:
    """The best fit of all unknowns but i, held at `value`, from a point near by; None where no solve succeeds."""
    x = near.x.copy()
    x[rest] += _shift(near, i, rest) * (value - x[i])
    x[i] = value
    others = _Rest(problem, x, rest)
    start = others.at(x[rest])
    if start is None:
        return None
    start = others.renewed(start)
    if not len(rest):
        return others.whole[start.x.tobytes()]
    best = minimised(others, start, StoppingRule(floor=problem.floor, evaluations=40))
    return others.whole[best.x.tobytes()]


def _assemble(fit: FitResult, i: int, sides: tuple[_Side, _Side]) -> Profile:
    """The profile from both its sides, in natural values."""
    left, right = sides
    x = np.concatenate([left.x[:0:-1], right.x])
    tau = np.concatenate([left.tau[:0:-1], right.tau])
    full = np.tile(fit.x, (len(x), 1))
    full[:, i] = x
    threshold = fit.statistics.quantile(LEVEL) if fit.statistics is not None else 0.0
    ends = [_cross(side.x, side.tau, threshold) for side in sides]
    natural = [None if end is None else _natural(fit, i, end) for end in ends]
    better = left.better if left.better is not None else right.better
    one = fit.estimates[i]
    return Profile(
        name=one.name,
        values=fit.vector.natural(full)[:, i],
        tau=tau,
        threshold=threshold,
        low=natural[0],
        high=natural[1],
        estimate=one.value,
        unit=one.unit,
        better=better,
    )


def _natural(fit: FitResult, i: int, value: float) -> float:
    x = fit.x.copy()
    x[i] = value
    return float(fit.vector.natural(x)[i])


def _cross(x: Array, tau: Array, level: float) -> float | None:
    """The first value outwards at which |tau| reaches `level`; None where it does not."""
    size = np.abs(tau)
    reached = np.flatnonzero(size >= level)
    if not len(reached):
        return None
    end = int(reached[0]) + 1
    rising = np.maximum.accumulate(size[:end]) + 1e-12 * level * np.arange(end)
    return float(PchipInterpolator(rising, x[:end])(level))


def adopt(fit: FitResult, points: Sequence[Array]) -> FitResult:
    """The fit from the best of some points that lie lower than its optimum."""
    return go_on(fit, points)
