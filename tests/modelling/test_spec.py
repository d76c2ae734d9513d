"""Models: how they are made, what a subclass changes, what torch's transforms and state_dict see."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.func import functional_call, jacfwd, vmap

from physid.errors import InputError
from physid.modelling.model import STATE_VERSION, Model, SecondOrder, keyword_names
from physid.modelling.unknown import Domain, Unknown, between, positive

# torch itself, when its transforms are first used
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


class Spring(Model):
    """x'' = -stiffness x - damping x'."""

    state_names = ("x", "v")
    stiffness = Unknown(4.0, positive, unit="1/s^2")
    damping = Unknown(0.1, between(0.0, 1.0), unit="1/s")

    def __init__(self, *, rest: float = 0.0, **values: object) -> None:
        super().__init__(**values)
        self.rest = rest

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack((v, -self.stiffness * (x - self.rest) - self.damping * v), -1)


class Falling(SecondOrder):
    """Bodies that fall at an unknown rate."""

    bodies = 2
    rate = Unknown(9.81, positive)

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        return -self.rate * torch.ones_like(r)


def test_unknowns_are_collected_over_the_bases() -> None:
    class Stiff(Spring):
        stiffness = Unknown(9.0, positive)
        extra = Unknown(0.0)

    class Undamped(Spring):
        damping = 0.0  # type: ignore[assignment]  # a constant in place of the unknown

    assert list(Spring.unknowns) == ["stiffness", "damping"]
    assert list(Stiff.unknowns) == ["stiffness", "damping", "extra"]
    assert Stiff().values()["stiffness"].item() == pytest.approx(9.0)
    assert list(Undamped.unknowns) == ["stiffness"]
    assert Undamped().field(torch.tensor(0.0), torch.tensor([1.0, 1.0])).tolist() == [1.0, -4.0]


def test_unknown_keyword_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"keyword of Spring 'stifness'. Did you mean 'stiffness'\?"):
        Spring(stifness=1.0)
    with pytest.raises(InputError, match=r"Did you mean 'rest'\?"):
        Spring(rests=1.0)


def test_keyword_names_follow_the_constructors() -> None:
    class Closed(Spring):
        def __init__(self, rest: float) -> None:
            super().__init__(rest=rest)

    assert keyword_names(Spring) == ["stiffness", "damping", "rest"]
    assert "rest" in keyword_names(Closed)


def test_what_is_not_defined_is_said() -> None:
    with pytest.raises(InputError, match=r"Define field\(self, t, y\)"):
        Model().field(torch.tensor(0.0), torch.zeros(1))
    with pytest.raises(InputError, match=r"Define acceleration\(self, t, r, v\)"):
        SecondOrder().field(torch.tensor(0.0), torch.zeros(2, 1, 3))


def test_second_order_state() -> None:
    model = Falling(rate=10.0)
    state = torch.randn(5, 2, 2, 3, dtype=torch.float64)
    rate = model(torch.tensor(0.0), state)
    assert model.state_shape == (2, 2, 3)
    torch.testing.assert_close(rate[:, 0], state[:, 1])
    torch.testing.assert_close(rate[:, 1].detach(), torch.full((5, 2, 3), -10.0, dtype=torch.float64))
    torch.testing.assert_close(model.observe(state), state[:, 0])


def test_fix_and_release() -> None:
    model = Spring()
    model.fix("stiffness", 2.0)
    assert list(model.free()) == ["damping"]
    assert model.stiffness.item() == pytest.approx(2.0)
    model.release("stiffness")
    assert list(model.free()) == ["stiffness", "damping"]
    with pytest.raises(InputError, match="Did you mean 'damping'"):
        model.fix("dampin")


def test_transforms_see_the_raw_parameters() -> None:
    model = Spring(stiffness=4.0)
    y, t = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor(0.0)

    def pull(raw: Tensor) -> Tensor:
        out: Tensor = functional_call(model, {"raw.stiffness": raw}, (t, y))
        return out

    raws = torch.log(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    torch.testing.assert_close(vmap(pull)(raws)[:, 1], -raws.exp())
    torch.testing.assert_close(jacfwd(pull)(raws[2])[1], -raws[2].exp())
    assert model.stiffness.item() == pytest.approx(4.0)


def test_precision_and_copies() -> None:
    model = Spring()
    assert model.stiffness.dtype == torch.float64
    single = copy.deepcopy(model).to(torch.float32)
    assert single(torch.tensor(0.0), torch.ones(2)).dtype == torch.float32
    assert model.stiffness.dtype == torch.float64


def test_state_dict_carries_version_and_natural_values(tmp_path: Path) -> None:
    model = Spring(stiffness=3.0, damping=0.25)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    state = load_file(tmp_path / "model.safetensors")
    assert int(state["version"]) == STATE_VERSION
    assert float(state["natural.damping"]) == pytest.approx(0.25)
    other = Spring()
    other.load_state_dict(state)
    torch.testing.assert_close(other.values(), model.values())


def test_natural_values_survive_a_change_of_domain() -> None:
    class Wider(Spring):
        stiffness = Unknown(1.0, Domain("above", -5.0))

    wider = Wider()
    wider.load_state_dict(Spring(stiffness=3.0).state_dict())
    assert wider.stiffness.item() == pytest.approx(3.0)


def test_state_of_a_nested_model_is_loaded() -> None:
    outer, other = (torch.nn.Sequential(Spring(stiffness=k)) for k in (3.0, 5.0))
    other.load_state_dict(outer.state_dict())
    torch.testing.assert_close(other[0].values(), outer[0].values())  # type: ignore[operator]


def test_a_newer_state_is_refused() -> None:
    state = Spring().state_dict()
    state["version"] = torch.tensor(STATE_VERSION + 1)
    with pytest.raises(InputError, match="Update physid"):
        Spring().load_state_dict(state)


def test_a_strange_state_is_refused() -> None:
    state = Spring().state_dict()
    state["raw.other"] = torch.tensor(1.0)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*raw\.other"):
        Spring().load_state_dict(state)


def test_repr_shows_the_values() -> None:
    assert "stiffness=4.0" in repr(Spring())
