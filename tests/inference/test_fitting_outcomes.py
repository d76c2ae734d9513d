"""What a fit says of itself: bounds, hidden directions, failures, protocols, refusals, coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fits import TIGHT, Fragile, Product, decay
from torch import Tensor
from variants import some

from physid import Experiment, Trajectory, Unknown, between, fit, positive
from physid.datasets import load
from physid.errors import InputError
from physid.inference.fit_options import FitOptions
from physid.inference.options import adapted, default_integrator, resolve
from physid.inference.parameters import ParameterVector, VectorEntry
from physid.inference.problem import Problem
from physid.inference.search.levenberg_marquardt import StoppingRule, minimised
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import PointObjective
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.identifiability import value_of
from physid.models import Exponential, Pendulum, build
from physid.report.tables import estimate_cells


def test_intervals_stay_in_the_domain() -> None:
    times = torch.linspace(0.0, 3.0, 12, dtype=torch.float64)
    noise = 0.3 * torch.tensor(np.random.default_rng(2).standard_normal(12))

    class Slow(Exponential):
        k = Unknown(0.3, between(0.0, 1.0))

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.k * y

    values = torch.exp(-0.1 * times) + noise
    (one,) = fit(Slow(), Experiment("slow", Trajectory(times, values[:, None]), torch.ones(1))).estimates
    assert one.low is not None
    assert one.high is not None
    assert 0.0 < one.low < one.value < one.high < 1.0
    assert one.high - one.value > 1.2 * (one.value - one.low)


def test_tolerances_that_are_none_are_one_line() -> None:
    for name, value, shown in (("rtol", 10**400, "more than 1e308"), ("atol", float("nan"), "nan"), ("rtol", -1, "-1")):
        with pytest.raises(InputError, match=rf"{name}={shown}: a tolerance must be a finite number"):
            fit(Exponential(), decay(0.01, 3), integrator=adapted(default_integrator(), {name: value}))


def test_an_unknown_that_reaches_zero_leaves_the_report_in_one_piece() -> None:
    """The logarithm of zero is in no product, and no digits are counted of what is infinite."""
    entries = [VectorEntry(name, positive, "", name) for name in ("a", "b")]
    assert value_of(np.array([1.0, -1.0]), np.array([2.0, 0.0]), entries) == (np.inf, True)
    row = Estimate("a / b", float("inf"), 1.0, None, None, "", 1.0, None, None, of="combination", plain=1.0)
    assert estimate_cells([row], 7, "")[1][1] == "inf"


def test_at_the_bound_of_its_domain() -> None:
    class Bounded(Exponential):
        k = Unknown(-0.2, between(-0.4, 0.0))

    found = fit(Bounded(), decay(0.0, 0, rate=-0.9))
    assert found.estimates[0].at_bound
    assert "At a bound of its domain: k." in str(found.report())


def test_what_cannot_be_told_apart_is_named() -> None:
    found = fit(Product(), decay(0.01, 3))
    assert found.statistics is not None
    (direction,) = found.statistics.null_directions
    assert direction in ("+1 log(a) -1 log(b)", "-1 log(a) +1 log(b)", "1 log(a) -1 log(b)")
    a, b = found.estimates
    assert a.value * b.value == pytest.approx(0.5, abs=0.02)
    assert (a.stderr, a.low, b.stderr, b.high) == (None, None, None, None)
    forecast = found.forecast(6.0)
    assert np.isfinite(forecast.low).all()
    assert "Not identifiable: the data do not determine" in str(found.report())


def test_failing_solve_is_a_rejected_step() -> None:
    experiment = decay(0.0, 0, rate=-1.1, points=8)
    found = fit(Fragile(k=-3.0), experiment, strategy="full")
    assert found.status == "converged"
    assert found.estimates[0].value == pytest.approx(-1.1, rel=1e-7)
    failed = [row for row in found.history if not np.isfinite(row["cost"])]
    adam = fit(Fragile(k=-0.05), experiment, optimizer="adam", epochs=30)
    failed += [row for row in adam.history if not np.isfinite(row["cost"])]
    assert failed
    assert adam.estimates[0].value == pytest.approx(-1.1, abs=0.1)


@pytest.mark.parametrize("optimizer", some(["lm", "adam", "lbfgs"], "lm", "adam"))
def test_start_that_cannot_be_solved(optimizer: str) -> None:
    found = fit(Fragile(k=2.0), decay(0.0, 0), optimizer=optimizer)
    assert (found.status, found.exit_code) == ("diverged", 4)
    assert "not-a-number" in found.message
    assert found.statistics is None
    assert found.scores["train"] is None
    assert "No standard errors" in str(found.report())


@pytest.mark.parametrize(
    ("gradient", "points"),  # the adjoint restarts at every point
    some([("aca", 20), ("naive", 8), ("forward", 20), ("adjoint", 3), ("adjoint", 20)], ("aca", 20), ("adjoint", 3)),
)
def test_descents_reach_the_optimum_of_least_squares(gradient: str, points: int) -> None:
    experiment = decay(0.05, 4, points=points)
    best = fit(Exponential(), experiment).estimates[0].value
    found = fit(Exponential(), experiment, optimizer="lbfgs", gradient=gradient)
    assert found.estimates[0].value == pytest.approx(best, rel=1e-5)
    assert found.status == "converged"
    assert found.settings["gradient"] == gradient
    adam = fit(Exponential(), experiment, optimizer="adam", gradient=gradient, epochs=80 if gradient == "aca" else 4)
    assert adam.estimates[0].value == pytest.approx(best, rel=0.02 if gradient == "aca" else 0.5)
    assert adam.history[-1]["cost"] < adam.history[0]["cost"]


@pytest.mark.parametrize("protocol", ["paper-text", "paper-code"])
def test_protocols_of_the_paper(protocol: str) -> None:
    experiment = load("threebody", protocol=protocol, points=50)
    found = fit(build(experiment), experiment, protocol=protocol, epochs=3)
    assert (found.status, found.exit_code) == ("converged", 0)
    assert len(found.history) == 3
    assert found.settings["rtol"] == {"paper-text": 1e-5, "paper-code": 1e-7}[protocol]
    assert found.settings["betas"] == {"paper-text": (0.9, 0.999), "paper-code": (0.5, 0.5)}[protocol]
    assert all(abs(one.start - 1.0) <= 0.1 for one in found.estimates)
    assert found.paper is not None
    assert found.paper["published_mse"] == 0.0007
    assert found.paper["recovered"] is False
    assert found.paper["test"]["sum"] == pytest.approx(9 * found.paper["test"]["mean"])
    steps = [abs(one.value - one.start) for one in found.estimates]
    assert 0.09 < max(steps) < 0.31  # the first steps of Adam have the length lr in natural masses
    text = str(found.report())
    assert "recovered: false" in text
    assert "0.0007 +- 0.0005" in text


def test_protocol_draws_its_start_where_the_data_set_has_not() -> None:
    experiment = decay(0.0, 0)
    found = [fit(Exponential(k=-0.4), experiment, protocol="paper-code", epochs=1, seed=s) for s in (3, 3, 4)]
    starts = [one.estimates[0].start for one in found]
    assert starts[0] == starts[1] != starts[2]
    assert all(0.36 <= -start <= 0.44 for start in starts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "ml"}, "unknown optimizer 'ml'. Did you mean 'lm'"),
        ({"strategy": "segment"}, "Did you mean 'segments'"),
        ({"protocol": "paper"}, "unknown protocol 'paper'"),
        ({"gradient": "acca"}, "Did you mean 'aca'"),
        ({"gradient": "aca"}, "optimizer lm was given gradient aca"),
        ({"epochs": 5}, "epochs=5 was given with optimizer lm"),
        ({"optimizer": "adam", "strategy": "full"}, "strategy=full was given with optimizer adam, but belongs to lm"),
        ({"optimizer": "lm", "protocol": "paper-text"}, "protocol paper-text is that of adam"),
        ({"optimizer": "lbfgs", "lr": 0.1}, "lr=0.1 was given with optimizer lbfgs, but belongs to adam"),
        ({"optimizer": "adam", "lr": -0.1}, "lr: expected a positive number, got -0.1"),
        ({"time_limit": 0.0}, "time_limit: expected a positive number, got 0.0"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        fit(Exponential(), decay(0.0, 0), **options)
    assert words in str(caught.value)


def test_what_cannot_be_fitted() -> None:
    model = Exponential()
    model.fix("k")
    with pytest.raises(InputError, match="nothing is to be identified"):
        fit(model, decay(0.0, 0))
    with pytest.raises(InputError, match="states of shape"):
        fit(Pendulum(), decay(0.0, 0))
    two = Experiment("two", Trajectory(torch.arange(5.0), torch.ones(5, 2)), torch.ones(1))
    with pytest.raises(InputError, match="Give observe that shape"):
        fit(Exponential(), two)
    few = Experiment("few", Trajectory(torch.arange(4.0), torch.ones(4, 1)), torch.ones(1))
    with pytest.raises(InputError, match="needs 8 observation times"):
        fit(Exponential(), few, strategy="segments")


def test_fixed_unknowns_stay() -> None:
    experiment = load("pendulum")
    model = Pendulum(friction=0.1)
    model.fix("friction")
    found = fit(model, experiment)
    assert [one.name for one in found.estimates] == ["length"]
    assert float(model.friction) == pytest.approx(0.1, rel=1e-15)


def test_interrupted_and_out_of_time() -> None:
    experiment = load("lotka-volterra")

    def impatient(row: Any) -> None:
        if row["evaluation"] == 6:
            raise KeyboardInterrupt

    found = fit(build(experiment), experiment, progress=impatient)
    assert (found.status, found.exit_code) == ("interrupted", 130)
    assert len(found.history) == 6
    assert np.isfinite(found.x).all()
    assert found.scores["train"] is not None
    late = fit(build(experiment), experiment, time_limit=1e-3)
    assert (late.status, late.exit_code) == ("time limit", 124)
    assert [one.value for one in late.estimates] == pytest.approx([one.start for one in late.estimates])


def test_no_observations_to_spare() -> None:
    experiment = Experiment(
        "one", Trajectory(torch.tensor([1.0]), torch.tensor([[0.5]])), torch.ones(1), initial_time=0
    )
    found = fit(Exponential(), experiment)
    assert found.estimates[0].value == pytest.approx(np.log(0.5))
    assert found.estimates[0].stderr is None
    assert "no more observations than unknowns" in str(found.report())


@pytest.mark.parametrize(("draws", "held", "fine"), some([(8, 6, 7), (40, 34, 39)], (8, 6, 7)))
def test_coverage_and_verdicts_over_draws(draws: int, held: int, fine: int) -> None:
    inside, adequate = 0, 0
    for seed in range(draws):
        found = fit(Exponential(), decay(0.05, seed, points=25))
        (one,) = found.estimates
        assert one.low is not None
        assert one.high is not None
        inside += one.low <= -0.5 <= one.high
        adequate += found.statistics is not None and found.statistics.verdict == "adequate"
    assert inside >= held
    assert adequate >= fine


@pytest.mark.parametrize("sigma", [None, 0.05])
def test_missing_physics_is_noticed(sigma: float | None) -> None:
    times = np.linspace(0.0, 12.0, 120)
    values = np.exp(-0.5 * times) + 0.2 * np.sin(times) + 0.05 * np.random.default_rng(0).standard_normal(120)
    known = Trajectory(torch.tensor(times), torch.tensor(values[:, None]))
    found = fit(Exponential(), Experiment("driven", known, torch.ones(1), sigma=sigma))
    assert found.statistics is not None
    assert found.status == "converged"
    if sigma is None:
        assert (found.verdict, found.exit_code) == ("inadequate", 0)
        assert "Something is missing" in str(found.report())
    else:
        assert (found.verdict, found.exit_code) == ("does not fit", 3)
        assert found.statistics.others[0][0] == "inadequate"
        assert "exceed the known noise: chi-squared" in str(found.report())
    assert found.statistics.chosen == "robust"
    (one,) = found.estimates
    assert one.stderr is not None
    assert one.stderr == one.robust != one.plain
    assert one.high is not None
    assert one.low is not None
    assert one.high - one.low >= 3.9 * one.stderr


def test_plan_is_what_runs() -> None:
    plan = resolve(FitOptions())
    found = fit(Exponential(), decay(0.01, 0))
    chosen = {**plan.settings(), "atol": found.settings["atol"], "max_steps": found.integrator.max_steps}
    assert {name: found.settings[name] for name in plan.settings()} == chosen  # by the states, and by the record


def test_least_squares_from_the_optimum_stays() -> None:
    vector = ParameterVector(Exponential(k=-0.5), decay(0.0, 0))
    problem = Problem(vector, TIGHT)
    start = problem.at(vector.get())
    assert start is not None
    plan = resolve(FitOptions(strategy="full"))
    assert plan.integrator.gradient == "forward"
    found = minimised(PointObjective(problem, Monitor(), "full"), start, StoppingRule(floor=problem.floor))
    assert found.status == "converged"
    assert found.x == pytest.approx(start.x, rel=1e-9)
