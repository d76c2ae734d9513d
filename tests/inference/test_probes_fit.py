"""Least squares with their columns in the error norm, and what is said of derivatives that are wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from physid import Experiment, Fit, Model, Trajectory, Unknown, between, fit, positive
from physid.cli.app import main
from physid.datasets import load
from physid.errors import InputError
from physid.inference import default_integrator
from physid.inference.assemble import assemble, suited
from physid.inference.fit_options import FitOptions
from physid.inference.options import resolve
from physid.inference.parameters import ParameterVector
from physid.inference.probing import held, sizes_of
from physid.inference.problem import Problem
from physid.inference.search.first_order import DescentLoss
from physid.inference.search.monitor import Monitor
from physid.machine import compiler_command
from physid.modelling.prior import Normal
from physid.models import build
from physid.ode import Fixed, Integrator, Probes
from physid.runs.codec import integrator_data, integrator_of
from physid.runs.origin import options_of

needs_compiler = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")


def probes_of(options: FitOptions) -> Any:
    """How many probes the integrator of some options has."""
    assert options.integrator is not None
    return options.integrator.probes


class Shaken(Model):
    """An oscillator that rests, and is shaken as strongly as `a` says: x'' = a cos 3 t - 25 x."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    a = Unknown(0.0, unit="m")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, self.a * torch.cos(3 * t) - 25 * x], -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


class Sizes(Shaken):
    """One unknown of every kind: y' = sum of all of them, but for the shaking."""

    a = Unknown(0.0)
    b = Unknown(2.0, positive)
    c = Unknown(5.0, between(0.0, 10.0))
    d = Unknown(-3.0)
    e = Unknown([0.0, 4.0])
    f = Unknown(7.0, prior=Normal(7.0, 0.2))

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        rest = self.b * self.c * self.d * self.e.sum() * self.f
        return torch.stack([v, 1e6 * self.a * torch.cos(3 * t) - 25 * x + rest], -1)


def quiet() -> Experiment:
    """Nothing was seen to move, at two times so far apart that no output lies between."""
    data = Trajectory(torch.tensor([8.0, 10.0], dtype=torch.float64), torch.tensor([[1e-9], [-1e-9]]).double())
    return Experiment("quiet", data, torch.zeros(2), sigma=1e-3, initial_time=0.0)


def settled(probes: int) -> Fit:
    integrator = replace(default_integrator("lm"), rtol=1e-7, atol=1e-7, probes=probes)
    return fit(Shaken(), quiet(), integrator=integrator, strategy="full")


@needs_compiler
def test_the_standard_error_of_what_rests_is_right_and_without_probes_it_is_named() -> None:
    t = np.array([8.0, 10.0])
    exact = 1e-3 / np.linalg.norm((np.cos(3 * t) - np.cos(5 * t)) / 16)
    good, bad = settled(1), settled(0)
    assert good.estimates[0].stderr == pytest.approx(exact, rel=1e-4)
    assert good.gradient_error is not None
    assert good.gradient_error < 1e-4
    assert "derivatives" not in good.message
    assert "exact to" in str(good.report())
    assert bad.gradient_error is not None
    assert bad.gradient_error > 1
    assert "wrong by" in bad.message
    assert "probes=1" in bad.message


def test_sizes_come_from_domain_prior_guess_and_rates() -> None:
    vector = ParameterVector(
        Sizes(), replace(quiet(), initial=torch.zeros(2), initial_scale=torch.tensor([1.0, 2.0]).double())
    )
    a, b, c, d, *e, f = sizes_of(vector, np.zeros(2))
    assert [b, c, d, *e, f] == [1.0, 1.0, 3.0, pytest.approx(np.sqrt(8)), 4.0, 0.2]
    assert a == pytest.approx(2.0 / (1e6 * 10), rel=0.3)  # moves v by its size, 2, within the 10 of the record
    assert sizes_of(vector, np.full(2, 200.0))[0] == pytest.approx(100 * a)
    initial = torch.tensor([False, True])
    vector = ParameterVector(
        Sizes(), replace(quiet(), initial_free=initial, initial_scale=torch.tensor([1.0, 2.0]).double())
    )
    probes = held(Integrator(probes=1), [vector]).probes
    assert isinstance(probes, Probes)
    assert probes.initial == (0.0, 2.0)
    assert held(Integrator(), [vector]).probes == 0


@needs_compiler
def test_a_fit_has_them_by_default_where_they_pay() -> None:
    experiment = load("pendulum", noise=0.05)
    model = build(experiment)
    assert probes_of(suited(FitOptions(), model, experiment)) == 1
    assert suited(FitOptions(optimizer="adam"), model, experiment).integrator is None
    assert suited(FitOptions(protocol="paper-text"), model, experiment).integrator is None
    mine = Integrator(gradient="forward")
    assert suited(FitOptions(integrator=mine), model, experiment).integrator is mine
    for changes in ({"solver": "rk4"}, {"engine": "eager"}):
        assert probes_of(suited(FitOptions(), model, replace(experiment, integrator=changes))) == 0
    weights = build(load("exponential"), knowledge="none")
    assert probes_of(suited(FitOptions(), weights, load("exponential"))) == 0


