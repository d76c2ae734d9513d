"""The contract of a noise model, over all of physid's, one of a user's own and one whose residuals know the prediction.

Derivatives against finite differences, sigma against scipy.optimize, densities against quadrature, bands by simulation.
"""

from __future__ import annotations

import pickle
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

from physid import Experiment, Trajectory, fit
from physid.api.fit import Fit
from physid.errors import InputError
from physid.inference.noise import NOISE, NoiseModel, ScaledNoise
from physid.inference.noise_models import (
    LOSSES,
    EqualNoise,
    LogNormalNoise,
    NormalNoise,
    RobustNoise,
    StudentNoise,
    of_settings,
    read,
    text_of,
)
from physid.inference.uncertainty.profile import travel_by_value
from physid.models import Exponential

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Proportional(NoiseModel):
    """Normal errors of standard deviation sigma |seen|, which is a part of the density: the residual is a deviance."""

    def spread(self, measured: Array) -> float:
        return float(np.std(measured) / np.abs(measured).mean())

    def _minus(self, seen: Array, measured: Array, sigma: Array) -> Array:
        return np.asarray(np.log(sigma * np.abs(seen)) + 0.5 * ((seen - measured) / (sigma * seen)) ** 2)

    def residuals(self, seen: Array, measured: Array, sigma: Array) -> tuple[Array, Array]:
        square = sigma**2  # the density is largest at `best`: best^2 sigma^2 + best m - m^2 = 0
        best = measured * 2.0 / (1.0 + np.sqrt(1.0 + 4.0 * square))
        g = np.sign(seen - best) * np.sqrt(
            2.0 * np.maximum(self._minus(seen, measured, sigma) - self._minus(best, measured, sigma), 0.0)
        )
        return g, self.influence(seen, measured, sigma)[0] / g

    def influence(self, seen: Array, measured: Array, sigma: Array) -> tuple[Array, Array]:
        e = (seen - measured) / (sigma * seen)
        score = 1.0 / seen + e * measured / (sigma * seen**2)
        return np.asarray(score), np.asarray((2.0 + 1.0 / sigma**2) / seen**2)

    def sigma(self, seen: Array, measured: Array, before: float) -> float:
        return float(np.sqrt(np.mean(((seen - measured) / seen) ** 2)))

    def log_density(self, seen: Array, measured: Array, sigma: Array) -> Array:
        return np.asarray(-self._minus(seen, measured, sigma) - 0.5 * np.log(2 * np.pi))

    def normal_scores(self, seen: Array, measured: Array, sigma: Array) -> Array:
        return np.asarray((seen - measured) / (sigma * np.abs(seen)))

    def band(self, seen: Array, deviation: Array, sigma: Array, quantile: float, level: float) -> tuple[Array, Array]:
        reach = quantile * np.sqrt(deviation**2 + (sigma * seen) ** 2)
        return np.asarray(seen - reach), np.asarray(seen + reach)

    def draw(self, seen: Array, sigma: Array, random: np.random.Generator) -> Array:
        return np.asarray(seen * (1.0 + sigma * random.standard_normal(np.broadcast_shapes(seen.shape, sigma.shape))))


def hyperbolic() -> NoiseModel:
    source = Path(__file__).parents[2] / "docs/examples/noise_model.py"
    names: dict[str, Any] = {"__name__": "of_a_script"}
    exec(source.read_text().partition("\nt = ")[0], names)  # its class, without the fit
    found: NoiseModel = names["Hyperbolic"]()
    return found


PHYSID = [EqualNoise(), NormalNoise(), LogNormalNoise(), StudentNoise(), StudentNoise(1.5)]
CATALOGUE = [*PHYSID, hyperbolic(), Proportional()]
SEEN, SIGMA = 2.5, 0.3


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What a test registers in this process is gone after it."""
    before = set(NOISE)
    yield
    for name in set(NOISE) - before:
        del NOISE[name]


def drawn(noise: NoiseModel, count: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Predictions, measurements of them, and sigma, [N] each."""
    random = np.random.default_rng(seed)
    seen, sigma = random.uniform(1.5, 4.0, count), np.full(count, SIGMA)
    return seen, noise.draw(seen, sigma, random), sigma


