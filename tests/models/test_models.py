"""The models: one contract for all of the catalogue, then gravity against a computation of its own."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.func import functional_call, jacfwd, vmap

from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.datasets import load
from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown, between
from physid.models import LADDER, MODELS, NewtonGravity, PlanetaryGravity, PointMasses, build

# torch itself, when its transforms are first used
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

MEASURED = ("emps", "lynxhare", "tanks")
T0 = torch.tensor(0.0, dtype=torch.float64)
SIMULATED = sorted({name for name, _ in LADDER} - {"solarsystem", *MEASURED})


def states(model: Model, *lead: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return 0.5 + torch.rand(*lead, *model.state_shape, generator=generator, dtype=torch.float64)


def made(name: str) -> Model:
    """A model of the catalogue, driven by something if it is one that is driven."""
    model = MODELS[name]()
    if model.input_names:
        values = torch.arange(8.0).view(-1, 1).expand(-1, len(model.input_names))
        model.drive(Inputs.through(torch.arange(8.0), values, model.input_names, "linear"))
    return model


@pytest.mark.parametrize("name", MODELS)
class TestContract:
    """What every model of the catalogue keeps to."""

    def test_batches(self, name: str) -> None:
        model = made(name)
        y = states(model, 4, 5)
        rate, seen = model(T0, y), model.observe(y)
        assert rate.shape == y.shape
        assert rate.dtype == torch.float64
        assert seen.shape[:2] == (4, 5)
        for i, j in ((0, 0), (3, 4)):
            torch.testing.assert_close(model(T0, y[i, j]), rate[i, j], rtol=1e-13, atol=1e-14)
            torch.testing.assert_close(model.observe(y[i, j]), seen[i, j])

    def test_transforms(self, name: str) -> None:
        model = made(name)
        y = states(model, 3)
        raws = {f"raw.{key}": raw.detach() for key, raw in model.free().items()}

        def rate(parameters: dict[str, Tensor], state: Tensor) -> Tensor:
            out: Tensor = functional_call(model, parameters, (T0, state))
            return out

        torch.testing.assert_close(vmap(rate, in_dims=(None, 0))(raws, y), model(T0, y), rtol=1e-13, atol=1e-14)
        many = {key: torch.stack((raw, raw + 0.1)) for key, raw in raws.items()}
        assert vmap(rate, in_dims=(0, None))(many, y[0]).shape == (2, *y[0].shape)
        for key, jacobian in jacfwd(rate)(raws, y[0]).items():
            shift = {other: raw + (1e-6 if other == key else 0.0) for other, raw in raws.items()}
            back = {other: raw - (1e-6 if other == key else 0.0) for other, raw in raws.items()}
            slope = (rate(shift, y[0]) - rate(back, y[0])) / 2e-6
            total = jacobian.flatten(y[0].ndim).sum(-1) if raws[key].ndim else jacobian
            torch.testing.assert_close(total, slope, rtol=1e-6, atol=1e-7)
        assert jacfwd(rate, argnums=1)(raws, y[0]).shape == (*y[0].shape, *y[0].shape)

    @pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_gradients(self, name: str, whole: bool) -> None:
        model = made(name)
        y = states(model).requires_grad_()
        raws = list(model.free().values())

        def rate(state: Tensor, *parameters: Tensor) -> Tensor:
            named = {f"raw.{key}": value for key, value in zip(model.free(), parameters, strict=True)}
            out: Tensor = functional_call(model, named, (T0, state))
            return out

        fast = not whole and sum(raw.numel() for raw in raws) > 20  # of a net: in a random direction in place of all
        assert torch.autograd.gradcheck(rate, (y, *raws), fast_mode=fast)
        assert torch.autograd.gradgradcheck(rate, (y, *raws), fast_mode=fast)

    def test_single_precision(self, name: str) -> None:
        model = made(name)
        y = states(model)
        expected = model(T0, y)
        rate = model.to(torch.float32)(T0.float(), y.float())
        assert rate.dtype == torch.float32
        torch.testing.assert_close(rate.double(), expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.cuda
    def test_on_a_device(self, name: str) -> None:
        model = made(name)
        y = states(model)
        expected = model(T0, y)
        torch.testing.assert_close(model.cuda()(T0.cuda(), y.cuda()).cpu(), expected)

    def test_documentation(self, name: str) -> None:
        text = MODELS[name].__doc__ or ""
        assert "Source:" in text
        assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", SIMULATED)
def test_model_at_the_truth_is_the_simulation(name: str) -> None:
    experiment = load(name)
    model = build(experiment)
    for unknown, value in experiment.truth.items():
        if unknown in model.unknowns:
            setattr(model, unknown, value)
    shape = experiment.initial.shape

    def field(t: float, y: Any) -> Any:
        with torch.no_grad():
            return model(torch.tensor(t), torch.as_tensor(y).reshape(shape)).numpy().ravel()

    start, times = experiment.initial.numpy().ravel(), experiment.train.times[:301:50].numpy()
    solution = solve_ivp(field, (0.0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-10, atol=1e-10)
    seen = model.observe(torch.as_tensor(solution.y.T.reshape(-1, *shape)))
    torch.testing.assert_close(seen, experiment.train.observations[:301:50], rtol=1e-6, atol=1e-7)


def pull(strength: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The accelerations of point masses, pair after pair."""
    acceleration = np.zeros_like(r)
    for i, j in permutations(range(len(r)), 2):
        acceleration[i] += strength[j] * (r[j] - r[i]) / np.linalg.norm(r[j] - r[i]) ** 3
    return acceleration


