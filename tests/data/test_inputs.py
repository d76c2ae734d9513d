"""Inputs: what is read between samples, how solves land on switches, and that gradients and fits see them exactly."""

from __future__ import annotations

import math
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from torch import Tensor
from variants import some

import physid
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import KINDS, Inputs
from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown, positive
from physid.ode import Integrator, sensitivities, solve

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

TIMES = [0.0, 0.3, 1.0, 1.1, 2.5, 4.0]
VALUES = [1.0, -2.0, 0.5, 0.5, 3.0, 1.0]


class Tank(Model):
    """x' = gain u - leak x."""

    state_names = ("level",)
    input_names = ("pump",)
    gain = Unknown(1.0, positive)
    leak = Unknown(0.3, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (pump,) = self.inputs(t)
        (level,) = y.unbind(-1)
        return torch.stack((self.gain * pump - self.leak * level,), -1)


def inputs(kind: str = "hold") -> Inputs:
    return Inputs.through(TIMES, VALUES, ["pump"], kind)


def reference(kind: str, t: Any) -> Any:
    """The same interpolation by numpy and SciPy."""
    if kind == "hold":
        return np.array(VALUES)[np.searchsorted(TIMES[1:], t, side="right")]
    return np.interp(t, TIMES, VALUES) if kind == "linear" else CubicSpline(TIMES, VALUES)(t)


@pytest.mark.parametrize("kind", KINDS)
def test_between_samples(kind: str) -> None:
    t = np.linspace(0.0, 4.0, 81)
    found = inputs(kind)(torch.from_numpy(t))
    assert found.shape == (81, 1)
    assert np.allclose(found[:, 0], reference(kind, t), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (4, 1, 2)])
def test_any_leading_shape_and_under_vmap(shape: tuple[int, ...]) -> None:
    t = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    for kind in KINDS:
        found = inputs(kind)(t)
        assert found.shape == (*shape, 1)
        assert torch.allclose(found[..., 0], torch.as_tensor(reference(kind, t.numpy())), atol=1e-14)
        if shape:
            assert torch.equal(torch.vmap(inputs(kind))(t), found)


def test_an_input_is_differentiable_by_time() -> None:
    t = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    inputs("linear")(t).sum().backward()
    assert t.grad is not None
    assert t.grad.item() == pytest.approx(2.5 / 0.7)


def test_kinds_join_without_a_change_of_value() -> None:
    parts = [Inputs.through(np.array(TIMES) + i / 10, VALUES, [kind], kind) for i, kind in enumerate(KINDS)]
    joined = Inputs.join(parts)
    assert joined.names == KINDS
    t = torch.linspace(0.2, 4.0, 77, dtype=torch.float64)
    assert torch.allclose(joined(t), torch.cat([part(t) for part in parts], -1), atol=1e-13)
    assert torch.equal(joined.select(["cubic", "hold"])(t), joined(t)[:, [2, 0]])
    assert joined.covers(0.2, 4.1)
    assert not joined.covers(0.2, 4.2)  # where the linear one ends


def test_lanes_of_a_batch_have_inputs_of_their_own() -> None:
    lanes = [inputs("hold"), Inputs.through([0.0, 2.0], [5.0, 7.0], ["pump"], "linear")]
    stacked = Inputs.stack(lanes)
    t = torch.tensor([[0.2, 0.5], [3.9, 1.7], [1.05, 1.0]], dtype=torch.float64)
    want = torch.stack([lane(t[:, i]) for i, lane in enumerate(lanes)], 1)
    assert torch.allclose(stacked(t), want)
    assert torch.allclose(stacked(t[0]), want[0])
    assert torch.allclose(torch.vmap(stacked)(t), want)


