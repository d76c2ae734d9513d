"""What a fit makes of a user's own modules: how weights are drawn, held, named, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from damped import ROUGH, Damped, Penalised, alike, swing, weights
from torch import Tensor, nn

from physid import Model, Unknown, between, fit, positive
from physid.check import check
from physid.datasets import load
from physid.errors import InputError
from physid.inference.assemble import agree, prepare
from physid.inference.fit_options import FitOptions
from physid.inference.parameters import ParameterVector, vector_of
from physid.inference.problem import Problem
from physid.inference.search.start_points import draws
from physid.modelling.modules import trained
from physid.modelling.prior import Ridge
from physid.models import NewtonGravity, build


def test_weights_are_drawn_from_the_seed_as_the_constructor_draws_them() -> None:
    torch.manual_seed(11)
    one, other = Damped(), Damped()
    one.draw(5)
    other.draw(5)
    torch.manual_seed(5)
    assert alike(weights(one), weights(other))
    assert alike(weights(one), weights(Damped()))
    one.draw(6)  # drawn before
    assert alike(weights(one), weights(other))
    one.draw(6, anew=True)
    assert not alike(weights(one), weights(other))
    state = torch.get_rng_state()
    one.draw(1, anew=True)
    assert torch.equal(state, torch.get_rng_state())  # a draw takes nothing from torch's own random numbers
    given = Damped()
    given.friction.load_state_dict(other.friction.state_dict())
    given.draw(7)
    assert alike(weights(given), weights(other))
    kept = copy.deepcopy(Damped())
    kept.draw(5)
    assert alike(weights(kept), weights(other))
    thawed = pickle.loads(pickle.dumps(other))
    assert alike(weights(thawed), weights(other))


class Zeroed(Damped):
    """A network that is without effect at first, beside one that is held, with a buffer and a shared layer."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        last: Any = self.friction[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.encoder = nn.Linear(1, 1).requires_grad_(False)
        self.twice = nn.ModuleList([last, last])
        self.register_buffer("size", torch.tensor(2.0))


def test_what_is_held_stays_and_what_is_shared_counts_once() -> None:
    model = Zeroed()
    before = weights(model)
    vector = vector_of(model, swing())
    assert [name for name in vector.names if "." in name] == [
        *("friction.0.weight", "friction.0.bias", "friction.2.weight", "friction.2.bias")
    ]
    assert len(vector) == 1 + 19
    assert trained(model) == "19 weights of friction; 2 weights of encoder held"
    found = fit(model, swing(), optimizer="adam", epochs=2, integrator=ROUGH)
    now = weights(found.model)
    assert all(torch.equal(now[name], before[name]) == name.startswith("encoder") for name in now)
    assert float(found.model.size) == 2.0  # type: ignore[arg-type]
    twice: Any = found.model
    assert twice.twice[0].weight is twice.friction[-1].weight
    assert "2 weights of encoder held" in str(found.report())
    assert float(found.estimates[-1].start) == 0.0  # zero as the constructor made it, whatever the seed
    prepare(model, FitOptions(fix={"friction": None}, free=["encoder"]))
    assert list(model.free()) == ["k", "encoder.weight", "encoder.bias"]


def test_a_penalty_keeps_weights_small() -> None:
    model = Penalised()
    vector = ParameterVector(model, swing())
    problem = Problem(vector, replace(ROUGH, gradient="forward"))
    point = problem.at(vector.get())
    assert point is not None
    assert len(point.residual) == 122 + 19
    natural = vector.natural(vector.get())[1:]
    sizes = np.where(np.arange(19) == 18, 1e-6, 1.0)
    noise = np.where(np.arange(19) == 18, Ridge().noise, 1e-2)
    np.testing.assert_allclose(point.residual[122:], natural / sizes * noise / np.sqrt(122))
    found = fit(model, swing(), integrator=ROUGH)
    assert abs(found.estimates[-1].value) < 1e-3
    (group,) = found.report().json()["weights"]
    assert (group["name"], group["count"]) == ("friction", 19)
    assert group["rms"] < 1.0


def test_many_starts_draw_their_own_weights() -> None:
    model = Damped()
    model.draw(4)
    vector = ParameterVector(model, swing())
    first = vector.get()
    begins = draws(vector, first, 3, seed=4)
    assert np.array_equal(vector.get(), first)
    twin = Damped()
    for number in (1, 2):
        twin.draw(4 + number, anew=True)
        np.testing.assert_array_equal(begins[number][1:], ParameterVector(twin, swing()).get()[1:])
        assert begins[number][0] != first[0]