@pytest.mark.parametrize("bodies", [2, 3, 5, 12])
def test_gravity_is_newtons(bodies: int) -> None:
    rng = np.random.default_rng(bodies)
    mass, y = rng.uniform(0.5, 2.0, bodies), rng.standard_normal((2, bodies, 3))
    model = NewtonGravity(mass=mass, coupling=0.2, velocity_scale=7.0)
    rate = model(T0, torch.as_tensor(y)).detach().numpy()
    np.testing.assert_allclose(rate[0], 7.0 * y[1], rtol=1e-14)
    np.testing.assert_allclose(rate[1], pull(0.2 * mass, y[0]), rtol=1e-11, atol=1e-12)


def test_planets_may_be_without_mass_or_push() -> None:
    rng = np.random.default_rng(1)
    gm, y = np.array([3e-4, 0.0, -1e-7]), rng.standard_normal((2, 3, 3))
    rate = PlanetaryGravity(gm=gm)(T0, torch.as_tensor(y)).detach().numpy()
    np.testing.assert_allclose(rate[1], pull(gm, y[0]), rtol=1e-11, atol=1e-16)


def test_gravity_conserves_momentum_angular_momentum_and_energy() -> None:
    model = NewtonGravity(mass=[1.1, 0.4, 2.0, 0.7], coupling=0.3, velocity_scale=2.0)
    y = states(model).requires_grad_()
    mass, (rate_r, rate_v) = model.mass[:, None], model(T0, y).unbind(0)
    r, v = y.unbind(0)
    zero = torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close((mass * rate_v).sum(0), zero, rtol=0, atol=1e-13)
    spin = torch.linalg.cross(mass * r, rate_v) + torch.linalg.cross(mass * rate_r, v)
    torch.testing.assert_close(spin.sum(0), zero, rtol=0, atol=1e-13)
    i, j = torch.triu_indices(4, 4, 1)
    potential = -0.3 * (mass[i, 0] * mass[j, 0] / (r[i] - r[j]).norm(dim=-1)).sum()
    energy = 0.5 * 2.0 * (mass * v * v).sum() + potential
    (gradient,) = torch.autograd.grad(energy, y)
    assert (gradient * torch.stack((rate_r, rate_v))).sum().item() == pytest.approx(0.0, abs=1e-12)