def test_the_catalogue_is_all_of_physid() -> None:
    assert {type(one) for one in PHYSID} == {NOISE[name] for name in NOISE}


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
def test_residuals_square_to_minus_the_log_density(noise: NoiseModel) -> None:
    _, measured, sigma = drawn(noise, 50)
    rows = []
    for seen in np.linspace(1.0, 5.0, 7):
        g, by = noise.residuals(np.full(50, seen), measured, sigma)
        rows.append(0.5 * g**2 + noise.log_density(np.full(50, seen), measured, sigma))
        ends = [noise.residuals(np.full(50, seen + move), measured, sigma)[0] for move in (1e-6, -1e-6)]
        assert by == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)
        assert (by > 0).all()  # signed as seen - measured
    assert np.ptp(rows, axis=0).max() < 1e-9


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
def test_the_influence_is_the_derivative_and_its_mean_curvature(noise: NoiseModel) -> None:
    seen, measured, sigma = drawn(noise, 10_000)
    score, curvature = noise.influence(seen, measured, sigma)
    up, mid, down = (noise.log_density(seen + move, measured, sigma) for move in (1e-4, 0.0, -1e-4))
    np.testing.assert_allclose(score, -(up - down) / 2e-4, rtol=1e-4, atol=1e-4)
    assert float(np.sum(curvature)) == pytest.approx(float(np.sum(2 * mid - up - down)) / 1e-8, rel=0.04)


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
def test_sigma_maximises_the_likelihood(noise: NoiseModel) -> None:
    seen, measured, _ = drawn(noise, 200)

    def minus(log: float) -> float:
        return -float(noise.log_density(seen, measured, np.full(200, np.exp(log))).sum())

    best = optimize.minimize_scalar(minus, bounds=(-4.0, 2.0), method="bounded", options={"xatol": 1e-9})
    for before in (SIGMA, 1e-3, 10.0):
        assert noise.sigma(seen, measured, before) == pytest.approx(np.exp(best.x), rel=1e-6)


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
def test_the_density_integrates_to_one(noise: NoiseModel) -> None:
    def density(measured: float) -> float:
        one = np.array([measured])
        return float(np.exp(noise.log_density(np.array([SEEN]), one, np.array([SIGMA])))[0])

    low = 0.0 if noise.logarithms else -np.inf
    parts = [integrate.quad(density, a, b, limit=200)[0] for a, b in ((low, SEEN), (SEEN, np.inf))]
    assert sum(parts) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
@pytest.mark.parametrize("deviation", [0.0, 0.3])
def test_the_band_has_its_coverage(noise: NoiseModel, deviation: float) -> None:
    random = np.random.default_rng(3)
    truth = random.uniform(3.0, 5.0, 40_000)
    sigma = np.full(len(truth), SIGMA)
    seen = truth + deviation * random.standard_normal(len(truth))  # the prediction is off by that much
    measured = noise.draw(truth, sigma, random)
    low, high = noise.band(seen, np.full(len(truth), deviation), sigma, float(stats.norm.ppf(0.975)), 0.95)
    inside = (low < measured) & (measured < high)
    assert inside.mean() == pytest.approx(0.95, abs=0.005 if deviation == 0 else 0.015)
    if noise.logarithms:
        assert (low > 0).all()


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
def test_normal_scores_are_normal(noise: NoiseModel) -> None:
    found = noise.normal_scores(*drawn(noise, 5000))
    assert stats.kstest(found, "norm").pvalue > 1e-3


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
def test_spread_is_a_start_for_sigma(noise: NoiseModel) -> None:
    _, measured, sigma = drawn(noise, 200)
    found = noise.spread(measured)
    assert 0 < found < np.inf
    alike = noise.sigma(np.full(200, np.median(measured)), measured, found)
    assert np.isfinite(noise.log_density(np.full(200, SEEN), measured, alike * sigma / SIGMA)).all()


def decay(points: int = 30) -> Experiment:
    """A decay of rate 0.5 with errors of 3 %."""
    t = np.linspace(0.0, 2.0, points)
    x = np.exp(-0.5 * t) * np.exp(0.03 * np.random.default_rng(5).standard_normal(points))
    return Experiment("decay", Trajectory(torch.from_numpy(t), torch.from_numpy(x[:, None])), torch.ones(1))


