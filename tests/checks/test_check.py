"""`check`: what is said of models that are sound, and of models that are wrong in one way each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from variants import some

from physid.check import check
from physid.cli import main
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.datasets import load
from physid.modelling.model import Model
from physid.modelling.smooth import smooth_sign
from physid.modelling.unknown import Unknown, positive
from physid.models import build

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


class Sound(Model):
    """x'' = -k x - c sign(x'), with a smooth sign."""

    state_names = ("x", "v")
    units: ClassVar[dict[str, str]] = {"t": "s", "x": "m", "v": "m/s"}
    k = Unknown(4.0, positive)
    c = Unknown(0.1, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack((v, -self.k * x - self.c * self.friction(v)), -1)

    def friction(self, v: Tensor) -> Tensor:
        return smooth_sign(v, 0.1)


class Corner(Sound):
    def friction(self, v: Tensor) -> Tensor:
        return v * v.abs()


class Jump(Sound):
    def friction(self, v: Tensor) -> Tensor:
        return torch.sign(v)


class Detached(Sound):
    def friction(self, v: Tensor) -> Tensor:
        return v.detach()


class Stacked(Sound):
    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y[0], y[1]
        return torch.stack((v, -self.k * x - self.c * v))


class Odd(Sound):
    units: ClassVar[dict[str, str]] = {"t": "s", "x": "mmm"}


class Misnamed(Sound):
    units: ClassVar[dict[str, str]] = {"xx": "m"}


class Faulty(Sound):
    def friction(self, v: Tensor) -> Tensor:
        raise KeyError("no such table")


class Explodes(Sound):
    def friction(self, v: Tensor) -> Tensor:
        return v / 0.0


class Four(Model):
    """A pendulum by mass, length, inertia and friction, of which only two combinations act."""

    state_names = ("x", "v")
    channel_names = ("x",)
    mass = Unknown(1.2, positive)
    length = Unknown(0.8, positive)
    inertia = Unknown(0.9, positive)
    friction = Unknown(0.3, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        moment = self.mass * self.length**2 + self.inertia
        return torch.stack((v, -(self.mass * 9.81 * self.length * torch.sin(x) + self.friction * v) / moment), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


def experiment(channels: int = 2, **changes: Any) -> Experiment:
    t = torch.linspace(0, 3, 31, dtype=torch.float64)
    x = torch.stack((torch.cos(2 * t), -2 * torch.sin(2 * t)), -1)[:, :channels]
    return Experiment(**{"name": "swing", "train": Trajectory(t, x), "initial": [1.0, 0.5], **changes})


def statuses(model: Model, one: Experiment) -> dict[str, str]:
    return {finding.name: finding.status for finding in check(model, one)}


def test_a_sound_model_passes_everything() -> None:
    assert set(statuses(Sound(), experiment()).values()) == {"passed"}


@pytest.mark.parametrize(
    ("model", "name", "status", "part"),
    [
        (Corner, "smoothness", "warning", "Use smooth_abs"),
        (Jump, "smoothness", "failed", "Use smooth_sign"),
        (Detached, "gradient", "failed", "detach()"),
        (Stacked, "shapes", "failed", "y.unbind(-1)"),
        (Odd, "units", "failed", "[mmm] is not known"),
        (Misnamed, "units", "failed", "xx"),
        (Faulty, "shapes", "failed", "KeyError: 'no such table', line"),
        (Explodes, "solve", "failed", "not-a-number"),
    ],
)
def test_what_is_wrong_is_named(model: type[Model], name: str, status: str, part: str) -> None:
    found = {finding.name: finding for finding in check(model(), experiment())}
    assert found[name].status == status
    assert part in found[name].sentence
    assert found[name].sentence.endswith(".")


def test_what_the_data_do_not_tell_is_named_and_is_a_null_direction() -> None:
    model = Four()
    findings = {finding.name: finding for finding in check(model, experiment(1))}
    assert findings["identifiability"].status == "failed"
    text = findings["identifiability"].sentence
    first, second = text.split("the data do not determine ")[1].split(". Fix")[0].split("; nor ")
    assert "log(mass)" in first + second
    # along a named direction g m l / I and friction / I stay as they are
    values = {name: float(value) for name, value in model.values().items()}
    moment = values["mass"] * values["length"] ** 2 + values["inertia"]
    part = values["mass"] * values["length"] ** 2 / moment
    for combination in (first, second):
        weights = dict.fromkeys(values, 0.0)
        words = combination.split()
        for weight, name in zip(words[::2], words[1::2], strict=True):
            weights[name.removeprefix("log(").removesuffix(")")] = float(weight)
        d_moment = part * (weights["mass"] + 2 * weights["length"]) + (1 - part) * weights["inertia"]
        assert weights["mass"] + weights["length"] - d_moment == pytest.approx(0.0, abs=5e-3)
        assert weights["friction"] - d_moment == pytest.approx(0.0, abs=5e-3)


def test_the_model_is_left_as_it_was() -> None:
    model = Sound(k=3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check(model, experiment())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_inputs_are_no_corner() -> None:
    class Driven(Sound):
        input_names = ("force",)

        def friction(self, v: Tensor) -> Tensor:
            (force,) = self.inputs(torch.zeros(v.shape, dtype=v.dtype))
            return force

    force = Inputs.through(np.arange(5.0), np.arange(5.0), ["force"])
    assert statuses(Driven(), experiment(inputs=force))["smoothness"] == "passed"


@pytest.mark.parametrize("name", some(["pendulum", "lotka-volterra", "threebody"], "pendulum"))
def test_models_of_the_catalogue_pass(name: str) -> None:
    one = load(name, points=20)
    assert "failed" not in statuses(build(one), one).values()


def test_the_command_ends_with_6_where_a_check_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("t,x\n0,1\n1,0.6\n2,0.4\n3,0.2\n")
    source = (
        "import torch\nfrom physid import Model, Unknown\nclass Decay(Model):\n    state_names = ('x',)\n"
        "    k = Unknown(0.5)\n    units = {'x': 'm'}\n    def field(self, t, y): return -self.k * LAW\n"
    )
    Path("sound.py").write_text(source.replace("LAW", "y"))
    Path("jump.py").write_text(source.replace("LAW", "torch.sign(y)"))
    assert main(["check", "sound.py:Decay", "--data", "a.csv"]) == 0
    assert "Every check passed." in capsys.readouterr().out
    assert main(["check", "jump.py:Decay", "--data", "a.csv", "--json"]) == 6
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["status"] == "failed"
    assert {line["name"]: line["status"] for line in lines[:-1]}["smoothness"] == "failed"
    assert main(["check", "sound.py:Decay", "--data", "none.csv"]) == 2
