"""Fits do not depend on the units of their states: tolerances, steps and bounds go by the size of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from physid import Experiment, Fit, Integrator, Model, Trajectory, Unknown, fit, positive
from physid.data.inputs import Inputs
from physid.inference.options import default_integrator
from physid.inference.parameters import ParameterVector
from physid.modelling.reconstruct import reconstruct
from physid.modelling.state_sizes import STEPS, fitted, sizes_of


class Saturating(Model):
    """ds/dt = -v s / (k + s), v and k in the unit of s."""

    state_names = ("s",)
    v = Unknown(1.0, positive)
    k = Unknown(1.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.v * y / (self.k + y)


class Binding(Model):
    """Ligand and receptor in mol/l bind, and the complex is slowly lost; only the complex is seen."""

    state_names = ("L", "R", "C")
    channel_names = ("C",)
    kon = Unknown(1e5, positive, unit="1/(M s)")
    koff = Unknown(1e-2, positive, unit="1/s")
    kd = Unknown(1e-5, positive, unit="1/s")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        free, receptor, bound = y.unbind(-1)
        rate = self.kon * free * receptor - self.koff * bound
        return torch.stack((-rate, -rate, rate - self.kd * bound), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., 2:]


class Heated(Model):
    """A hidden heater (W) starts from zero and warms a body (K): h' = a - b h, x' = h / c."""

    state_names = ("h", "x")
    channel_names = ("x",)
    a = Unknown(2e-6, positive)
    b = Unknown(1.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        h = y[..., 0]
        return torch.stack((self.a - self.b * h, h / 1e-6), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., 1:]


def made_of(name: str, t: Any, y: Any, initial: Any, **more: Any) -> Experiment:
    return Experiment(name, Trajectory(t, y), initial=initial, **more)


def saturating(size: float) -> Experiment:
    t = np.linspace(0.0, 30.0, 31)
    truth = solve_ivp(lambda t, y: -0.1 * y / (0.5 + y), (0, 30), [1.0], t_eval=t, rtol=1e-10, atol=1e-12).y[0]
    noise = 0.005 * np.random.default_rng(0).normal(size=31)
    return made_of("s", t, size * (truth + noise)[:, None], [size])


@pytest.fixture(scope="module")
def binding() -> Experiment:
    t = np.concatenate([np.linspace(0.0, 6000.0, 31), np.linspace(2e5, 2e6, 30)])

    def rates(_: float, y: Any) -> list[float]:
        rate = 1e6 * y[0] * y[1] - 1e-3 * y[2]
        return [-rate, -rate, rate - 1e-6 * y[2]]

    truth = solve_ivp(rates, (0, 2e6), [5e-9, 2e-9, 0.0], t_eval=t, rtol=1e-11, atol=1e-22, method="LSODA").y[2]
    seen = truth + 1e-11 * np.random.default_rng(1).normal(size=61)
    return made_of("binding", t, seen[:, None], [5e-9, 2e-9, 0.0])


def test_a_fit_is_the_same_in_every_unit() -> None:
    found = []
    for size in (1.0, 1e-12):
        made = fit(Saturating(v=0.3 * size, k=2 * size), saturating(size))
        assert (made.status, [one.at_bound for one in made.estimates]) == ("converged", [False, False])
        assert made.statistics is not None
        assert made.statistics.verdict == "adequate"
        found.append([(one.value / size, (one.stderr or 0.0) / size) for one in made.estimates])
    (v, v_error), (k, k_error) = found[0]
    assert abs(v - 0.1) < 2 * v_error
    assert abs(k - 0.5) < 2 * k_error
    assert np.allclose(found[0], found[1], rtol=1e-6)


def test_concentrations_in_mol_per_litre(binding: Experiment, tmp_path: Path) -> None:
    made = fit(Binding(), binding, out=tmp_path / "run")
    assert made.status == "converged"
    for one, truth in zip(made.estimates, (1e6, 1e-3, 1e-6), strict=True):
        assert one.stderr is not None
        assert abs(one.value - truth) < 3 * one.stderr < 0.3 * truth
        assert not one.at_bound
    atol = made.integrator.atol
    assert isinstance(atol, tuple)
    size = [5e-9, 2e-9, float(binding.train.observations.square().mean().sqrt())]
    assert atol == pytest.approx([1e-10 * one for one in size], rel=1e-6)
    again = Fit.load(tmp_path / "run", model=Binding())
    assert again.integrator.atol == atol
    assert again.integrator.max_steps == made.integrator.max_steps
    assert Fit.resume(tmp_path / "run", model=Binding()).x == pytest.approx(made.x)


def test_what_is_asked_for_stays(binding: Experiment) -> None:
    asked = Integrator("dopri8", 1e-10, 1e-20, max_steps=123)
    assert fitted(asked, Binding(), [binding]) == asked
    assert Integrator().absolute == 1e-9
    assert default_integrator().atol is None
    loose = fitted(Integrator("dopri8", 1e-3), Binding(), [binding]).atol
    assert isinstance(loose, tuple)
    assert loose[0] == pytest.approx(5e-12)


def test_a_hidden_state_from_zero_has_the_size_of_a_pilot_solve() -> None:
    t = np.linspace(0.0, 5.0, 40)
    seen = 2.0 * (t - 1 + np.exp(-t))  # a = 2e-6, b = 1: h reaches 2e-6
    one = made_of("heated", t, seen[:, None], [0.0, 0.0])
    sizes = sizes_of(Heated(), one)
    assert sizes[0] == pytest.approx(2e-6, rel=0.02)
    assert sizes[1] == pytest.approx(np.sqrt((seen**2).mean()))
    wild = sizes_of(Heated(b=-5.0 + 5.1, a=2e3), one)  # far beyond the data at once: by the first of them only
    assert wild[0] < 1e3
    told = made_of("heated", one.train.times, one.train.observations, [0.0, 0.0], initial_scale=[3e-5, 1.0])
    assert sizes_of(Heated(), told)[0] == 3e-5


def test_a_hidden_state_far_below_its_size_is_named() -> None:
    t = np.linspace(0.0, 5.0, 40)
    seen = 2.0 * (t - 1 + np.exp(-t)) + 1e-3 * np.random.default_rng(0).normal(size=40)
    told = []
    for scale in (3e-6, 3.0):  # where h reaches 2e-6
        data = made_of("heated", t, seen[:, None], [0.0, 0.0], initial_scale=[scale, 1.0])
        found = fit(Heated(a=1e-6, b=0.7), data)
        assert found.status == "converged"
        told.append(found.message)
    assert "hidden" not in told[0]
    assert "The hidden h stays below 2e-06, and its tolerance assumed a size of 3: say its size" in told[1]
    assert "atol=(2.0e-16, " in told[1]
    nameless = fit(type("Nameless", (Heated,), {"state_names": (), "state_shape": (2,)})(a=1e-6, b=0.7), data)
    assert "The hidden state[0] stays below 2e-06" in nameless.message


def test_steps_grow_with_the_record() -> None:
    class Driven(Saturating):
        input_names = ("u",)

    t = np.arange(3000.0)
    drive = Inputs.through(t, np.sin(t), ["u"])
    long = made_of("long", t, np.ones((3000, 1)), [1.0], inputs=drive)
    made = fitted(default_integrator(), Driven(), [long]).max_steps
    assert made is not None
    assert made > STEPS + 100 * 5900


def test_a_small_rate_is_not_at_a_bound() -> None:
    class Slow(Model):
        state_names = ("m",)
        k = Unknown(1.0, positive)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.k * y

    t = np.linspace(0.0, 2.6e7, 31)
    seen = 100 * np.exp(-2e-7 * t) + 0.2 * np.random.default_rng(0).normal(size=31)
    (found, _) = fit(Slow(k=1e-6), made_of("slow", t, seen[:, None], [100.0], initial_free=[True])).estimates
    assert found.stderr is not None
    assert abs(found.value - 2e-7) < 3 * found.stderr < 1e-8
    assert not found.at_bound
    vector = ParameterVector(Slow(k=1e-6), made_of("slow", t, seen[:, None], [100.0]))
    assert vector.natural(vector.raw(np.array([2e-9]))) == pytest.approx([2e-9])  # small is not out of the domain
    assert 0 < vector.natural(vector.raw(np.array([-1e-9])))[0] < 1e-14


def test_channels_of_any_size_weigh_alike_where_states_are_searched() -> None:
    class Two(Model):
        state_names = ("a", "b")

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -y

        def observe(self, y: Tensor) -> Tensor:
            return torch.stack((y[..., 0], 1e6 * y[..., 1], y[..., 0]), -1)

    seen = np.array([[1.0, 2e6, 1.0], [0.5, 1e6, 0.5]])
    ones = torch.ones(2, 2, dtype=torch.float64)
    found = reconstruct(Two(), np.array([0.0, 1.0]), seen, np.full_like(seen, np.nan), ones, ones[0])
    assert found.numpy() == pytest.approx(np.array([[1.0, 2.0], [0.5, 1.0]]))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_descents_do_not_stop_at_small_numbers(optimizer: str) -> None:
    found = []
    for size in (1.0, 1e-9):
        made = fit(Saturating(v=0.3 * size, k=2 * size), saturating(size), optimizer=optimizer, epochs=15)
        found.append([one.value / size for one in made.estimates])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    assert abs(found[0][0] - 0.3) > 0.03  # it has moved
