"""The augmented NODE: its features, the masses in its weights, and what its report says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from variants import some

from physid import Experiment, Fit, Trajectory, fit
from physid.datasets import load
from physid.errors import InputError
from physid.models import Augmented, NewtonGravity, SparseAugmented, build
from physid.ode import Integrator, sensitivities

MASSES = np.array([1.2, 0.7])


def newton(model: Augmented, masses: list[float]) -> Augmented:
    """The model with the weights that are Newton's law."""
    for name in model.unknowns:
        setattr(model, name, torch.zeros_like(getattr(model, name)))
    cubic = torch.zeros_like(model.cubic).view(len(model.first), 3, model.bodies, 3)
    for pair, (i, j) in enumerate(zip(model.first, model.second, strict=True)):
        cubic[pair, :, i] = model.coupling * masses[j] * torch.eye(3)
        cubic[pair, :, j] = -model.coupling * masses[i] * torch.eye(3)
    model.cubic = cubic.view(model.cubic.shape)
    return model


def pull(t: float, y: np.ndarray) -> np.ndarray:
    """Two bodies under gravity, by numpy alone."""
    r, v = y.reshape(2, 2, 3)
    d = r[1] - r[0]
    force = d / np.linalg.norm(d) ** 3
    return np.concatenate([v.ravel(), MASSES[1] * force, -MASSES[0] * force])


def orbit(number: int, sigma: float = 0.0, count: int = 60) -> Experiment:
    """An orbit of two bodies with the same masses from an initial state of its own."""
    rng = np.random.default_rng(number)
    apart, aside = np.linalg.qr(rng.standard_normal((3, 3)))[0][:2]  # a tilted ellipse, of which a turn is seen
    start = np.array([[-0.4 * apart, 0.6 * apart], [-0.35 * aside, 0.6 * aside]])
    times = np.linspace(0.0, 3.0, count)
    solution = solve_ivp(pull, (0, 3), start.ravel(), t_eval=times, rtol=1e-11, atol=1e-12)
    seen = solution.y.T.reshape(-1, 2, 2, 3)[:, 0] + sigma * rng.standard_normal((count, 2, 3))
    data = Trajectory(torch.tensor(times), torch.tensor(seen))
    known = torch.tensor(start)
    return Experiment(f"orbit{number}", data, known, truth={"mass": MASSES}, sigma=sigma or None)


@pytest.mark.parametrize("bodies", [2, 3, 5])
def test_newtons_law_lies_in_its_span_and_the_masses_are_read_out(bodies: int) -> None:
    masses = [1.0 + 0.1 * i for i in range(bodies)]
    model = newton(Augmented(bodies=bodies, coupling=0.2, velocity_scale=7.0), masses)
    y = torch.rand(4, 2, bodies, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(bodies))
    t = torch.tensor(0.0)
    torch.testing.assert_close(model(t, y), NewtonGravity(mass=masses, coupling=0.2, velocity_scale=7.0)(t, y))
    torch.testing.assert_close(model.derived()["mass"].value, torch.tensor(masses, dtype=torch.float64))


@pytest.mark.slow
def test_masses_from_several_orbits_with_noise_and_their_errors() -> None:
    found = fit(Augmented(bodies=2), [orbit(number, 1e-4) for number in (7, 8)])
    assert found.status == "converged"
    for one, truth in zip(found.derived, MASSES, strict=True):
        assert one.stderr is not None
        assert abs(one.value / truth - 1) < 0.02
        assert abs(one.value - truth) < 4 * one.stderr


def test_one_orbit_lies_in_a_plane_and_tells_no_mass() -> None:
    found = fit(Augmented(bodies=2), orbit(7))
    assert found.scores["train"] is not None
    assert found.scores["train"]["rmse"] < 1e-6
    assert [one.stderr for one in found.derived] == [None, None]


def test_without_noise_two_orbits_are_enough_and_a_run_keeps_it(tmp_path: Path) -> None:
    found = fit(Augmented(bodies=2), [orbit(7), orbit(8)], out=tmp_path / "run")
    np.testing.assert_allclose([one.value for one in found.derived], MASSES, rtol=1e-4)
    text = str(found.report())
    assert "read out of the unknowns" in text
    assert "mass[1]" in text
    assert "114 weights (position, difference, direction, inverse, cubic, bias), rms" in text
    assert "position[0,0]" not in text
    again = Fit.load(tmp_path / "run")
    assert again.derived == found.derived
    assert str(again.report()) == text
    assert again.report().json()["derived"][0]["name"] == "mass[0]"


def test_the_sparse_one_drops_what_the_data_do_not_need() -> None:
    found = fit(SparseAugmented(bodies=2), [orbit(number) for number in range(2)])
    assert isinstance(found.model, SparseAugmented)
    kept = {name: int((getattr(found.model, name).abs() > 1e-9).sum()) for name in found.model.unknowns}
    assert kept["cubic"] >= 6
    assert sum(kept.values()) < 40
    np.testing.assert_allclose([one.value for one in found.derived], MASSES, rtol=1e-3)
    assert "dropped" in str(found.report())


def test_native_agrees_with_eager() -> None:
    model = newton(Augmented(bodies=3, coupling=0.2), [1.0, 1.1, 0.9])
    y0 = load("threebody", points=8).initial
    times = torch.linspace(0.0, 0.2, 5, dtype=torch.float64)
    raws = list(model.free().values())
    both = [
        sensitivities(model, y0, times, params=raws, integrator=Integrator("dopri5", 1e-9, 1e-9, engine=engine))
        for engine in ("native", "eager")
    ]
    assert both[0].solution.engine == "native"
    torch.testing.assert_close(both[0].solution.y, both[1].solution.y, rtol=1e-9, atol=1e-11)
    for one, other in zip(both[0].params, both[1].params, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_weights_are_drawn_by_the_seed_and_left_when_given() -> None:
    first, second = Augmented(), Augmented()
    second.draw(1)
    assert not torch.equal(first.cubic, second.cubic)
    first.draw(1)
    assert torch.equal(first.cubic, second.cubic)
    first.draw(2)  # drawn once
    assert torch.equal(first.cubic, second.cubic)
    given = Augmented(bias=torch.ones(9))
    given.draw(1)
    assert torch.equal(given.bias, torch.ones(9, dtype=torch.float64))


@pytest.mark.parametrize("gradient", some(["aca", "naive", "adjoint"], "aca"))
def test_a_protocol_of_the_paper_runs_with_every_gradient(gradient: str) -> None:
    experiment = load("threebody", points=10, horizon=0.1, protocol="paper-code")
    found = fit(build(experiment, "partial"), experiment, protocol="paper-code", gradient=gradient, epochs=3)
    assert found.status == "converged"
    assert found.paper is not None
    assert found.paper["published_mse"] == {"aca": 0.16, "naive": 0.21, "adjoint": 3.47}[gradient]
    costs = [row["cost"] for row in found.history]
    assert costs[-1] < costs[0]


def test_one_body_is_refused() -> None:
    with pytest.raises(InputError, match="two or more"):
        Augmented(bodies=1)
