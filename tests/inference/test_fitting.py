"""Fitting against truth: closed forms, SciPy, simulated systems."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from fits import TIGHT, Drift, Gain, line
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import curve_fit
from torch import Tensor
from variants import some

from physid import Experiment, Trajectory, Unknown, fit
from physid.datasets import load
from physid.errors import InputError
from physid.inference.parameters import ParameterVector
from physid.inference.problem import Problem
from physid.modelling.unknown import Normal
from physid.models import Pendulum, build
from physid.ode import Integrator


def test_line_equals_linear_regression() -> None:
    experiment = line()
    found = fit(Drift(), experiment)
    times, values = experiment.train.times.numpy(), experiment.train.observations.numpy()[:, 0]
    known = stats.linregress(times, values)
    rate, start = found.estimates
    assert (rate.name, start.name) == ("rate", "initial[0]")
    assert rate.value == pytest.approx(known.slope, rel=1e-9)
    assert start.value == pytest.approx(known.intercept, rel=1e-9)
    assert rate.stderr == pytest.approx(known.stderr, rel=1e-6)
    assert start.stderr == pytest.approx(known.intercept_stderr, rel=1e-6)
    half = stats.t.ppf(0.975, 28) * known.stderr
    assert (rate.low, rate.high) == pytest.approx((known.slope - half, known.slope + half), rel=1e-7)
    assert found.status == "converged"
    assert found.exit_code == 0


def test_known_noise_gives_its_own_errors() -> None:
    experiment = line(sigma=0.2)
    rate = fit(Drift(), experiment).estimates[0]
    times = experiment.train.times.numpy()
    error = 0.2 / np.sqrt(((times - times.mean()) ** 2).sum())
    assert rate.stderr == pytest.approx(error, rel=1e-6)
    assert rate.low is not None
    assert rate.value - rate.low == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-6)


def test_prior_is_that_of_the_textbook() -> None:
    class Believed(Drift):
        rate = Unknown(0.0, prior=Normal(1.0, 0.05))

    experiment = line(sigma=0.2)
    experiment = Experiment("line", experiment.train, torch.tensor([0.3]), sigma=0.2)
    found = fit(Believed(), experiment).estimates[0]
    times, values = experiment.train.times.numpy(), experiment.train.observations.numpy()[:, 0]
    precision = (times**2).sum() / 0.04 + 1 / 0.0025
    mean = ((times * (values - 0.3)).sum() / 0.04 + 1 / 0.0025) / precision
    assert found.value == pytest.approx(mean, rel=1e-8)
    assert found.stderr == pytest.approx(precision**-0.5, rel=1e-6)
    with pytest.raises(InputError, match="has a prior, but the noise of line is not known"):
        fit(Believed(), line())
    with pytest.raises(InputError, match="which optimizer lbfgs does not take"):
        fit(Believed(), experiment, optimizer="lbfgs")


def test_equals_curve_fit_with_an_instrument() -> None:
    times = np.linspace(0.0, 4.0, 50)
    values = 2.5 * np.exp(-0.7 * times) + 0.4 + 0.05 * np.random.default_rng(5).standard_normal(50)
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    found = fit(Gain(), Experiment("instrument", known, torch.ones(1)))

    def curve(t: NDArray[np.float64], k: float, gain: float, offset: float) -> NDArray[np.float64]:
        return np.asarray(gain * np.exp(k * t) + offset)

    best, covariance = curve_fit(curve, times, values, p0=(-0.5, 2.0, 0.0), xtol=1e-14, ftol=1e-14)
    assert [one.name for one in found.estimates] == ["k", "gain", "offset"]
    assert [one.value for one in found.estimates] == pytest.approx(best, rel=1e-6)
    assert [one.stderr for one in found.estimates] == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "strategy"),
    some(
        product(["exponential", "vanderpol", "pendulum"], ["auto", "full", "segments"]),
        *(("exponential", "auto"), ("vanderpol", "segments"), ("pendulum", "full")),
    ),
)
def test_truth_is_found(name: str, strategy: str) -> None:
    experiment = load(name)
    found = fit(build(experiment), experiment, strategy=strategy)
    for one in found.estimates:
        assert one.value == pytest.approx(one.truth, rel=1e-8)
    assert found.status == "converged"
    assert found.statistics is not None
    assert found.statistics.verdict == "exact"


def test_masses_of_three_bodies() -> None:
    experiment = load("threebody")
    found = fit(build(experiment), experiment)
    assert [one.value for one in found.estimates] == pytest.approx([1.1, 1.1, 0.9], abs=1e-8)
    assert found.scores["test"] is not None
    assert found.scores["test"]["mse"] < 1e-14
    assert found.seconds < 20


@pytest.mark.parametrize("seed", some(range(4), 0))
def test_segments_find_rates_far_away(seed: int) -> None:
    experiment = load("lotka-volterra", points=21)
    random = np.random.default_rng(seed)
    model = build(experiment)
    for name, value in experiment.truth.items():
        setattr(model, name, float(value * np.exp(random.standard_normal())))
    found = fit(model, experiment)
    assert found.recovered
    assert found.history[-1]["phase"] == "full"
    assert any(row["phase"].startswith("segments") for row in found.history)


def test_free_initial_state_and_gaps() -> None:
    experiment = load("pendulum", noise=0.01, points=80)
    seen = experiment.train.observations.clone()
    seen[::7] = torch.nan
    free = Experiment(
        "pendulum",
        Trajectory(experiment.train.times, seen),
        torch.tensor([1.8, 0.2]),
        initial_free=torch.tensor([True, True]),
        initial_scale=torch.tensor([1.0, 1.0]),
        truth={**experiment.truth, "initial": [2.0, 0.0]},
    )
    found = fit(Pendulum(), free)
    assert [one.name for one in found.estimates] == ["length", "friction", "initial[0]", "initial[1]"]
    for one in found.estimates:
        assert one.stderr is not None
        assert abs(one.value - (one.truth or 0.0)) < 4 * one.stderr
    assert found.settings["observations"] == 80 - 12


def test_jacobian_is_the_derivative_and_gives_the_gradient_of_aca() -> None:
    experiment = load("pendulum", noise=0.1, points=25)
    experiment = Experiment(
        "pendulum",
        experiment.train,
        experiment.initial,
        initial_free=torch.tensor([False, True]),
        initial_scale=torch.tensor([1.0, 3.0]),
    )
    vector = ParameterVector(Pendulum(length=0.9), experiment)
    problem = Problem(vector, TIGHT)
    x = vector.get() + np.array([0.1, -0.2, 0.05])
    point = problem.at(x)
    assert point is not None
    for i, step in enumerate(1e-5 * np.eye(3)):
        up, down = problem.at(x + step), problem.at(x - step)
        assert up is not None
        assert down is not None
        difference = (up.residual - down.residual) / 2e-5
        assert point.jacobian[:, i] == pytest.approx(difference, abs=1e-7)
    shift = torch.tensor(x[2:], requires_grad=True)
    vector.put(x)
    start = torch.stack([experiment.initial[0], experiment.initial[1] + 3.0 * shift[0]])
    solution = Integrator("dopri8", 1e-10, 1e-10).solve(vector.model, start, experiment.train.times)
    assert isinstance(solution.y, Tensor)
    error = (vector.model.observe(solution.y) - experiment.train.observations).reshape(-1) * problem.weight
    loss = 0.5 * (error**2).sum()
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, [*vector.raws, shift])])
    assert point.jacobian.T @ point.residual == pytest.approx(gradient.numpy(), rel=1e-12)