def test_samples_that_were_not_measured_are_left_out_and_a_held_input_goes_on() -> None:
    found = Inputs.through([0.0, 1.0, 2.0], [[1.0, 5.0], [math.nan, 6.0], [3.0, math.nan]], ["a", "b"])
    assert found(torch.tensor([0.5, 1.5, 2.5, 99.0])).tolist() == [[1.0, 5.0], [1.0, 6.0], [3.0, 6.0], [3.0, 6.0]]
    assert found.switches.tolist() == [1.0, 2.0]
    assert found.covers(0.0, 1e9)
    assert not found.covers(-0.1, 1.0)


@pytest.mark.parametrize(
    ("times", "values", "kind", "message"),
    [
        ([0.0, 1.0], [1.0, 2.0], "step", "Allowed: cubic, hold, linear"),
        ([0.0, 0.0], [1.0, 2.0], "hold", "increase"),
        ([0.0, 1.0], [1.0, math.inf], "hold", "infinite"),
        ([0.0, 1.0], [1.0], "hold", "shape"),
        ([0.0, 1.0], [1.0, 2.0], "cubic", "needs 4 or more"),
        ([0.0, 1.0], [math.nan, math.nan], "hold", "measured 0 times"),
    ],
)
def test_bad_inputs_are_refused(times: Any, values: Any, kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Inputs.through(times, values, ["pump"], kind)


@pytest.mark.parametrize(
    ("solver", "kind"),
    some(
        product(["dopri5", "dopri8", "bosh3"], KINDS),
        *product(["dopri5"], KINDS),
        ("dopri8", "hold"),
        ("bosh3", "hold"),
    ),
)
def test_a_driven_solve_is_as_exact_as_its_tolerance(kind: str, solver: str) -> None:
    model = Tank()
    model.drive(inputs(kind))
    y0, t = torch.tensor([0.2], dtype=torch.float64), torch.linspace(0.0, 4.0, 33, dtype=torch.float64)
    found = solve(model, y0, t, solver=solver, rtol=1e-9, atol=1e-9)
    assert isinstance(found.y, Tensor)
    want = piecewise_truth(kind, t.numpy())
    assert np.abs(found.y[:, 0].detach().numpy() - want).max() < 2e-8
    if kind == "hold":  # a step cannot straddle a switch: without landing there this costs rejections
        assert found.statistics.rejected <= 2


def piecewise_truth(kind: str, times: Any) -> Any:
    """SciPy, piece by piece between the samples."""
    y, found = 0.2, dict[float, float]()
    for low, high in pairwise(TIMES):
        inside = times[(times >= low) & (times <= high)]
        middle = reference(kind, (low + high) / 2)

        def rate(s: float, x: Any, held: float = float(middle)) -> Any:
            return (held if kind == "hold" else float(reference(kind, s))) - 0.3 * x

        run = solve_ivp(rate, (low, high), [y], "DOP853", np.unique(np.append(inside, high)), rtol=1e-12, atol=1e-12)
        found.update(zip(inside.tolist(), run.y[0], strict=False))
        y = run.y[0, -1]
    return np.array([found[time] for time in times.tolist()])


@pytest.mark.parametrize("gradient", some(["aca", "naive", "adjoint", "forward"], "aca", "forward"))
def test_every_gradient_method_lands_on_the_switches(gradient: str) -> None:
    times = torch.tensor([0.0, 1.7, 4.0], dtype=torch.float64)

    def loss(gain: float) -> Tensor:
        model = Tank(gain=gain)
        model.drive(inputs())
        y0 = torch.tensor([0.2], dtype=torch.float64)
        y = solve(model, y0, times, solver="dopri5", rtol=1e-10, atol=1e-10, gradient=gradient).y
        assert isinstance(y, Tensor)
        value = y.square().sum()
        if value.requires_grad:
            grads.append(torch.autograd.grad(value, model.free()["gain"])[0].item())
        return value.detach()

    grads: list[float] = []
    loss(1.0)
    difference = float(loss(math.exp(1e-5)) - loss(math.exp(-1e-5))) / 2e-5
    assert grads[0] == pytest.approx(difference, rel=2e-7)


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_sensitivities_are_exact_whatever_the_switches(seed: int) -> None:
    """x' = gain u - leak x is linear in the gain: dx / d gain is the solution itself, from zero."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 1.0, 12))
    model = Tank(gain=1.0, leak=0.5)
    gain = model.free()["gain"]
    model.drive(Inputs.through(times, rng.normal(size=12), ["pump"]))
    y0, grid = torch.zeros(1, dtype=torch.float64), torch.from_numpy(times[[0, 3, -1]].copy())
    found = sensitivities(model, y0, grid, params=[gain], integrator=Integrator("dopri8", 1e-6, 1e-6))
    assert isinstance(found.solution.y, Tensor)
    assert torch.allclose(found.params[0], found.solution.y.detach(), rtol=1e-11, atol=1e-13)


def experiment(**changes: Any) -> Experiment:
    truth = Tank(gain=2.0, leak=0.5)
    truth.drive(inputs())
    times = torch.linspace(0.0, 4.0, 41, dtype=torch.float64)
    y = solve(truth, torch.tensor([0.2], dtype=torch.float64), times, rtol=1e-11, atol=1e-11).y
    assert isinstance(y, Tensor)
    settings: dict[str, Any] = {"name": "tank", "train": Trajectory(times, y.detach()), "initial": [0.2]}
    return Experiment(**{**settings, "inputs": inputs(), **changes})


@pytest.mark.parametrize("strategy", ["full", "segments"])
def test_a_fit_of_a_driven_model_finds_the_truth_and_its_run_is_read_back(tmp_path: Path, strategy: str) -> None:
    other = experiment()
    fit = physid.fit(Tank(), experiment(validation=other), strategy=strategy, out=tmp_path / "run")
    assert [one.value for one in fit.estimates] == pytest.approx([2.0, 0.5], rel=1e-6)
    assert fit.scores["validation"] is not None
    assert fit.scores["validation"]["rmse"] < 1e-7
    read = physid.Fit.load(tmp_path / "run", model=Tank())
    assert read.experiment.inputs is not None
    assert torch.equal(read.experiment.inputs.coefficients, inputs().coefficients)
    assert read.experiment.validation is not None
    assert read.forecast(8.0).mean[-1, 0] == pytest.approx(fit.forecast(8.0).mean[-1, 0], rel=1e-9)  # held on


def test_a_free_start_of_a_validation_is_the_one_that_was_found() -> None:
    first = experiment(initial=[0.5], initial_free=[True])
    fit = physid.fit(Tank(), experiment(initial=[0.5], initial_free=[True], validation=first))
    assert fit.scores["validation"] is not None
    assert fit.scores["validation"]["rmse"] < 1e-7


def test_what_does_not_fit_together_is_refused() -> None:
    class Free(Model):
        state_names = ("x",)
        rate = Unknown(1.0)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return self.rate * y

    class Other(Tank):
        input_names = ("pmup",)

    with pytest.raises(InputError, match="reads none"):
        physid.fit(Free(), experiment())
    with pytest.raises(InputError, match="needs the inputs pump"):
        physid.fit(Tank(), experiment(inputs=None))
    with pytest.raises(InputError, match="Did you mean 'pump'"):
        physid.fit(Other(), experiment())
    with pytest.raises(InputError, match="known from 0 to 4, but they are needed from 0 to 5"):
        experiment(inputs=inputs("linear"), test=Trajectory(torch.tensor([5.0]), torch.tensor([[1.0]])))
    with pytest.raises(InputError, match="names none"):
        Free().inputs(torch.tensor(0.0))


def test_given_inputs_stand_in_for_the_signal() -> None:
    model = Tank()
    with model.given_inputs(torch.tensor([[2.0], [3.0]])):
        assert model.field(torch.tensor(0.0), torch.zeros(2, 1)).flatten().tolist() == [2.0, 3.0]
    with pytest.raises(InputError, match="needs the inputs"):
        model.field(torch.tensor(0.0), torch.zeros(2, 1))
