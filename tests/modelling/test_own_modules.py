"""Torch modules that a user puts into a model: their weights are unknowns, trained, counted, kept and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damped import ROUGH, SPEEDS, Damped, alike, friction, swing, weights
from torch import Tensor, nn
from variants import some

from physid import Fit, Model, Unknown, fit, positive
from physid.cli.app import main
from physid.errors import InputError
from physid.inference.parameters import ParameterVector
from physid.inference.problem import Problem
from physid.inference.search import full_horizon
from physid.modelling.modules import trained
from physid.runs.origin import beginning


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Path]:
    folder = tmp_path_factory.mktemp("runs") / "osc"
    return fit(Damped(), swing(), integrator=ROUGH, out=folder), folder


def test_an_unknown_friction_is_learned(fitted: tuple[Fit, Path]) -> None:
    found, _ = fitted
    assert found.status == "converged"
    (k,) = found.listed
    assert k.value == pytest.approx(2.5, abs=0.01)
    with torch.no_grad():
        learned = found.model.friction(SPEEDS[:, None])[:, 0]  # type: ignore[operator]
    assert float((learned - friction(SPEEDS)).square().mean().sqrt()) < 0.15 * float(
        friction(SPEEDS).square().mean().sqrt()
    )
    assert found.scores["train"] is not None
    assert found.scores["train"]["rmse"] < 0.006  # the noise is 0.005
    assert len(found.estimates) == 1 + 19
    assert found.likelihood is not None
    assert found.likelihood.parameters == 1 + 19 + 1


@pytest.mark.slow
def test_a_network_beside_a_parameter_is_trained_too() -> None:
    """A Model with one unknown, a network and a parameter of its own: the known part alone leaves an rmse of .25."""

    class Both(Model):
        state_names = ("x", "v")
        k = Unknown(2.0, positive)

        def __init__(self, **values: object) -> None:
            super().__init__(**values)
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
            self.scale = nn.Parameter(torch.tensor(0.1))

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            x, v = y.unbind(-1)
            return torch.stack((v, -self.k * x + self.scale * self.net(y)[..., 0]), -1)

    model = Both()
    before = weights(model)
    assert before["scale"].dtype == torch.float64
    found = fit(model, swing(0.01), integrator=ROUGH)
    assert found.scores["train"] is not None
    assert found.scores["train"]["rmse"] < 0.012
    now = weights(found.model)
    assert all(not torch.equal(now[name], before[name]) for name in before if name != "net.2.bias")
    assert trained(model) == "1 weight of scale, 17 of net"


@pytest.mark.slow
def test_without_noise_the_way_along_the_valley_has_an_end() -> None:
    """A step would remove all that is left of such data, until nothing is left that matters: no plateau is an end."""
    found = fit(Damped(), swing(0.0))
    assert (found.status, found.message) == ("converged", "The errors no longer matter beside the data.")
    assert found.scores["train"] is not None
    assert found.scores["train"]["rmse"] < 1e-5
    assert len(found.history) < 300


def test_weights_that_miss_the_data_have_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that stops on the way down a valley, far above the known noise, has not converged."""
    monkeypatch.setattr(full_horizon, "VALLEY", 0.9)
    found = fit(Damped(), replace(swing(), sigma=1e-5), integrator=ROUGH, strategy="full")
    assert found.statistics is not None
    assert not found.statistics.optimum
    assert (found.status, found.verdict, found.exit_code) == ("not converged", "does not fit", 3)
    assert found.message.endswith("That is no optimum yet.")
    assert "flat valley, where errors mean nothing" in str(found.report())


@pytest.mark.parametrize(
    ("optimizer", "options"),
    some([("adam", {"epochs": 60, "lr": 0.05}), ("lbfgs", {"epochs": 30})], ("lbfgs", {"epochs": 30})),
)
def test_every_optimiser_trains_them(optimizer: str, options: dict[str, Any]) -> None:
    model, experiment = Damped(), swing()
    before = weights(model)
    found = fit(model, experiment, optimizer=optimizer, integrator=ROUGH, **options)
    assert found.scores["train"] is not None
    assert found.scores["train"]["rmse"] < 0.05  # and begins at 0.6
    assert all(not torch.equal(now, before[name]) for name, now in weights(found.model).items())


