"""A neural residual in a known equation: what it learns, what is said of it, and the formula that is found of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from physid import Fit, Model, Unknown, fit
from physid.cli.app import main
from physid.datasets import load
from physid.discovery import discover, law, scalar_library, vector_library
from physid.errors import InputError
from physid.modelling.address import load_model_file
from physid.models import MODELS, GravityResidual, PendulumResidual, Residual, VanDerPol, build
from physid.models.residual import Undamped


class Lone(Residual, VanDerPol):
    """Van der Pol with a residual in both rates."""


@pytest.fixture(scope="module")
def swing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a pendulum whose friction is not known."""
    folder = tmp_path_factory.mktemp("runs") / "swing"
    experiment = load("pendulum")
    fit(build(experiment, model="pendulum-residual"), experiment, out=folder)
    return folder


@pytest.mark.parametrize("cls", [GravityResidual, PendulumResidual, Lone])
def test_it_starts_at_zero(cls: type[Residual]) -> None:
    model, known = cls(), cls.known()()
    y = torch.rand(5, *model.state_shape, dtype=torch.float64)
    t = torch.tensor(0.0)
    assert torch.equal(model(t, y), known(t, y))
    model.residual_linear = torch.ones_like(model.residual_linear)
    assert not torch.equal(model(t, y), known(t, y))
    torch.testing.assert_close(model(t, y), known(t, y) + model.parts(t, y)["neural"])


def test_it_touches_only_what_it_may() -> None:
    model = PendulumResidual(residual_linear=torch.ones(2, 2))
    assert torch.equal(model.residual(torch.ones(2, dtype=torch.float64)), torch.tensor([0.0, 2.0]).double())
    assert PendulumResidual.known() is Undamped
    assert "friction" not in PendulumResidual.unknowns


def test_friction_is_learned_and_its_share_told(swing: Path) -> None:
    found = Fit.load(swing)
    assert found.status == "converged"
    (length,) = found.listed
    assert length.value == pytest.approx(0.7, rel=1e-5)
    assert list(found.shares["neural"]) == ["omega"]
    times = found.experiment.train.times
    states = found.integrator.solve(found.model, found.experiment.initial, times).y
    assert isinstance(states, Tensor)
    theta, omega = states.detach().unbind(-1)
    rate = -9.80665 / 0.7 * torch.sin(theta) - 0.1 * omega
    share = float((0.1 * omega).norm() / rate.norm())
    assert found.shares["neural"]["omega"] == pytest.approx(share, rel=1e-3)
    assert "neural part of the derivative" in str(found.report())


def test_the_formula_is_found_promoted_and_fitted_with_an_error(
    swing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["discover", str(swing), "--promote", "found.py"]) == 0
    assert "omega residual = -0.1 omega" in capsys.readouterr().out
    assert main(["fit", "pendulum", "--noise", "0.01", "--model", "found.py:Found", "--out", "run", "--quiet"]) == 0
    found = Fit.load("run", trust=True)
    (friction,) = [one for one in found.estimates if one.name == "c_omega"]
    assert friction.stderr is not None
    assert abs(friction.value + 0.1) < 4 * friction.stderr
    assert friction.stderr < 0.002


@pytest.mark.slow
def test_drag_of_three_bodies_is_found() -> None:
    experiment = load("threebody", points=100, drag=0.3)
    found = fit(build(experiment, model="gravity-residual"), experiment)
    assert found.status == "converged"
    (one,) = discover(found).laws
    assert [term.formula for term in one.terms] == ["v"]
    assert one.coefficients[0] == pytest.approx(-0.3, rel=1e-3)
    np.testing.assert_allclose([e.value for e in found.listed], [1.1, 1.1, 0.9], rtol=1e-5)


def test_the_truth_with_drag_is_simulated_with_any_power() -> None:
    from physid.datasets.threebody import INITIAL, MASSES, attraction

    with_it, without = attraction(MASSES, INITIAL, 0.5, 2.0), attraction(MASSES, INITIAL)
    v = INITIAL[1]
    np.testing.assert_allclose(without[1] - with_it[1], 0.5 * np.linalg.norm(v, axis=-1, keepdims=True) * v)


def test_libraries_find_what_was_put_in() -> None:
    rng = torch.Generator().manual_seed(1)
    states = torch.randn(50, 2, 3, 3, dtype=torch.float64, generator=rng)
    terms, table = vector_library(states)
    v = states[:, 1]
    one = law("acceleration", terms, table, (-0.4 * v.norm(dim=-1, keepdim=True) * v).reshape(-1).numpy())
    assert [term.formula for term in one.terms] == ["v.norm(dim=-1, keepdim=True) * v"]
    assert one.coefficients == pytest.approx([-0.4])
    pairs = torch.randn(50, 2, dtype=torch.float64, generator=rng)
    terms, table = scalar_library(("a", "b"), pairs)
    two = law("b", terms, table, (0.5 * pairs[:, 0] * pairs[:, 1] - 2.0).numpy())
    assert {t.formula: round(c, 6) for t, c in zip(two.terms, two.coefficients, strict=True)} == {
        "1.0": -2.0,
        "a * b": 0.5,
    }


def test_a_promoted_model_of_a_users_own_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from physid import Model, Unknown\nfrom physid.models import Residual\n\n"
        "class Decay(Model):\n    state_names = ('z',)\n    k = Unknown(0.2)\n"
        "    def field(self, t, y):\n        return -self.k * y\n\n"
        "class Mine(Residual, Decay):\n    k = Unknown(0.2, fixed=True)\n"
    )
    mine = load_model_file(tmp_path / "mine.py", "Mine")
    experiment = load("exponential", points=30)
    found = fit(build(experiment, model=mine), experiment)
    (tmp_path / "found.py").write_text(discover(found).source())
    cls = load_model_file(tmp_path / "found.py", "Found")
    again = fit(cls(), experiment)
    values = {one.name: one.value for one in again.estimates}
    assert values["c_z"] - values.get("k", 0.2) == pytest.approx(-0.5, abs=1e-6)


def test_a_model_without_a_neural_part_has_nothing_to_explain() -> None:
    experiment = load("exponential", points=10)
    with pytest.raises(InputError, match="has no neural part"):
        discover(fit(build(experiment), experiment))


def test_every_residual_of_the_catalogue_is_made_from_one() -> None:
    names = [name for name, cls in MODELS.items() if issubclass(cls, Residual)]
    assert names == ["gravity-residual", "pendulum-residual"]
    assert all(issubclass(MODELS[name].known(), Model) for name in names)  # type: ignore[attr-defined]
    assert isinstance(Undamped.unknowns["length"], Unknown)