@needs_compiler
def test_values_and_derivatives_have_one_grid_for_one_point_or_many() -> None:
    experiment = load("lotka-volterra", noise=0.5, points=20)
    vector = ParameterVector(build(experiment), experiment)
    problem = Problem(vector, replace(default_integrator("lm"), rtol=1e-5, atol=1e-5))
    x = vector.get()
    alone, many = problem.at(x), problem.many([x, x + 0.01, x - 0.02])
    assert alone is not None
    assert many[0] is not None
    np.testing.assert_allclose(alone.residual, many[0].residual, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(alone.jacobian, many[0].jacobian, rtol=1e-5, atol=1e-8)


def test_a_run_keeps_them_and_one_from_before_has_none() -> None:
    integrator = Integrator(probes=Probes(2, sizes=(1.0,), initial=(0.0, 3.0), seed=4))
    assert integrator_of(json.loads(json.dumps(integrator_data(integrator)))) == integrator
    asked: dict[str, Any] = {"optimizer": None, "protocol": None, "integrator": None}
    assert probes_of(options_of(asked)) == 0
    assert options_of({**asked, "optimizer": "adam"}).integrator is None
    older = {key: value for key, value in integrator_data(Integrator()).items() if key != "probes"}
    assert integrator_of(older).probes == 0


@needs_compiler
def test_what_is_said_of_probes_counts_more_than_the_default() -> None:
    experiment = load("pendulum", points=24, noise=0.05)
    default, none = fit(build(experiment), experiment), fit(build(experiment), experiment, probes=0)
    assert [(one.integrator.probes, one.settings["probes"]) for one in (default, none)] == [(1, 1), (0, 0)]
    assert none.estimates[0].value == pytest.approx(default.estimates[0].value, rel=1e-6)
    mine = Integrator("dopri5", 1e-5)
    assert resolve(FitOptions(integrator=mine, probes=3)).integrator.probes == 3
    assert resolve(FitOptions(optimizer="lbfgs", probes=2)).integrator.probes == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": -1}, "from 0 to 64"),
        ({"probes": 65}, "from 0 to 64"),
        ({"probes": True}, "from 0 to 64"),
        ({"probes": 1.5}, "from 0 to 64"),
        ({"probes": 1, "integrator": Integrator("rk4", control=Fixed(0.1))}, "fixed length .solver rk4."),
        ({"probes": 1, "optimizer": "adam", "gradient": "adjoint"}, "expected gradient 'aca' or 'forward'"),
    ],
)
def test_probes_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    experiment = load("exponential")
    with pytest.raises(InputError, match=words):
        fit(build(experiment), experiment, **options)
    assert resolve(FitOptions(**{**options, "probes": 0})).integrator.probes == 0


@needs_compiler
def test_the_gradient_of_a_descent_is_right_with_probes() -> None:
    data, t = quiet().train.observations[:, 0].numpy(), np.array([8.0, 10.0])
    exact = -2 * np.mean(data * (np.cos(3 * t) - np.cos(5 * t)) / 16)
    for probes, good in ((0, False), (1, True)):
        tight = Integrator("dopri5", 1e-6, atol=1e-6)
        plan = resolve(FitOptions(optimizer="adam", integrator=tight, probes=probes))
        problem = assemble(Shaken(), [quiet()], plan)
        found = DescentLoss(problem, plan, Monitor()).at(problem.vector.get(), "adam")
        assert found is not None
        assert bool(abs(found[1][0] / exact - 1) < 1e-3) is good


@needs_compiler
def test_a_run_is_gone_on_with_the_probes_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(row: Any) -> None:
        if row["evaluation"] == 3:
            raise KeyboardInterrupt

    experiment = load("pendulum", points=24, noise=0.05)
    assert fit(build(experiment), experiment, probes=0, out=tmp_path / "cut", progress=stop).status == "interrupted"
    again = Fit.resume(tmp_path / "cut")
    assert (again.status, again.integrator.probes, again.settings["probes"]) == ("converged", 0, 0)

    monkeypatch.chdir(tmp_path)
    Path("fit.yaml").write_text("probes: 0\n")
    words = ["fit", "pendulum", "--points", "24", "--noise", "0.05", "--settings", "fit.yaml", "--quiet"]
    assert main([*words, "--out", "file"]) == 0
    assert main([*words, "--probes", "2", "--out", "typed"]) == 0
    kept = [Fit.load(name).settings["probes"] for name in ("file", "typed")]
    assert kept == [0, 2]
    capsys.readouterr()
    for more, left in (("", 1), ("--rtol 1e-8", 1), ("--engine eager", 0), ("--engine eager --probes 1", 1)):
        assert main(["fit", "pendulum", "--dry-run", "--json", *more.split()]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["probes"] == left
    assert main(["fit", "pendulum", "--probes", "65"]) == 2
    assert "--probes: expected a whole number from 0 to 64, got" in capsys.readouterr().err
    Path("fit.yaml").write_text("probes: 65\n")
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@needs_compiler
def test_a_run_that_goes_on_is_the_run_that_was_not_cut(tmp_path: Path) -> None:
    experiment = load("pendulum", points=24, noise=0.05)
    whole = fit(build(experiment), experiment, out=tmp_path / "run")
    again = Fit.load(tmp_path / "run")
    assert again.integrator.probes == 1
    assert again.gradient_error == whole.gradient_error
    assert whole.settings["probes"] == 1