def test_several_seeds_have_a_spread_or_are_refused() -> None:
    found = fit(Damped(), swing(), optimizer="adam", epochs=3, integrator=ROUGH, seeds=3, seed=2)
    alone = fit(Damped(), swing(), optimizer="adam", epochs=3, integrator=ROUGH, seed=3)
    np.testing.assert_allclose(found.members[1], alone.x, rtol=1e-9)
    forecast = found.forecast(6.0, points=4)
    assert (forecast.high[1:] > forecast.low[1:]).all()

    class Seeded(Damped):
        def __init__(self, **values: Any) -> None:
            torch.manual_seed(0)
            super().__init__(**values)

    class Known(Model):
        state_names = ("x", "v")
        k = Unknown(2.0, positive)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return torch.stack((y[..., 1], -self.k * y[..., 0]), -1)

    for model in (Seeded(), Known()):
        with pytest.raises(InputError, match="begins alike from each"):
            fit(model, swing(), seeds=2)


def test_a_model_inside_a_model_keeps_its_domains() -> None:
    """Its unknowns stay what they are declared as."""

    class Spring(Model):
        state_names = ("x",)
        stiffness = Unknown(2.0, between(0.5, 5.0), unit="N/m", prior=None)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.stiffness * y

    class Outer(Model):
        state_names = ("x", "v")
        loss = Unknown(0.1, positive)

        def __init__(self, **values: object) -> None:
            super().__init__(**values)
            self.spring = Spring()

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            x, v = y.unbind(-1)
            return torch.stack((v, self.spring.field(t, x) - self.loss * v), -1)

    found = fit(Outer(), swing(), optimizer="lbfgs", integrator=replace(ROUGH, engine="eager"))
    values = {one.name: one for one in found.listed}
    assert values["spring.stiffness"].value == pytest.approx(2.5, abs=0.05)
    assert values["spring.stiffness"].unit == "N/m"
    assert "spring.stiffness" in str(found.report())
    model = Outer()
    model.fix("spring.stiffness", 4.0)
    assert model.values()["spring.stiffness"] == pytest.approx(4.0)


class Bare(Model):
    """dx/dt = -k x, to be given modules."""

    state_names = ("x", "v")
    k = Unknown(2.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * y


def given(module: Callable[[], Any]) -> Model:
    model = Bare()
    model.net = module()
    return model


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.1)), r"net\.1 of Bare is a Dropout in training mode"),
        (lambda: nn.BatchNorm1d(2), "its value depends on the batch"),
        (lambda: nn.LazyLinear(2), "has no shape yet"),
        (lambda: nn.Linear(1, 1, dtype=torch.complex128), "is complex"),
        (lambda: nn.Linear(64, 64), "4160 weights to train: expected up to 4000"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_modules_that_cannot_be_trained_are_refused(module: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit(given(module), swing())
    found = {one.name: one for one in check(given(module), swing())}
    assert found["unknowns"].status == "failed"


def test_names_that_cannot_be_are_refused() -> None:
    class Wrong(Bare):
        penalties = {"nett": Ridge()}  # noqa: RUF012

    model = Wrong()
    model.net = nn.Linear(1, 1)
    with pytest.raises(InputError, match="'net'"):
        fit(model, swing())
    with pytest.raises(InputError, match="as 'inputs', which models have already"):
        setattr(model, "inputs", nn.Linear(1, 1))  # noqa: B010
    with pytest.raises(InputError, match="net"):
        model.fix("ne")
    with pytest.raises(InputError, match="is a weight of a module"):
        model.tie("net.bias", "2 * k")
    still = given(lambda: nn.Dropout(0.1).eval())
    assert still.net is not None
    model.net = nn.Linear(1, 1).float()
    assert model.net.weight.dtype == torch.float64


class Drag(NewtonGravity):
    """Newton's gravity with a drag."""

    drag = Unknown(0.1, between(-1.0, 1.0), unit="1/yr")

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        return super().acceleration(t, r, v) - self.drag * v


def test_the_constants_of_an_experiment_are_used_or_asked_about() -> None:
    data = load("threebody", points=20)
    with pytest.raises(InputError, match=r"has coupling=0\.2004844, but the Drag to be fitted has 1\.0"):
        fit(Drag(), data)
    finding = {one.name: one for one in check(Drag(), data)}["unknowns"]
    assert finding.status == "failed"
    assert "has coupling=" in finding.sentence
    made = build(data, model=Drag)
    assert (made.coupling, made.velocity_scale) == (data.constants["coupling"], data.constants["velocity_scale"])
    agree(made, [data])
    agree(Drag(coupling=1.0, velocity_scale=2.0), [data])  # given by hand, so meant
    with pytest.raises(InputError, match="has velocity_scale="):
        agree(Drag(coupling=1.0), [data])


@pytest.mark.slow
def test_bodies_with_the_constants_of_their_experiment_are_found() -> None:
    data = load("threebody", points=20)
    found = fit(build(data, model=Drag), data)
    assert [one.value for one in found.estimates] == pytest.approx([1.1, 1.1, 0.9, 0.0], abs=1e-4)