def test_positions_relative_to_a_body() -> None:
    model = NewtonGravity(mass=[1.0, 2.0, 3.0], relative_to=1)
    y = states(model, 4)
    expected = torch.stack((y[:, 0, 0] - y[:, 0, 1], y[:, 0, 2] - y[:, 0, 1]), dim=1)
    torch.testing.assert_close(model.observe(y), expected)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"mass": 1.0}, "two numbers or more"),
        ({"mass": [1.0]}, "two numbers or more"),
        ({"mass": [[1.0, 2.0]]}, "two numbers or more"),
        ({"mass": [1.0, -1.0]}, "outside its domain"),
        ({"relative_to": 3}, "0 to 2"),
        ({"relative_to": -1}, "0 to 2"),
        ({"couplin": 1.0}, "Did you mean 'coupling'"),
    ],
)
def test_bad_gravity_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NewtonGravity(**keywords)


def test_bodies_without_strength_are_refused() -> None:
    with pytest.raises(InputError, match=r"Define strength\(self\)"):
        PointMasses()


class DragGravity(NewtonGravity):
    """Gravity less a drag in proportion to the velocity."""

    drag = Unknown(0.1, between(0.0, 1.0), unit="1/yr")

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        return super().acceleration(t, r, v) - self.drag * v


def test_a_subclass_is_made_as_the_usual_model_is() -> None:
    experiment = load("threebody", points=8, start="1.2,1,0.9")
    usual, drag = build(experiment), build(experiment, model=DragGravity)
    assert isinstance(usual, NewtonGravity)
    assert isinstance(drag, DragGravity)
    assert (drag.coupling, drag.velocity_scale) == (usual.coupling, usual.velocity_scale)
    torch.testing.assert_close(drag.mass, usual.mass)
    y = experiment.initial
    torch.testing.assert_close(drag(T0, y), usual(T0, y) - torch.stack((0 * y[1], 0.1 * y[1])))


def test_a_stranger_is_made_from_its_own_guesses() -> None:
    class Plain(Model):
        state_names = ("z",)
        rate = Unknown(2.0)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.rate * y

    experiment = Experiment("mine", Trajectory([0.0, 1.0], [[1.0], [0.5]]), [1.0])  # type: ignore[arg-type]
    assert float(build(experiment, model=Plain).values()["rate"]) == 2.0
    instance = Plain(rate=3.0)
    assert build(experiment, model=instance) is instance
    with pytest.raises(InputError, match="no model belongs to the experiment 'mine'"):
        build(experiment)


@cache
def measured_once(name: str) -> Experiment:
    """An experiment that is simulated once for all models."""
    return load(name)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_an_experiment_or_refuses_it_in_words(model: str) -> None:
    taken = []
    for name in ("exponential", "lotka-volterra", "pendulum", "threebody", "vanderpol"):
        try:
            built = build(measured_once(name), model=model)
        except InputError:
            continue
        assert tuple(built.state_shape) == tuple(measured_once(name).initial.shape)
        taken.append(name)
    wanted = {
        "blackbox": ["exponential", "lotka-volterra", "pendulum", "vanderpol"],
        "blackbox-motion": ["threebody"],
        "gravity-residual": ["threebody"],
    }
    assert taken == wanted.get(model, taken)


def test_what_cannot_be_built_is_refused() -> None:
    experiment = load("pendulum")
    with pytest.raises(InputError, match=r"unknown model 'pendulun'. Did you mean 'pendulum'"):
        build(experiment, model="pendulun")
    with pytest.raises(InputError, match=r"unknown knowledge for pendulum 'partial'.*Allowed: full"):
        build(experiment, knowledge="partial")
    with pytest.raises(InputError, match="both given"):
        build(experiment, knowledge="full", model="pendulum")
    with pytest.raises(InputError, match=r"Exponential has states of shape \[1\], but experiment pendulum has \[2\]"):
        build(experiment, model="exponential")
    with pytest.raises(InputError, match="type int"):
        build(experiment, model=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="positive number of metres"):
        MODELS["pendulum"](gravity=0.0)
