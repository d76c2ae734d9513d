"""The contract of Predictor, for every kind: fits of one and of several experiments, driven, of seeds; networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oscillators import write_table
from torch import Tensor

from physid import Experiment, Inputs, Model, Trajectory, Unknown, fit, positive
from physid.api.networks import FreeRun
from physid.datasets import collect, load
from physid.errors import InputError
from physid.models import NETWORKS, build, network
from physid.plots import png, sheet_figure
from physid.predict.predictor import Predictor
from physid.predict.series_forecast import SeriesRun
from physid.predict.sheet import sheet
from physid.training import Recipe, TrainingResult

K, START, FORCE = 1.3, 2.0, 0.5
RECIPE = Recipe(epochs=1, batch=1, lr=0.1)
SMALL: dict[str, dict[str, Any]] = {
    "lstm": {"hidden": 3, "seeds": 3},
    "lstm-aug": {"hidden": 3, "seeds": 1},
    "latent-ode": {"latent": 2, "recognition": 3, "width": 4, "depth": 0, "units": 3},
    "rnn": {"hidden": 3, "width": 4},
    "gru": {"hidden": 3, "width": 4},
}


class Tank(Model):
    """dx/dt = -k x + u."""

    k = Unknown(1.0, positive)
    state_names = ("x",)
    input_names = ("u",)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """The equation."""
        (u,) = self.inputs(t)
        return -self.k * y + u[..., None]


def level(t: np.ndarray[Any, Any], u: float) -> np.ndarray[Any, Any]:
    """The level of the tank at the times t under the constant input u."""
    return u / K + (START - u / K) * np.exp(-K * t)


def filled(name: str, u: float) -> Experiment:
    """An experiment with a tank, of which the second half is kept for the test."""
    t = np.linspace(0.0, 2.0, 41)
    x = level(t, u)[:, None] + 1e-3 * np.random.default_rng(1).standard_normal((41, 1))
    parts = [Trajectory(torch.from_numpy(t[rows]), torch.from_numpy(x[rows])) for rows in (slice(21), slice(21, 41))]
    inputs = Inputs.through([0.0], [[u]], ("u",))
    return Experiment(name, parts[0], torch.tensor([START]), parts[1], channels=("x",), inputs=inputs)


@cache
def of_fit(kind: str) -> Any:
    if kind == "driven":
        return fit(Tank(), filled("tank", FORCE))
    if kind == "several":
        return fit(Tank(), [filled("low", FORCE), filled("high", 1.0)])
    if kind == "seeds":
        data = load("exponential", noise=0.01, points=12)
        return fit(build(data, model="blackbox"), data, seeds=3, epochs=3, optimizer="adam")
    data = load("exponential", noise=0.01)
    return fit(build(data, knowledge="full"), data)


def of_network(name: str, folder: Path) -> Predictor:
    torch.manual_seed(0)
    if NETWORKS[name].collect is not None:
        data: Any = NETWORKS[name].collect(load("threebody", points=30))  # type: ignore[misc]
    else:
        data = collect("series", table=str(write_table(folder / "swings.csv")), group="series", observed=0.5)
    trained = TrainingResult(network(name, data, **SMALL[name]), data, RECIPE, [], "finished", "", 0.0)
    found = FreeRun.of_training(trained) or SeriesRun.of_training(trained)
    assert found is not None
    return found


FITS = ("plain", "driven", "several", "seeds")


@pytest.fixture(params=[*FITS, *SMALL])
def predictor(request: pytest.FixtureRequest, tmp_path: Path) -> Predictor:
    found: Predictor = of_fit(request.param) if request.param in FITS else of_network(request.param, tmp_path)
    return found


def refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


def test_the_contract(predictor: Predictor) -> None:
    data = predictor.experiment
    times = predictor.times()
    assert times[0] == data.initial_time
    assert times[-1] == float((data.test or data.train).times[-1])
    even = predictor.times(until=0.5 * (times[0] + times[-1]), points=9)
    np.testing.assert_allclose(even, np.linspace(times[0], 0.5 * (times[0] + times[-1]), 9))

    found = predictor.predict(even, seed=3)
    assert (found.channels, found.experiment) == (data.channels, data)
    np.testing.assert_array_equal(found.times, even)
    for values in (found.mean, found.low, found.high, found.noise_low, found.noise_high):
        assert values.shape == (9, len(data.channels))
    assert np.isfinite(found.mean).all()
    known = np.isfinite(found.low)
    assert np.isfinite(found.high[known]).all()
    assert (found.low[known] <= found.high[known]).all()
    assert known.all() or "no band" in found.method
    np.testing.assert_array_equal(predictor.predict(even, seed=3).mean, found.mean)
    if not predictor.several:  # draws of a network of series go on from the first time that is asked for
        some = predictor.predict(even[::2])
        np.testing.assert_allclose(some.mean, found.mean[::2], rtol=1e-4, atol=1e-4)

    paths = predictor.paths(even, 4)
    assert paths.shape[1:] == found.mean.shape
    assert np.isfinite(paths).all()

    refused(lambda: predictor.predict(even[::-1]), "do not increase from the initial time")
    refused(lambda: predictor.predict(np.array([even[0] - 1.0, even[1]])), "do not increase from the initial time")
    refused(lambda: predictor.times(until=float(times[0])), "Give a later time")
    refused(lambda: predictor.predict(even, Inputs.through([0.0], [[1.0]], ("w",))), "Leave|leave|unknown input|seeds")
    refused(lambda: predictor.of("elsewhere"), "experiment|numbers")
    assert predictor.of(data.name).experiment.name == data.name


def test_the_contract_of_a_sheet(predictor: Predictor) -> None:
    made = sheet(predictor, points=6)
    frame = made.frame()
    rows = sum(one.mean.size for one in made.forecasts) if made.long else 6
    assert len(frame) == rows
    assert len(made.forecasts) == max(1, predictor.several)
    said = made.json()
    assert len(said["mean"] if made.long else said["times"]) == rows
    assert str(made)
    assert png(sheet_figure(made)).startswith(b"\x89PNG")


def test_every_network_that_forecasts_is_held_to_the_contract(tmp_path: Path) -> None:
    images = collect("images-toy", images=4, test_images=4)
    for name, entry in NETWORKS.each():
        if name in SMALL:
            continue
        assert "images-toy" in entry.collections, f"{name}: hold it to the contract"
        trained = TrainingResult(network(name, images, width=1), images, RECIPE, [], "finished", "", 0.0)
        assert FreeRun.of_training(trained) is None
        assert SeriesRun.of_training(trained) is None


@pytest.mark.parametrize("kind", ["driven", "several"])
def test_other_inputs_drive_a_fit(kind: str) -> None:
    found = of_fit(kind)
    times = np.linspace(0.0, 3.0, 13)
    other = found.predict(times, Inputs.through([0.0], [[-1.0]], ("u",)))
    np.testing.assert_allclose(other.mean[:, 0], level(times, -1.0), atol=3e-3)
    assert (np.abs(other.mean[:, 0] - level(times, -1.0)) <= 3 * (other.high - other.mean)[:, 0] + 1e-9).all()
    assert (other.experiment, other.coverage) == (None, None)  # what was measured was measured under others
    same = found.predict(times)
    np.testing.assert_allclose(same.mean[:, 0], level(times, FORCE), atol=3e-3)  # as before
    refused(lambda: found.predict(times, Inputs.through([0, 1], [[1.0], [1.0]], ("u",), "linear")), "are known from 0")


def test_inputs_may_end_before_the_data_do() -> None:
    times = np.linspace(0.0, 0.5, 5)
    ramp = Inputs.through([0.0, 0.5], [[1.0], [1.0]], ("u",), "linear")
    np.testing.assert_allclose(of_fit("driven").predict(times, ramp).mean[:, 0], level(times, 1.0), atol=3e-3)