def test_derivatives_by_weights_are_those_of_differences_in_both_engines() -> None:
    tight = replace(ROUGH, gradient="forward", rtol=1e-9, atol=1e-9)
    problems = [Problem(ParameterVector(Damped(), swing()), replace(tight, engine=e)) for e in ("native", "eager")]
    x = problems[0].vector.get()
    native, eager = (problem.at(x) for problem in problems)
    assert native is not None
    assert eager is not None
    assert problems[0].engine == "native"
    np.testing.assert_allclose(native.jacobian, eager.jacobian, atol=1e-9)
    step = np.random.default_rng(0).normal(size=len(x))
    ends = [problems[0].at(x + sign * 1e-5 * step) for sign in (1, -1)]
    assert ends[0] is not None
    assert ends[1] is not None
    np.testing.assert_allclose(native.jacobian @ step, (ends[0].residual - ends[1].residual) / 2e-5, atol=1e-7)
    other = x + 0.1 * step
    together = problems[0].many([x, other])  # lanes with weights of their own
    alone = problems[0].at(other)
    assert together[1] is not None
    assert alone is not None
    np.testing.assert_allclose(together[1].jacobian, alone.jacobian, atol=1e-7)
    assert np.array_equal(problems[0].vector.get(), x) or np.array_equal(problems[0].vector.get(), other)


def test_the_run_directory_gives_them_back(fitted: tuple[Fit, Path]) -> None:
    found, folder = fitted
    other = Damped()
    again = Fit.load(folder, model=other)
    assert alike(weights(again.model), weights(found.model))
    np.testing.assert_array_equal(again.forecast(7.0, points=5).mean, found.forecast(7.0, points=5).mean)
    assert str(again.report()) == str(found.report())
    asked, _ = beginning(folder, Damped(), False)
    twin = Damped()
    twin.draw(0)
    assert alike(weights(asked.model), weights(twin))
    with pytest.raises(InputError, match="has other parts than the model of the run"):
        Fit.load(folder, model=Damped(hidden=(3,)))


MODEL = '''
import torch
from torch import nn
from physid import Model, Unknown, positive

class Damped(Model):
    """An oscillator whose friction is a network."""

    state_names = ("x", "v")
    k = Unknown(2.0, positive)

    def __init__(self, hidden=(3,), act=nn.Tanh, **values):
        super().__init__(**values)
        self.friction = nn.Sequential(nn.Linear(1, hidden[0]), act(), nn.Linear(hidden[0], 1))

    def field(self, t, y):
        x, v = y.unbind(-1)
        return torch.stack((v, -self.k * x - self.friction(y[..., 1:])[..., 0]), -1)
'''


def test_a_model_file_is_fitted_interrupted_resumed_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from physid.modelling.address import load_model_file

    monkeypatch.chdir(tmp_path)
    Path("damped.py").write_text(MODEL)
    cls: Any = load_model_file("damped.py", "Damped")

    def stop(row: Any) -> None:
        if row["evaluation"] == 5:
            raise KeyboardInterrupt

    whole = fit(cls(hidden=(6,)), swing(), integrator=ROUGH, seed=3)
    cut = fit(cls(hidden=(6,)), swing(), integrator=ROUGH, seed=3, out="run", progress=stop)
    assert cut.status == "interrupted"
    found = Fit.resume("run", trust=True)
    assert found.status == whole.status
    assert found.scores["train"] is not None
    assert whole.scores["train"] is not None
    assert found.scores["train"]["rmse"] == pytest.approx(whole.scores["train"]["rmse"], rel=1e-2)
    assert alike(weights(Fit.load("run", trust=True).model), weights(found.model))
    capsys.readouterr()
    assert main(["report", "run", "--trust"]) in (0, 3)
    assert "19 weights of friction in 4 tables, trained: rms" in capsys.readouterr().out

    odd = cls(act=nn.Sigmoid)
    kept = fit(odd, swing(), optimizer="adam", epochs=1, integrator=replace(ROUGH, engine="eager"), out="odd")
    with pytest.raises(InputError, match="not the model that was fitted"):
        Fit.load("odd", trust=True)
    assert alike(weights(Fit.load("odd", model=odd).model), weights(kept.model))


def test_the_command_line_says_what_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "damped.py").write_text(MODEL)
    data = swing()
    rows = torch.cat([data.train.times[:, None], data.train.observations], 1).tolist()
    (tmp_path / "osc.csv").write_text("t,x,v\n" + "\n".join(",".join(map(repr, row)) for row in rows) + "\n")
    model, table = f"{tmp_path}/damped.py:Damped", str(tmp_path / "osc.csv")
    assert main(["fit", "--data", table, "--model", model, "--initial", "known", "--dry-run"]) == 0
    assert "10 weights of friction" in capsys.readouterr().out
    assert main(["check", model, "--data", table, "--initial", "known"]) == 0
    said = capsys.readouterr().out
    assert "k; 10 weights of friction" in said
    assert "beside 10 weights" in said
