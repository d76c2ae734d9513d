"""Noise models against truth: closed forms, densities of scipy.stats, SciPy's optimisers, a published fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from torch import Tensor

from physid import Experiment, Model, Trajectory, Unknown, fit, positive
from physid.errors import InputError
from physid.inference.assemble import noise_model
from physid.inference.fit_options import FitOptions
from physid.inference.noise_models import LOSSES, read
from physid.inference.options import resolve
from physid.modelling.unknown import LogNormal, Normal
from physid.models import LotkaVolterra

Array = NDArray[np.float64]
TIMES = np.linspace(0.0, 2.0, 30)


class Lines(Model):
    """Two straight lines, x' = a and y' = b."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "y")
    a = Unknown(0.5)
    b = Unknown(0.5)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack((self.a, self.b)).expand(y.shape)


class Growth(Model):
    """z' = k z."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    k = Unknown(0.1)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return self.k * y


def made(values: Array, initial: list[float], sigma: float | None = None) -> Experiment:
    """An experiment on `values` [30, M] at TIMES."""
    data = Trajectory(torch.from_numpy(TIMES), torch.from_numpy(values))
    return Experiment("made", data, torch.tensor(initial), channels=("x", "y")[: values.shape[1]], sigma=sigma)


def lines(seed: int = 0) -> tuple[Array, Experiment]:
    random = np.random.default_rng(seed)
    values = np.column_stack([2.0 * TIMES, -3.0 * TIMES]) + random.standard_normal((30, 2)) * [0.1, 2.0]
    return values, made(values, [0.0, 0.0])


def test_normal_noise_of_every_channel_is_the_closed_form() -> None:
    values, experiment = lines()
    found = fit(Lines(), experiment, noise="normal")
    slopes = (TIMES @ values) / (TIMES @ TIMES)
    sigmas = np.sqrt(((values - TIMES[:, None] * slopes) ** 2).mean(0))
    assert [one.value for one in found.estimates] == pytest.approx(slopes, rel=1e-6)
    assert found.likelihood is not None
    assert list(found.likelihood.sigmas.values()) == pytest.approx(sigmas, rel=1e-6)
    density = float(np.sum(stats.norm.logpdf(values, TIMES[:, None] * slopes, sigmas)))
    assert found.likelihood.log_likelihood == pytest.approx(density, rel=1e-10)
    assert found.likelihood.parameters == 4
    assert found.likelihood.aic == pytest.approx(8 - 2 * density)
    assert found.likelihood.bic == pytest.approx(4 * np.log(60) - 2 * density)


def test_equal_noise_has_one_sigma() -> None:
    values, experiment = lines()
    found = fit(Lines(), experiment)
    slopes = (TIMES @ values) / (TIMES @ TIMES)
    sigma = np.sqrt(((values - TIMES[:, None] * slopes) ** 2).mean())
    assert found.likelihood is not None
    assert found.likelihood.sigmas == pytest.approx({"x": sigma, "y": sigma})
    density = float(np.sum(stats.norm.logpdf(values, TIMES[:, None] * slopes, sigma)))
    assert found.likelihood.log_likelihood == pytest.approx(density)
    assert found.likelihood.parameters == 3


def test_lognormal_noise_is_regression_of_logarithms() -> None:
    values = 3.0 * np.exp(0.4 * TIMES + 0.3 * np.random.default_rng(2).standard_normal(30))
    found = fit(Growth(), made(values[:, None], [3.0]), noise="lognormal")
    logs = np.log(values / 3.0)
    k = TIMES @ logs / (TIMES @ TIMES)
    sigma = float(np.sqrt(((logs - k * TIMES) ** 2).mean()))
    assert found.estimates[0].value == pytest.approx(k, rel=1e-6)
    density = float(np.sum(stats.lognorm.logpdf(values, s=sigma, scale=3.0 * np.exp(k * TIMES))))
    assert found.likelihood is not None
    assert found.likelihood.log_likelihood == pytest.approx(density, rel=1e-10)
    assert found.likelihood.sigmas["x"] == pytest.approx(sigma, rel=1e-6)


def test_residuals_of_logarithms_have_no_unit() -> None:
    values = 3.0 * np.exp(0.2 * TIMES + 0.1 * np.random.default_rng(0).standard_normal(30))
    found = fit(Growth(), replace(made(values[:, None], [3.0]), unit="mm", noise="lognormal")).statistics
    assert found is not None
    assert found.sentence.startswith("The residuals (sigma 0.0")
    assert "mm" not in found.sentence


def test_students_noise_is_the_maximum_of_its_likelihood() -> None:
    values = 2.0 * TIMES + 0.1 * np.random.default_rng(3).standard_t(3, 30)
    values[[4, 20]] += 5.0
    both = np.column_stack([values, -values])
    experiment = made(both, [0.0, 0.0])
    found = fit(Lines(), experiment, noise="student:3")

    def minus(p: Array) -> float:
        return -float(stats.t.logpdf(values, 3, p[0] * TIMES, np.exp(p[1])).sum())

    best = optimize.minimize(minus, [2.0, -2.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
    assert found.estimates[0].value == pytest.approx(best.x[0], abs=1e-6)
    assert found.estimates[1].value == pytest.approx(-best.x[0], abs=1e-6)
    assert found.likelihood is not None
    assert found.likelihood.sigmas["x"] == pytest.approx(np.exp(best.x[1]), rel=1e-6)
    assert found.likelihood.log_likelihood == pytest.approx(-2 * best.fun, rel=1e-9)


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_losses_are_those_of_scipy(loss: str) -> None:
    values = 2.0 * TIMES + 0.1 * np.random.default_rng(4).standard_normal(30)
    values[[3, 15, 22]] += [3.0, -2.0, 4.0]
    gap = np.column_stack([values, np.full(30, np.nan)])
    experiment = made(gap, [0.0, 0.0])
    model = Lines()
    model.fix("b")
    found = fit(model, experiment, loss=loss, loss_scale=0.2)
    named: Any = loss

    def error(p: Array) -> Array:
        return np.asarray(p[0] * TIMES - values)

    best = optimize.least_squares(error, [1.8], loss=named, f_scale=0.2, xtol=1e-14, ftol=1e-14)
    assert found.estimates[0].value == pytest.approx(best.x[0], rel=1e-5)
    assert found.likelihood is None


OUTLIERS: list[dict[str, str]] = [{"loss": loss} for loss in LOSSES if loss != "linear"]
OUTLIERS.append({"noise": "student:3"})


def with_outliers(seed: int) -> tuple[Array, Experiment]:
    random = np.random.default_rng(seed)
    y = np.exp(0.3 * TIMES) + 0.03 * random.standard_normal(30)
    y += np.where(random.random(30) < 0.1, 0.4 * random.standard_normal(30), 0.0)
    return y, Experiment("growth", Trajectory(torch.tensor(TIMES), torch.tensor(y[:, None])), torch.ones(1))


@pytest.mark.parametrize("options", OUTLIERS, ids=str)
def test_standard_errors_are_those_of_an_m_estimator(options: dict[str, Any]) -> None:
    """Huber (1981), section 7.6: sum psi^2 / (N - Q) over (mean psi')^2, times 1 / J^T J."""
    y, experiment = with_outliers(3)
    if "loss" in options:
        options = {**options, "loss_scale": 0.05}
    found = fit(Growth(), experiment, **options)
    assert found.statistics is not None
    k = found.estimates[0].value
    scale = 0.05 if found.likelihood is None else next(iter(found.likelihood.sigmas.values()))
    e = (np.exp(k * TIMES) - y) / scale
    slope = TIMES * np.exp(k * TIMES)
    losses: dict[str, Callable[[Array], Array]] = {
        "huber": lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
        "soft_l1": lambda z: 2 * (np.sqrt(1 + z) - 1),
        "cauchy": np.log1p,
        "arctan": np.arctan,
        "student": lambda z: 4 * np.log1p(z / 3),
    }
    rho, step = losses[options.get("loss", "student")], 1e-4
    low, mid, high = (0.5 * rho((e + move) ** 2) for move in (-step, 0.0, step))
    psi, bend = (high - low) / (2 * step), (high - 2 * mid + low) / step**2
    assert float((psi * slope).sum()) == pytest.approx(0.0, abs=1e-3 * float(np.abs(psi * slope).sum()))
    expected = (psi**2).sum() / 29 / bend.mean() ** 2 / (slope**2).sum() * scale**2
    assert found.statistics.covariance[0, 0] == pytest.approx(expected, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("options", OUTLIERS, ids=str)
def test_intervals_cover_with_outliers(options: dict[str, Any]) -> None:
    """99 % of them did as long as outliers counted in the scale as other errors do."""
    fits = [fit(Growth(), with_outliers(seed)[1], strategy="full", **options) for seed in range(200)]
    ends = [(found.estimates[0].low, found.estimates[0].high) for found in fits]
    inside = [low < 0.3 < high for low, high in ends if low is not None and high is not None]
    assert len(inside) == 200
    assert 0.86 < np.mean(inside) < 0.985  # arctan, which forgets outliers altogether, 0.88; the others 0.95 and more


def test_prior_with_unknown_noise_is_the_maximum_of_the_posterior() -> None:
    values, experiment = lines(5)

    class Believed(Lines):
        a = Unknown(0.5, positive, prior=LogNormal(1.0, 0.02))
        b = Unknown(0.5, prior=Normal(0.0, 0.3))

    found = fit(Believed(), experiment, noise="normal")

    def minus(p: Array) -> float:
        a, b, s, u = p
        data = stats.norm.logpdf(values[:, 0], a * TIMES, np.exp(s)).sum()
        data += stats.norm.logpdf(values[:, 1], b * TIMES, np.exp(u)).sum()
        return -float(data + stats.lognorm.logpdf(a, s=0.02) + stats.norm.logpdf(b, 0.0, 0.3))

    start = np.array([1.5, -1.0, -1.0, 1.0])
    best = optimize.minimize(
        minus, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
    )
    assert [one.value for one in found.estimates] == pytest.approx(best.x[:2], rel=1e-5)
    assert found.likelihood is not None
    assert list(found.likelihood.sigmas.values()) == pytest.approx(np.exp(best.x[2:]), rel=1e-5)


def test_known_noise_is_kept_and_only_the_unknown_estimated() -> None:
    values, _ = lines(6)
    known = made(values, [0.0, 0.0], 0.5)
    found = fit(Lines(), known, noise="normal")
    assert found.likelihood is not None
    assert found.likelihood.sigmas == {"x": 0.5, "y": 0.5}
    assert found.likelihood.parameters == 2


@pytest.mark.parametrize(
    ("noise", "loss", "words"),
    [
        ("norml", "linear", "Did you mean 'normal'"),
        ("student:0", "linear", "positive number of degrees of freedom NU"),
        ("student:x", "linear", "positive number of degrees"),
        ("normal:3", "linear", "expected no number for normal"),
        ("equal", "hubber", "Did you mean 'huber'"),
        ("student", "huber", "takes the place of a noise model"),
    ],
)
def test_noise_that_cannot_be(noise: str, loss: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(noise, loss)


def test_logarithms_need_positive_measurements() -> None:
    _, experiment = lines()
    with pytest.raises(InputError, match=r"noise model lognormal with a measurement of -"):
        fit(Lines(), experiment, noise="lognormal")


def test_the_noise_of_the_data_counts_before_the_models_and_after_what_is_asked() -> None:
    _, one = lines()
    known, other = replace(one, noise="student:5"), replace(one, noise="normal")

    def chosen(*experiments: Experiment, **asked: Any) -> str | None:
        return noise_model(Lines(), experiments, resolve(FitOptions(**asked)))

    assert chosen(one) is Lines.noise is None
    assert chosen(known) == chosen(known, one) == "student:5"
    assert chosen(known, noise="equal") == "equal"
    assert chosen(known, other, noise="lognormal") == "lognormal"
    assert chosen(known, loss="huber") == chosen(known, optimizer="adam") == "equal"
    with pytest.raises(InputError, match="noise models differ"):
        chosen(known, other)


@pytest.mark.data
@pytest.mark.parametrize("seed", [2, 5])
def test_lynx_and_hare(data_folder: Path, seed: int) -> None:
    table = np.loadtxt(data_folder / "lynx_hare/hudson-bay-lynx-hare.csv", delimiter=",", skiprows=3)
    pelts = Experiment(
        "lynxhare",
        Trajectory(torch.from_numpy(table[:, 0] - 1900), torch.from_numpy(table[:, [2, 1]])),
        initial=torch.tensor([30.0, 4.0]),
        initial_free=torch.tensor([True, True]),
        channels=("hare", "lynx"),
    )
    random = np.random.default_rng(seed)
    truth = {"alpha": 0.5400, "beta": 0.02716, "gamma": 0.7966, "delta": 0.02370}
    model = LotkaVolterra(**{name: float(v * np.exp(random.standard_normal())) for name, v in truth.items()})
    found = fit(model, pelts, noise="lognormal")
    values = [*truth.values(), 34.60, 5.844]
    assert [one.value for one in found.estimates] == pytest.approx(values, rel=1e-3)
    assert found.likelihood is not None
    assert found.likelihood.sigmas == pytest.approx({"hare": 0.2184, "lynx": 0.2201}, rel=1e-3)
    assert found.likelihood.log_likelihood == pytest.approx(-122.926, abs=1e-3)
    assert found.likelihood.aic == pytest.approx(261.85, abs=0.01)