@pytest.mark.parametrize("noise", CATALOGUE, ids=str)
def test_it_comes_back_from_text_pickle_and_a_run(noise: NoiseModel, tmp_path: Path) -> None:
    text = text_of(noise)
    assert read(text) == noise
    if type(noise).__module__ in sys.modules:
        assert pickle.loads(pickle.dumps(noise)) == noise
    found = fit(Exponential(), decay(), noise=noise, out=tmp_path / "run")
    assert found.estimates[0].value == pytest.approx(-0.5, abs=0.05)
    again = Fit.load(tmp_path / "run")
    assert of_settings(again.settings) == noise
    assert again.settings["noise"] == str(noise)
    one, other = found.forecast(3.0, points=5), again.forecast(3.0, points=5)
    assert np.isfinite(one.noise_low[1:]).all()
    assert one.noise_low == pytest.approx(other.noise_low)
    assert (one.noise_low <= one.low).all()


def test_a_run_whose_noise_is_not_known_says_what_to_do(tmp_path: Path) -> None:
    fit(Exponential(), decay(), noise=hyperbolic(), out=tmp_path / "run")
    del NOISE["hyperbolic"]  # as in another process
    again = Fit.load(tmp_path / "run")
    assert again.estimates[0].value == pytest.approx(-0.5, abs=0.05)
    with pytest.raises(InputError, match=r"has noise model 'hyperbolic', which is not known here\. Install its"):
        again.forecast(3.0, points=5)
    NOISE["hyperbolic"] = type(hyperbolic())
    assert np.isfinite(again.forecast(3.0, points=5).noise_low[1:]).all()


def test_noise_of_ones_own_travels_to_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("noise_of_mine")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    own = type("Own", (Twin,), {"__module__": module.__name__, "distribution": stats.norm})
    module.Own = own  # type: ignore[attr-defined]
    travel_by_value(own)
    payload = cloudpickle.dumps(own())
    monkeypatch.delitem(sys.modules, module.__name__)
    monkeypatch.delattr(module, "Own")
    again = pickle.loads(payload)
    assert again.sigma(np.zeros(2), np.array([3.0, 4.0]), 1.0) == pytest.approx(np.sqrt(12.5))


def test_groups_come_back_from_settings() -> None:
    settings = {"noise": "student:2.5", "noise_groups": [0, 0, 1]}
    assert of_settings(settings) == StudentNoise(2.5, groups=(0, 0, 1))
    assert of_settings({"noise": "equal", "loss": "huber"}) == RobustNoise("huber")
    assert of_settings({}) == EqualNoise()


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "linear"])
def test_losses_have_the_derivatives_that_they_say(loss: str) -> None:
    noise = RobustNoise(loss)
    e = np.array([-30.0, -1.3, -1e-3, -1e-13, 0.0, 1e-13, 1e-3, 0.8, 1.2, 50.0])
    g, slope = noise.residual(e)
    up, down = noise.residual(e + 1e-6)[0], noise.residual(e - 1e-6)[0]
    assert slope == pytest.approx((up - down) / 2e-6, rel=1e-5)
    assert np.sign(g).tolist() == np.sign(e).tolist()
    one, none = np.ones(len(e)), np.zeros(len(e))
    assert noise.influence(e, none, one)[0] == pytest.approx(g * slope, rel=1e-9)
    with pytest.raises(InputError, match="is no density"):
        noise.log_density(e, none, one)


class Twin(ScaledNoise):
    """Noise of a user's own that loses its number in its text."""

    distribution: Any = stats.norm

    def rho(self, z: Array) -> tuple[Array, Array, Array]:
        return z, np.ones_like(z), 0 * z


@dataclass(frozen=True)
class Lossy(Twin):
    """It has a number that its text does not say."""

    number: float = 1.0


class Taker:
    """Makes a class of a name that is taken."""

    Student: ClassVar[type[NoiseModel]] = type("Student", (Twin,), {"__doc__": "Another one of that name."})


def test_what_is_no_noise_model_is_refused() -> None:
    wrong: Any = 3
    with pytest.raises(InputError, match="noise: expected the name of a noise model, got 3"):
        fit(Exponential(), decay(), noise=wrong)
    with pytest.raises(InputError, match="has the name 'student', which another one has"):
        text_of(Taker.Student())
    assert text_of(Lossy()) == "lossy"
    with pytest.raises(InputError, match="have `argument` and `parse` of Lossy say its numbers"):
        text_of(Lossy(2.0))


def test_the_example_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(__file__).parents[2] / "docs/examples/noise_model.py"
    runpy.run_path(str(source), run_name="__main__")
    name, _, low, _, high = capsys.readouterr().out.split()
    assert name == "hyperbolic"
    assert float(low) <= -0.5 <= float(high)
