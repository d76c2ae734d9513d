"""Forecasts against closed forms: bands, their coverage, and how far they mean anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from fits import Drift
from scipy import stats
from torch import Tensor

from physid import Experiment, Fit, Model, Trajectory, Unknown, fit, positive
from physid.cli.app import main
from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.inference.simulate import simulate

Captured = pytest.CaptureFixture[str]


class Growth(Model):
    """z' = k z, read by an instrument of unknown gain."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    k = Unknown(0.8, positive)
    gain = Unknown(1.2, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return self.k * y

    def observe(self, y: Tensor) -> Tensor:
        return self.gain * y


def line(seed: int = 1, sigma: float | None = None, points: int = 30, held: int = 0) -> Experiment:
    times = np.linspace(0.0, 2.0, points)
    later = np.linspace(2.1, 4.0, held)
    noise = 0.1 * np.random.default_rng(seed).standard_normal(points + held)
    values = 0.3 + 1.7 * np.concatenate([times, later]) + noise
    return Experiment(
        "line",
        Trajectory(torch.tensor(times), torch.tensor(values[:points, None])),
        torch.zeros(1),
        test=Trajectory(torch.tensor(later), torch.tensor(values[points:, None])) if held else None,
        initial_free=torch.ones(1, dtype=torch.bool),
        initial_scale=torch.ones(1),
        sigma=sigma,
        channels=("z",),
    )


@pytest.fixture(scope="module")
def straight() -> Fit:
    return fit(Drift(), line())


@pytest.fixture(scope="module")
def grown() -> Fit:
    times = np.linspace(0.0, 1.0, 15)
    values = 1.5 * np.exp(times) + 0.05 * np.random.default_rng(2).standard_normal(15)
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    return fit(Growth(), Experiment("growth", known, torch.ones(1), channels=("z",), time_unit="s", unit="m"))


def test_bands_of_a_line_are_those_of_regression(straight: Fit) -> None:
    experiment = straight.experiment
    times, values = experiment.train.times.numpy(), experiment.train.observations.numpy()[:, 0]
    ahead = np.linspace(0.0, 5.0, 26)
    known = stats.linregress(times, values)
    residual = values - known.intercept - known.slope * times
    sigma = np.sqrt((residual**2).sum() / 28)
    lever = 1 / 30 + (ahead - times.mean()) ** 2 / ((times - times.mean()) ** 2).sum()
    q = stats.t.ppf(0.975, 28)
    forecast = straight.forecast(ahead)
    np.testing.assert_allclose(forecast.mean[:, 0], known.intercept + known.slope * ahead, rtol=1e-9)
    np.testing.assert_allclose((forecast.high - forecast.mean)[:, 0], q * sigma * np.sqrt(lever), rtol=1e-6)
    np.testing.assert_allclose((forecast.mean - forecast.low)[:, 0], q * sigma * np.sqrt(lever), rtol=1e-6)
    np.testing.assert_allclose((forecast.noise_high - forecast.mean)[:, 0], q * sigma * np.sqrt(1 + lever), rtol=1e-6)
    assert forecast.coverage is None
    assert forecast.message == ""


def test_sampled_bands_agree_with_linearised_ones_where_all_is_linear(straight: Fit) -> None:
    ahead = np.linspace(0.0, 5.0, 6)
    exact, drawn = straight.forecast(ahead), straight.forecast(ahead, draws=3000, seed=5)
    assert drawn.method == "sampled, 3000 draws"
    for end in ("low", "high", "noise_low", "noise_high"):
        width = exact.noise_high - exact.noise_low if end.startswith("noise") else exact.high - exact.low
        assert np.abs(getattr(exact, end) - getattr(drawn, end)).max() < 0.06 * width.max()
    one, again = (straight.forecast(ahead, draws=200, seed=5) for _ in range(2))
    assert np.array_equal(again.low, one.low)
    with pytest.raises(InputError, match="10 draws were asked for: expected 100 or more"):
        straight.forecast(ahead, draws=10)


def test_sampled_bands_of_growth_are_those_of_the_formula(grown: Fit) -> None:
    """Quantiles of gain exp(k t) over the draws, which are lopsided far out; the draws are the same, in one batch."""
    ahead = np.array([0.5, 2.0, 8.0])
    assert grown.covariance is not None
    moved = np.random.default_rng(0).multivariate_normal(grown.x, grown.covariance, 400)
    seen = np.stack([one.mean for one in simulate(grown.vector, moved, ahead, grown.integrator)])
    k, gain = np.exp(moved).T
    np.testing.assert_allclose(seen[:, :, 0], gain[:, None] * np.exp(k[:, None] * ahead), rtol=1e-7)
    grown.vector.put(grown.x)
    forecast = grown.forecast(ahead, draws=1500)
    above, below = forecast.high - forecast.mean, forecast.mean - forecast.low
    assert above[2, 0] > 1.3 * below[2, 0]
    assert above[0, 0] == pytest.approx(below[0, 0], rel=0.15)


def test_horizon_is_where_uncertainty_reaches_half_of_the_spread(grown: Fit) -> None:
    forecast = grown.forecast(12.0, points=601)
    sd = (forecast.high - forecast.mean)[:, 0] / stats.t.ppf(0.975, 13)
    spread = float(grown.experiment.train.observations.std(correction=0))
    crossing = forecast.times[np.flatnonzero(sd >= 0.5 * spread)[0]]
    assert forecast.horizon is not None
    assert forecast.horizon.time == pytest.approx(crossing)
    assert "Predictable until" in str(forecast)
    early = grown.forecast(0.5 * crossing)
    assert early.horizon is not None
    assert early.horizon.time is None
    assert "to its end" in str(early)


def test_growth_of_the_uncertainty_is_the_exponent_of_the_system() -> None:
    class Wild(Growth):
        gain = 1.0  # type: ignore[assignment]

        def observe(self, y: Tensor) -> Tensor:
            return y

    times = torch.linspace(0.0, 1.0, 30, dtype=torch.float64)
    noise = 1e-4 * torch.tensor(np.random.default_rng(0).standard_normal((30, 1)))
    known = Trajectory(times, 1e-3 * torch.exp(2.0 * times)[:, None] + noise)
    initial = {"initial_free": [True], "initial_scale": [1e-3]}
    found = fit(Wild(k=1.7), Experiment("wild", known, torch.tensor([1e-3]), **initial))  # type: ignore[arg-type]
    forecast = found.forecast(np.linspace(0.0, 1.2, 121))
    assert forecast.horizon is not None
    assert forecast.horizon.rate is not None
    assert forecast.horizon.rate == pytest.approx(2.0, rel=0.8)  # exp(2 t), times the powers of t before it
    assert "grows 2.72-fold in" in forecast.horizon.sentence


def test_coverage_on_held_out_data_over_draws() -> None:
    inside, total = 0.0, 0
    for seed in range(6):
        found = fit(Drift(), line(seed, held=60))
        forecast = found.forecast(4.0)
        assert forecast.coverage is not None
        assert forecast.coverage.count == 60
        assert forecast.coverage.noise is not None
        assert forecast.coverage.parameters is not None
        assert forecast.coverage.parameters <= forecast.coverage.noise
        inside, total = inside + 60 * forecast.coverage.noise, total + 60
        assert f"{100 * forecast.coverage.noise:.1f} % in the band of parameters and noise" in str(forecast)
    assert 0.9 < inside / total < 0.99
    near = found.forecast([1.0, 3.0])
    assert near.coverage is not None
    assert near.coverage.count == 28  # those up to the last time asked for
    assert near.times.tolist() == [1.0, 3.0]


def test_as_table_and_as_data(straight: Fit, tmp_path: Path) -> None:
    forecast = straight.forecast(3.0, points=7)
    forecast.csv(tmp_path / "a.csv")
    frame = pd.read_csv(tmp_path / "a.csv")
    assert list(frame) == ["time", "z", "z_low", "z_high", "z_noise_low", "z_noise_high"]
    np.testing.assert_array_equal(frame.to_numpy(), forecast.rows())
    data = json.loads(json.dumps(forecast.json(), allow_nan=False))
    assert data["channels"]["z"]["noise_high"] == forecast.noise_high[:, 0].tolist()
    assert data["horizon"]["time"] is None
    assert data["coverage"] is None


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "exponential", "--noise", "0.05", "--points", "30", "--out", "run", "--quiet"]) == 0
    capsys.readouterr()
    files = [part for name in ("a.csv", "a.json", "a.png", "a.svg") for part in ("--out", name)]
    assert main(["forecast", "run", "--draws", "100", "--points", "9", *files]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "held-out observations" in out
    assert "Predictable" in out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["method"] == "sampled, 100 draws"
    assert main(["forecast", "run", "--points", "9"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 10
    assert "Predictable" in err
    assert main(["forecast", "run", "--draws", "5"]) == 2


class Driven(Model):
    """z' = gain u(t) - z."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    input_names: ClassVar[tuple[str, ...]] = ("u",)
    gain = Unknown(1.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (u,) = self.inputs(t)
        return (self.gain * u)[..., None] - y


def test_draws_of_a_driven_system_step_onto_its_switches() -> None:
    times = np.linspace(0.0, 3.0, 25)
    drive = Inputs.through([0.0, 1.0, 2.0], [1.0, 0.0, 2.0], ["u"], "hold")
    seen = np.piecewise(
        times,
        [times < 1, (times >= 1) & (times < 2), times >= 2],
        [
            lambda t: 1 - np.exp(-t),
            lambda t: (1 - np.exp(-1)) * np.exp(1 - t),
            lambda t: 2 + ((1 - np.exp(-1)) * np.exp(-1) - 2) * np.exp(2 - t),
        ],
    )
    values = seen + 0.01 * np.random.default_rng(0).standard_normal(25)
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    found = fit(Driven(), Experiment("driven", known, torch.zeros(1), inputs=drive))
    xs = np.log([[0.5], [1.0], [2.0]])
    drawn = np.stack([one.mean for one in simulate(found.vector, xs, times, found.integrator)])
    np.testing.assert_allclose(drawn[:, :, 0], np.outer([0.5, 1.0, 2.0], seen), atol=1e-8)
    assert np.isfinite(found.forecast(3.0, draws=100).high).all()
