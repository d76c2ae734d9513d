"""Profile likelihoods against closed forms and against a grid."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from fits import Drift, Product
from scipy import stats
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor
from variants import some

from physid import Experiment, Fit, Integrator, Model, Trajectory, Unknown, fit, positive
from physid.cli.app import main
from physid.errors import InputError
from physid.models import Exponential

Captured = pytest.CaptureFixture[str]


class Swing(Model):
    """z'' = -p^2 z, whose frequency has many optima."""

    state_names: ClassVar[tuple[str, ...]] = ("z", "rate")
    p = Unknown(2.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack((y[..., 1], -(self.p**2) * y[..., 0]), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


def line(sigma: float | None) -> Experiment:
    times = np.linspace(0.0, 2.0, 20)
    values = 0.3 + 1.7 * times + 0.1 * np.random.default_rng(1).standard_normal(20)
    return Experiment(
        "line",
        Trajectory(torch.tensor(times), torch.tensor(values[:, None])),
        torch.zeros(1),
        initial_free=torch.ones(1, dtype=torch.bool),
        initial_scale=torch.ones(1),
        sigma=sigma,
    )


def decay(points: int = 5, noise: float = 0.15, until: float = 6.0, sigma: float | None = None) -> Experiment:
    times = np.linspace(0.5, until, points)
    values = np.exp(-0.5 * times) + noise * np.random.default_rng(4).standard_normal(points)
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    return Experiment("decay", known, torch.ones(1), initial_time=0.0, sigma=sigma)


@pytest.mark.parametrize("sigma", [None, 0.2])
def test_profile_of_a_line_is_straight_and_gives_the_interval_of_regression(sigma: float | None) -> None:
    found = fit(Drift(), line(sigma))
    same, (one,) = found.profile()
    assert np.array_equal(same.x, found.x)
    rate = found.estimates[0]
    assert rate.stderr is not None
    np.testing.assert_allclose(one.tau, (one.values - rate.value) / rate.stderr, atol=1e-4)
    assert (one.low, one.high) == pytest.approx((rate.low, rate.high), rel=1e-5)
    assert one.threshold == pytest.approx(stats.norm.ppf(0.975) if sigma else stats.t.ppf(0.975, 18))
    assert np.all(np.diff(one.tau) > 0)


def test_profile_of_a_decay_is_that_of_the_sum_of_squares() -> None:
    experiment = decay()
    found = fit(Exponential(), experiment)
    _, (one,) = found.profile("k")
    times, values = experiment.train.times.numpy(), experiment.train.observations.numpy()[:, 0]

    def squares(k: float) -> float:
        return float(((np.exp(k * times) - values) ** 2).sum())

    best = squares(one.estimate)
    expected = [np.sign(k - one.estimate) * np.sqrt((squares(k) - best) / (best / 4)) for k in one.values]
    np.testing.assert_allclose(one.tau, expected, rtol=1e-5, atol=1e-5)
    limit = best * (1 + stats.f.ppf(0.95, 1, 4) / 4)
    low = brentq(lambda k: squares(k) - limit, one.estimate - 5.0, one.estimate)
    high = brentq(lambda k: squares(k) - limit, one.estimate, one.estimate + 2.0)
    assert (one.low, one.high) == pytest.approx((low, high), rel=2e-3)
    assert one.high is not None
    assert one.low is not None
    assert one.estimate - one.low > 1.3 * (one.high - one.estimate)  # lopsided, as the linearised one is not


def test_with_one_channel_estimated_noise_makes_no_difference() -> None:
    plain = fit(Exponential(), decay(12)).profile("k")[1][0]
    found = fit(Exponential(), decay(12), noise="normal").profile("k")[1][0]
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-4)
    assert found.threshold == plain.threshold


class Pair(Model):
    """Two decays by one rate, from starts that are known."""

    state_names: ClassVar[tuple[str, ...]] = ("a", "b")
    rate, growth = Unknown(0.5, positive), Unknown(0.1)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack((-self.rate * y[..., 0], (self.growth - self.rate) * y[..., 1]), -1)


@pytest.mark.parametrize("noise", some(["normal", "student:5", "lognormal"], "student:5"))
def test_profile_by_the_likelihood_of_channels_with_sigmas_of_their_own(noise: str) -> None:
    times, random = np.linspace(0.2, 3.0, 14), np.random.default_rng(2)

    def truth(rate: float, growth: float) -> list[np.ndarray]:
        return [2.0 * np.exp(-rate * times), np.exp((growth - rate) * times)]

    factor = np.exp(random.standard_normal((2, 14)) * np.array([[0.03], [0.2]]))
    values = np.stack(truth(0.5, 0.2)) * factor
    known = Trajectory(torch.tensor(times), torch.tensor(values.T.copy()))
    found = fit(Pair(), Experiment("pair", known, torch.tensor([2.0, 1.0]), initial_time=0.0), noise=noise)
    _, (one,) = found.profile("rate")

    def loss(e: np.ndarray) -> float:
        """-log of the likelihood of one channel, but for a constant, with the sigma that fits it."""
        if noise != "student:5":
            return float(0.5 * len(e) * np.log(np.mean(e**2)))
        density = lambda log: -stats.t.logpdf(e / np.exp(log), 5).sum() + len(e) * log  # noqa: E731
        return float(minimize_scalar(density, bounds=(-8, 2), method="bounded", options={"xatol": 1e-10}).fun)

    def total(rate: float, growth: float) -> float:
        pairs = zip(truth(rate, growth), values, strict=True)
        return sum(loss(np.log(a / b) if noise == "lognormal" else a - b) for a, b in pairs)

    def held(rate: float) -> float:
        near = minimize_scalar(lambda g: total(rate, g), bounds=(-1, 1.5), method="bounded", options={"xatol": 1e-10})
        return float(near.fun)

    best, dof = held(one.estimate), 26
    expected = [np.sqrt(max(dof * np.expm1(2 * (held(v) - best) / 28), 0.0)) for v in one.values]
    np.testing.assert_allclose(np.abs(one.tau), expected, rtol=1e-3, atol=2e-3)
    assert one.low is not None
    assert one.high is not None
    for end in (one.low, one.high):
        assert np.sqrt(dof * np.expm1(2 * (held(end) - best) / 28)) == pytest.approx(stats.t.ppf(0.975, dof), rel=3e-3)


def test_what_the_data_do_not_tell_has_no_end() -> None:
    found = fit(Product(), decay(points=20, noise=0.02))
    _, profiles = found.profile()
    assert [one.name for one in profiles] == ["a", "b"]
    for one in profiles:
        assert (one.low, one.high) == (None, None)
        assert np.abs(one.tau).max() < 0.05


def test_a_better_optimum_is_adopted() -> None:
    times = np.linspace(0.0, 6.0, 24)
    values = np.cos(2.0 * times) + 0.5 * np.random.default_rng(3).standard_normal(24)
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    experiment = Experiment("swing", known, torch.tensor([1.0, 0.0]), sigma=2.0)
    found = fit(Swing(p=3.0), experiment, strategy="full", integrator=Integrator("tsit5", 1e-6, 1e-6))
    assert found.estimates[0].value == pytest.approx(3.24, abs=0.01)  # the wrong optimum
    better, (one,) = found.profile()
    assert better.status == "converged"
    assert better.estimates[0].value == pytest.approx(2.08, abs=0.01)
    assert better.estimates[0].start == found.estimates[0].start
    assert better.history[-1]["cost"] < found.history[-1]["cost"]
    assert one.better is None
    assert one.estimate == better.estimates[0].value
    assert better.profiles == [one]


@pytest.mark.slow
def test_two_processes_give_what_one_gives() -> None:
    found = fit(Drift(), line(0.2))
    _, alone = found.profile("rate", "initial[0]")
    _, shared = found.profile("rate", "initial[0]", jobs=2)
    for a, b in zip(alone, shared, strict=True):
        assert a.values.tolist() == b.values.tolist()
        assert a.tau.tolist() == b.tau.tolist()


def test_refusals() -> None:
    found = fit(Drift(), line(None))
    with pytest.raises(InputError, match=r"unknown unknown 'rte'\. Did you mean 'rate'"):
        found.profile("rte")
    far = fit(Exponential(k=-3.0), decay(), optimizer="adam", epochs=1)
    with pytest.raises(InputError, match="a profile starts from an optimum"):
        far.profile()


def test_profiles_are_kept_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "exponential", "--noise", "0.05", "--points", "20", "--out", "run", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["profile", "run", "--out", "a.csv"]) == 0
    assert "95 % by profile" in capsys.readouterr().out
    (one,) = Fit.load("run").profiles
    assert one.name == "k"
    assert len((tmp_path / "a.csv").read_text().splitlines()) == len(one.values) + 1
    assert main(["profile", "run", "--json", "--unknown", "k", "--out", "a.svg"]) == 0
    assert f'"low": {one.low}' in capsys.readouterr().out
    assert main(["profile", "run", "--unknown", "q"]) == 2
    assert main(["verify", "run"]) == 0
