"""The ladder of knowledge: one contract for every rung below full, then what the black box and its seeds say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from variants import some

from physid import Experiment, Fit, Unknown, fit
from physid.datasets import load
from physid.errors import InputError
from physid.inference.problem import Point
from physid.inference.search.optimality import compressed, removable
from physid.modelling.model import Model
from physid.modelling.prior import Ridge
from physid.models import LADDER, BlackBoxMotion, build
from physid.ode import Integrator

RUNGS = sorted((name, level) for name, level in LADDER if level != "full")
OTHERS = ["augmented-sparse", "gravity-residual"]


def small() -> Experiment:
    return load("threebody", points=40, horizon=0.3)


@pytest.fixture(scope="module")
def black(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Path]:
    """The black box of three bodies, three seeds of it, and its run directory."""
    experiment, run = small(), tmp_path_factory.mktemp("black") / "run"
    return fit(build(experiment, "none"), experiment, seeds=3, seed=4, out=run), run


def built(rung: str, experiment: Experiment) -> Model:
    known = rung in ("none", "partial")
    return build(experiment, knowledge=rung if known else None, model=None if known else rung)


def test_the_ladder_has_three_rungs() -> None:
    assert {level for name, level in LADDER if name == "threebody"} == {"full", "partial", "none"}
    assert RUNGS == [
        ("exponential", "none"),
        ("lotka-volterra", "none"),
        ("threebody", "none"),
        ("threebody", "partial"),
        ("vanderpol", "none"),
    ]


@pytest.mark.parametrize(
    "name", ["vanderpol", *(pytest.param(name, marks=pytest.mark.slow) for name in ("exponential", "lotka-volterra"))]
)
def test_a_black_box_forecasts_a_system_whose_states_are_seen(name: str) -> None:
    experiment = load(name)
    found = fit(build(experiment, "none"), experiment, seeds=1)
    part = experiment.forecast
    assert part is not None
    assert found.scores["forecast"] is not None
    assert found.status == "converged"
    assert found.scores["forecast"]["rmse"] < 0.02 * float(part.observations.std())
    assert found.statistics is not None  # with one seed, errors and bands come from the covariance
    assert np.isfinite(found.forecast(float(part.times[-1])).high).all()


@pytest.mark.parametrize("rung", some(["none", "partial", *OTHERS], "none", "partial"))
def test_native_agrees_with_eager(rung: str) -> None:
    experiment = small()
    model = built(rung, experiment)
    times = torch.linspace(0.0, 0.2, 5, dtype=torch.float64)
    native, eager = (
        Integrator("dopri5", 1e-9, 1e-9, engine=engine).solve(model, experiment.initial, times)
        for engine in ("native", "eager")
    )
    assert native.engine == "native"
    torch.testing.assert_close(native.y, eager.y, rtol=1e-9, atol=1e-10)


def test_the_black_box_is_fitted_forecast_saved_and_loaded(black: tuple[Fit, Path]) -> None:
    experiment, (found, run) = small(), black
    assert (found.status, found.settings["strategy"], found.settings["seeds"]) == ("converged", "rates", 3)
    assert len(found.members) == 3
    forecast = found.forecast(0.6, points=7)
    assert "3 seeds, no covariance" in forecast.method
    assert (forecast.high[1:] > forecast.low[1:]).all()
    np.testing.assert_allclose(forecast.mean[0], experiment.initial[0].reshape(-1).numpy(), atol=1e-12)
    text = str(found.report())
    assert "mean over 3 seeds" in text
    assert "weights (linear, out, bias)" in text
    again = Fit.load(run)
    np.testing.assert_array_equal(again.forecast(0.6, points=7).mean, forecast.mean)
    assert again.scores == found.scores
    assert str(again.report()) == text


def test_the_scores_of_seeds_are_those_of_their_mean(black: tuple[Fit, Path]) -> None:
    experiment, (found, _) = small(), black
    assert experiment.test is not None
    mean = found.forecast(experiment.test.times.numpy()).mean.reshape(experiment.test.observations.shape)
    assert found.scores["test"] == experiment.score(torch.from_numpy(mean), experiment.test)


def test_a_seed_alone_has_the_members_of_many(black: tuple[Fit, Path]) -> None:
    experiment = small()
    alone = fit(build(experiment, "none"), experiment, seeds=1, seed=5)
    np.testing.assert_allclose(black[0].members[1], alone.x, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_with_the_seed_at_which_it_stood(tmp_path: Path) -> None:
    experiment, seen = small(), 0
    whole = fit(build(experiment, "none"), experiment, seeds=3)

    def interrupt(event: object) -> None:
        nonlocal seen
        seen += 1
        if seen == len(whole.history) - 1:
            raise KeyboardInterrupt

    cut = fit(build(experiment, "none"), experiment, seeds=3, out=tmp_path / "run", progress=interrupt)
    assert cut.status == "interrupted"
    again = Fit.resume(tmp_path / "run")
    assert again.status == "converged"
    np.testing.assert_allclose(np.stack(again.members), np.stack(whole.members), rtol=1e-6, atol=1e-9)


def test_seeds_that_cannot_be_are_refused() -> None:
    experiment = small()
    with pytest.raises(InputError, match="seeds: expected a whole number from 1 to 1000"):
        fit(build(experiment, "none"), experiment, seeds=0)
    with pytest.raises(InputError, match="one of them can be many"):
        fit(build(experiment, "none"), experiment, seeds=2, starts=2)


def test_what_a_user_asks_for_counts_before_the_recipe() -> None:
    experiment = small()
    found = fit(build(experiment, "none"), experiment, seeds=1, optimizer="adam", epochs=2)
    assert (found.settings["optimizer"], found.settings["seeds"]) == ("adam", 1)
    assert BlackBoxMotion.recipe["strategy"] == "rates"


def test_a_compressed_table_has_the_same_cost_gradient_and_curvature() -> None:
    rng = np.random.default_rng(0)
    jacobian, residual = rng.standard_normal((400, 70)), rng.standard_normal(400)
    jacobian[::3] = 0.0
    point = Point(np.zeros(70), residual, jacobian)
    narrow = compressed(point)
    assert narrow.jacobian.shape == (72, 70)
    assert narrow.cost == pytest.approx(point.cost)
    np.testing.assert_allclose(narrow.jacobian.T @ narrow.jacobian, jacobian.T @ jacobian, atol=1e-10)
    np.testing.assert_allclose(narrow.jacobian.T @ narrow.residual, jacobian.T @ residual, atol=1e-10)
    moved = jacobian.any(1)
    removed = np.linalg.norm(np.linalg.qr(jacobian[moved])[0].T @ residual[moved])
    assert removable(point) == pytest.approx(float(removed))


def test_a_penalty_needs_no_noise_and_draws_to_zero() -> None:
    class Pair(Model):
        state_names = ("z",)
        a = Unknown(0.3, prior=Ridge())
        b = Unknown(0.1, prior=Ridge())

        def field(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return -(self.a + self.b) * y

    found = fit(Pair(), load("exponential", points=30))
    a, b = (one.value for one in found.estimates)
    assert a + b == pytest.approx(0.5, abs=1e-6)
    assert a == pytest.approx(b, abs=1e-4)  # of all that fit as well, the smallest
    for bad in ({"sd": 0.0}, {"noise": -1.0}):
        with pytest.raises(InputError, match="no penalty"):
            Ridge(**bad)  # type: ignore[arg-type]
