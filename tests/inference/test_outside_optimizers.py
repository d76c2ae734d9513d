"""Optimizers from outside: ask-and-tell ones, functions that run to completion, and steps with a state of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, OptimizeResult, differential_evolution, least_squares, minimize

from physid import Fit, fit
from physid.arrays import Array
from physid.catalog import entry_points
from physid.cli.app import main
from physid.datasets import load
from physid.errors import InputError
from physid.inference.search.objective import FitObjective
from physid.models import build
from physid.runs import writer


class Spread:
    """Asks for points around the best one, less and less far away."""

    def __init__(self, x: Array, bounds: Array, seed: int, rounds: int = 60) -> None:
        self.best, self.lowest, self.random = x, np.inf, np.random.default_rng(seed)
        self.size, self.left = 0.2 * np.ptp(bounds, axis=1), rounds

    def ask(self) -> Array:
        drawn: Array = self.best + self.size * self.random.standard_normal((10, len(self.best)))
        return drawn

    def tell(self, xs: Array, costs: Array) -> None:
        first = int(np.argmin(costs))
        if costs[first] < self.lowest:
            self.best, self.lowest = xs[first], costs[first]
        self.size, self.left = 0.85 * self.size, self.left - 1

    def done(self) -> bool:
        return self.left <= 0


class Unseeded(Spread):
    """Draws from somewhere else than its seed."""

    def __init__(self, x: Array, bounds: Array, seed: int) -> None:
        super().__init__(x, bounds, int(np.random.SeedSequence().generate_state(1)[0]))


def by_scipy(objective: FitObjective, x: Array) -> OptimizeResult:
    """Trust-region least squares, from residuals and Jacobian."""
    return least_squares(objective.residuals, x, objective.jacobian, x_scale="jac")


def by_gradients(objective: FitObjective, x: Array) -> Array:
    """BFGS, from cost and gradient."""
    return np.asarray(minimize(objective.cost, x, jac=objective.gradient, method="BFGS", options={"gtol": 1e-9}).x)


def in_a_box(objective: FitObjective, x: Array) -> None:
    """Differential evolution in the bounds, then the best of them refined."""
    found = differential_evolution(
        objective.cost, Bounds(*objective.bounds.T), rng=1, maxiter=8, popsize=5, polish=False
    )
    minimize(objective.cost, found.x, jac=objective.gradient, method="BFGS", options={"gtol": 1e-9})


@dataclass
class Damped:
    x: Array
    cost: float
    damping: float = 1e-3
    steps: int = 0


class Marquardt:
    """Levenberg-Marquardt as one would write it down."""

    def init(self, objective: FitObjective, x: Array) -> Damped:
        return Damped(x, objective.cost(x))

    def step(self, objective: FitObjective, state: Damped) -> Damped:
        j, r = objective.jacobian(state.x), objective.residuals(state.x)
        move = np.linalg.solve(j.T @ j + state.damping * np.diag((j**2).sum(0)), -j.T @ r)
        cost = objective.cost(state.x + move)
        if cost < state.cost:
            return Damped(state.x + move, cost, state.damping / 5, state.steps + 1)
        return Damped(state.x, state.cost, state.damping * 5, state.steps + 1)

    def done(self, state: Damped) -> bool:
        return state.steps >= 25


class Stop(BaseException):
    """The end of a process, as a test can catch it: nothing handles it."""


SLOW = pytest.mark.slow
CRAWLING = ["crawling", "outside.py:crawling"]
OUTSIDE = [Spread, by_scipy, Marquardt, *(pytest.param(one, marks=SLOW) for one in (by_gradients, in_a_box))]


def swing(**options: Any) -> Fit:
    data = load("pendulum", points=24, noise=0.05)
    return fit(build(data), data, **options)


@pytest.fixture(scope="module")
def known() -> Fit:
    return swing()


@pytest.mark.parametrize("optimizer", OUTSIDE)
def test_an_optimizer_from_outside_finds_the_optimum_and_goes_on_where_it_was_cut_off(
    optimizer: Any, known: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    whole = swing(optimizer=optimizer)
    assert whole.status == "converged"
    assert whole.settings["optimizer"] == optimizer.__name__
    for one, other in zip(whole.estimates, known.estimates, strict=True):
        assert other.stderr is not None
        assert abs(one.value - other.value) < 0.1 * other.stderr
    middle = len(whole.history) // 2

    def stop(row: Mapping[str, Any]) -> None:
        if row["evaluation"] == middle:
            raise Stop

    with pytest.raises(Stop):
        swing(optimizer=optimizer, out=tmp_path / "run", progress=stop)
    found = Fit.resume(tmp_path / "run", trust=True)
    assert found.status == "converged"
    assert found.x == pytest.approx(whole.x, abs=1e-3)
    if optimizer in (Spread, Marquardt):  # as if nothing had been
        assert found.x.tobytes() == whole.x.tobytes()
        costs = [[row["cost"] for row in one.history] for one in (found, whole)]
        assert sorted(set(costs[0])) == sorted(set(costs[1]))
        assert len(costs[0]) <= len(costs[1]) + 6


def test_one_that_does_not_draw_from_its_seed_cannot_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)

    def stop(row: Mapping[str, Any]) -> None:
        if row["evaluation"] == 20:
            raise Stop

    with pytest.raises(Stop):
        swing(optimizer=Unseeded, out=tmp_path / "run", progress=stop)
    with pytest.raises(InputError, match=r"Unseeded asked for other points in batch 1.*from its seed alone"):
        Fit.resume(tmp_path / "run", trust=True)
    with pytest.raises(InputError, match=r"optimizer .*test_outside_optimizers.py:Unseeded is code.*--trust"):
        Fit.resume(tmp_path / "run")


class Lopsided(Spread):
    def ask(self) -> Array:
        return np.zeros((3, 7))


class Opaque(Marquardt):
    def init(self, objective: FitObjective, x: Array) -> Any:
        return object()


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (Lopsided, r"Lopsided asked for points of shape \[3, 7\]: finite numbers of shape \[N, 2\]"),
        (Opaque, "Opaque has a state of type object: a dataclass"),
        (dict, "optimizer dict is a class: a class with ask, tell and done"),
        (3, "FILE.py:NAME, a class or a function, got 3"),
        ("cmaez", "unknown optimizer"),
        ("nowhere.py:Cmaes", "nowhere.py does not exist"),
    ],
)
def test_what_is_no_optimizer_is_told(optimizer: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        swing(optimizer=optimizer)


def test_options_that_belong_to_ours_are_refused(tmp_path: Path) -> None:
    for options in ({"strategy": "full"}, {"starts": 3}, {"noise": "normal"}, {"lr": 0.1}):
        with pytest.raises(InputError, match=next(iter(options))):
            swing(optimizer=Spread, **options)
    with pytest.raises(InputError, match="a run directory"):
        swing(optimizer=lambda objective, x: x, out=tmp_path / "run")


PACKAGE = '''
import time
import numpy as np
from scipy.optimize import least_squares

class Spread:
    """Asks for points around the best one, less and less far away."""

    def __init__(self, x, bounds, seed):
        self.best, self.lowest, self.random = x, np.inf, np.random.default_rng(seed)
        self.size, self.left = 0.2 * np.ptp(bounds, axis=1), 60

    def ask(self):
        time.sleep(0.01)
        return self.best + self.size * self.random.standard_normal((10, len(self.best)))

    def tell(self, xs, costs):
        if costs.min() < self.lowest:
            self.best, self.lowest = xs[costs.argmin()], costs.min()
        self.size, self.left = 0.85 * self.size, self.left - 1

    def done(self):
        return self.left <= 0

def crawling(objective, x):
    """Least squares of SciPy, slowly."""
    def residuals(z):
        time.sleep(0.2)
        return objective.residuals(z)

    return least_squares(residuals, x, objective.jacobian, x_scale="jac", ftol=1e-12)
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of optimizers, installed here as pip would."""
    info = tmp_path / "outside-0.1.dist-info"
    info.mkdir()
    (tmp_path / "outside.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 0.1\n")
    points = "[physid.optimizers]\nspread = outside:Spread\ncrawling = outside:crawling\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry_points.cache_clear()
    yield
    sys.modules.pop("outside", None)
    entry_points.cache_clear()


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("optimizer", ["spread", *(pytest.param(one, marks=SLOW) for one in CRAWLING)])
def test_a_killed_process_goes_on(
    optimizer: str, known: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fit is ended by SIGKILL, and resumed by the command line."""
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    arguments = ["fit", "pendulum", "--points", "24", "--noise", "0.05", "--optimizer", optimizer, "--out", "run"]
    fitting = os.fork()  # as a start of Python does, less its imports
    if fitting == 0:
        os._exit(main([*arguments, "--quiet"]))
    checkpoint, seen = tmp_path / "run" / writer.CHECKPOINT, set[float]()
    while len(seen) < 3:  # some points from which it could go on
        assert os.waitpid(fitting, os.WNOHANG) == (0, 0)
        with suppress(FileNotFoundError):
            seen.add(checkpoint.stat().st_mtime)
        time.sleep(0.005)
    os.kill(fitting, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(fitting, 0)[1]) == -signal.SIGKILL
    trust = ["--trust"] if ".py" in optimizer else []
    assert main(["resume", "run", "--json", *trust]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["status"] == "converged"
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert len(rows) > len(seen)
    again = Fit.load(tmp_path / "run", trust=bool(trust))
    assert again.x == pytest.approx(known.x, abs=1e-2)
