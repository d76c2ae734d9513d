"""What an optimum says of the unknowns, against closed forms, statsmodels' definitions and simulated truth."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from physid import Experiment, Fit, Integrator, Model, Trajectory, Unknown, fit, positive
from physid.arrays import Array
from physid.datasets import load
from physid.inference.parameters import VectorEntry
from physid.inference.problem import Problem
from physid.inference.uncertainty.identifiability import echelon, spoken
from physid.inference.uncertainty.information import normality
from physid.modelling.unknown import real

GRAVITY = 9.80665


class Drift(Model):
    """z' = rate."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    rate = Unknown(0.0)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return self.rate + torch.zeros_like(y)


class Compound(Model):
    """A pendulum by mass, length, moment of inertia and friction, of which two combinations are seen.

    (inertia + mass length^2) theta'' = -mass g length sin(theta) - friction theta'.
    """

    state_names: ClassVar[tuple[str, ...]] = ("theta", "omega")
    mass = Unknown(1.0, positive)
    length = Unknown(0.8, positive)
    inertia = Unknown(0.1, positive)
    friction = Unknown(0.1, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        theta, omega = y.unbind(-1)
        inertia = self.inertia + self.mass * self.length**2
        torque = -self.mass * GRAVITY * self.length * torch.sin(theta) - self.friction * omega
        return torch.stack((omega, torque / inertia), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


class Tanks(Model):
    """z' = inflow / area - (outlet / area) z: area, inflow and outlet only as two ratios."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    area = Unknown(1.0, positive)
    inflow = Unknown(1.0, positive)
    outlet = Unknown(1.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return (self.inflow - self.outlet * y) / self.area


def line(values: Array, sigma: float | None = None) -> Experiment:
    times = np.linspace(0.0, 2.0, len(values))
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    return Experiment(
        "line", known, torch.zeros(1), initial_free=torch.tensor([True]), initial_scale=torch.ones(1), sigma=sigma
    )


@pytest.fixture(scope="module")
def compound() -> Fit:
    experiment = load("pendulum", noise=0.02, points=40)
    return fit(Compound(), experiment, integrator=Integrator("dopri8", 1e-9, 1e-9))


def test_two_combinations_of_a_compound_pendulum_are_identifiable_and_named(compound: Fit) -> None:
    statistics = compound.statistics
    assert statistics is not None
    assert len(statistics.null_directions) == 2
    assert len(statistics.identifiable_combinations) == 2
    assert not statistics.identifiable.any()
    mass, length, inertia, friction = (one.value for one in compound.estimates)
    whole = inertia + mass * length**2
    assert mass * GRAVITY * length / whole == pytest.approx(GRAVITY / 0.7, rel=0.03)
    assert friction / whole == pytest.approx(0.1, rel=0.3)
    text = " ".join(str(compound.report()).split())
    assert "Only 2 combinations of mass, length, inertia, friction can be identified from these data: " in text
    assert statistics.identifiable_combinations[0] in text


def test_the_named_null_space_leaves_the_predictions_alone(compound: Fit) -> None:
    """Along what is said not to be told nothing changes, first in the derivative, then in the exact symmetry."""
    problem = Problem(compound.vector, compound.integrator)
    point = problem.at(compound.x)
    assert point is not None
    assert compound.statistics is not None
    null = np.array([weights(one, compound) for one in compound.statistics.null_directions])
    assert np.linalg.matrix_rank(null) == 2
    size = np.linalg.norm(point.jacobian)
    assert np.abs(point.jacobian @ null.T).max() < 2e-3 * size / np.sqrt(len(point.residual))
    seen = np.linalg.svd(point.jacobian, full_matrices=False)
    assert (seen[1] > 1e-8 * seen[1][0]).sum() == 2
    exact = np.log(np.array([3.0, 1.0, 3.0, 3.0]))  # mass, inertia and friction times 3: the same pendulum
    assert np.linalg.norm(exact - seen[2][2:].T @ (seen[2][2:] @ exact)) < 1e-6
    moved = problem.at(compound.x + exact)
    assert moved is not None
    np.testing.assert_allclose(moved.residual, point.residual, atol=1e-9)


def weights(text: str, found: Fit) -> list[float]:
    """The weights of a direction such as `+1 log(a) -0.5 b`."""
    words = text.split()
    parts = {name: float(weight) for weight, name in zip(words[0::2], words[1::2], strict=True)}
    return [parts.get(f"log({one.name})", parts.get(one.name, 0.0)) for one in found.estimates]


def test_a_second_model_with_too_many_unknowns() -> None:
    times = np.linspace(0.0, 5.0, 40)
    values = 1.5 + (0.2 - 1.5) * np.exp(-0.8 * times) + 0.01 * np.random.default_rng(0).standard_normal(40)
    experiment = Experiment("tanks", Trajectory(times, values[:, None]), torch.tensor([0.2]))  # type: ignore[arg-type]
    found = fit(Tanks(), experiment)
    assert found.statistics is not None
    (direction,) = found.statistics.null_directions
    assert sorted(map(abs, weights(direction, found))) == [1.0, 1.0, 1.0]
    assert len(set(weights(direction, found))) == 1  # all three grow alike
    names = {"area", "inflow", "outlet"}
    for told in found.statistics.identifiable_combinations:
        assert names.issuperset(told.replace("/", " ").split())  # ratios, without powers
        assert " / " in told
    assert len(found.statistics.identifiable_combinations) == 2
    area, inflow, outlet = (one.value for one in found.estimates)
    assert inflow / outlet == pytest.approx(1.5, rel=0.02)
    assert outlet / area == pytest.approx(0.8, rel=0.02)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=1, max_size=3))
def test_echelon_keeps_the_span(rows: list[list[float]]) -> None:
    table = np.round(np.array(rows), 3)
    found = echelon(table)
    assert len(found) == np.linalg.matrix_rank(table, tol=1e-6)
    assert np.linalg.matrix_rank(np.concatenate([table, found]), tol=1e-6) == np.linalg.matrix_rank(table, tol=1e-6)


def test_combinations_are_spoken() -> None:
    half, line_ = [[VectorEntry(name, domain, "", name) for name in "abc"] for domain in (positive, real)]
    assert spoken(np.array([1.0, -1.0, 0.0]), half) == "a / b"
    assert spoken(np.array([1.0, 2.0, -0.5]), half) == "a b^2 / c^0.5"
    assert spoken(np.array([-1.0, -1.0, 0.0]), half) == "1 / (a b)"
    assert spoken(np.array([1.0, -2.0, 0.0]), line_) == "1 a -2 b"
    assert spoken(np.array([1.0, -2.0, 0.0]), [half[0], *line_[1:]]) == "log(a) -2 b"


@pytest.mark.parametrize("sigma", [None, 0.1])
def test_criteria_are_those_of_the_textbook(sigma: float | None) -> None:
    values = 0.3 + 1.7 * np.linspace(0, 2, 30) + 0.1 * np.random.default_rng(1).standard_normal(30)
    found = fit(Drift(), line(values, sigma))
    known = stats.linregress(np.linspace(0, 2, 30), values)
    residual = values - known.intercept - known.slope * np.linspace(0, 2, 30)
    sd = sigma or float(np.sqrt((residual**2).mean()))
    likelihood = float(stats.norm.logpdf(residual, scale=sd).sum())
    k = 2 if sigma else 3
    assert found.statistics is not None
    tests = found.statistics.tests
    assert tests["log_likelihood"] == pytest.approx(likelihood, rel=1e-9)
    assert tests["aic"] == pytest.approx(2 * k - 2 * likelihood, rel=1e-9)
    assert tests["bic"] == pytest.approx(k * np.log(30) - 2 * likelihood, rel=1e-9)
    percent = 100 * (1 - np.sqrt((residual**2).sum() / ((values - values.mean()) ** 2).sum()))
    assert tests["fit_percent"] == pytest.approx(percent, rel=1e-7)
    assert tests["normality_p"] == pytest.approx(stats.normaltest(residual).pvalue, rel=1e-6)
    if sigma:
        assert tests["chi_squared_per_dof"] == pytest.approx((residual**2).sum() / sigma**2 / 28, rel=1e-7)
    assert f"AIC {tests['aic']:.2f}" in " ".join(str(found.report()).split())


def test_normality_is_rejected_for_what_is_not_normal() -> None:
    random = np.random.default_rng(0)
    assert normality([random.standard_normal(200)])["normality_p"] > 0.01
    assert normality([random.exponential(size=200)])["normality_p"] < 1e-6
    assert normality([np.zeros(3)])["normality_p"] is None


def test_robust_errors_hold_where_plain_ones_lie() -> None:
    """A slope under first-order autoregressive noise: the truth over draws, beside what either error claims."""
    rho, count, random = 0.8, 150, np.random.default_rng(5)
    slopes, plain, robust = [], [], []
    loose = Integrator("bosh3", 1e-3, 1e-3)
    for _ in range(16):
        noise = np.zeros(count)
        for i in range(1, count):
            noise[i] = rho * noise[i - 1] + 0.1 * random.standard_normal()
        experiment = line(np.linspace(0, 2, count) + noise)
        one = fit(Drift(rate=1.0), experiment, integrator=loose, strategy="full").estimates[0]
        assert one.plain is not None
        assert one.robust is not None
        slopes.append(one.value)
        plain.append(one.plain)
        robust.append(one.robust)
    spread = float(np.std(slopes))
    assert np.mean(plain) < 0.45 * spread
    assert 0.5 * spread < np.mean(robust) < 1.5 * spread  # a short record tells less than all of it


def test_why_there_are_no_robust_errors() -> None:
    found = fit(Drift(), line(np.array([0.0, 1.0, 2.1, 2.9, 4.0, 5.1])))
    (rate, _) = found.estimates
    assert rate.stderr is not None
    assert rate.robust is None
    assert "No robust errors: 6 times are too few" in " ".join(str(found.report()).split())
