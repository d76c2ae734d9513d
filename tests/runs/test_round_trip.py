"""What a run directory keeps: every field of the integrator and of the experiments, and nothing in two codes."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from physid import Experiment, Fit, Inputs, Integrator, Model, Trajectory, Unknown, fit
from physid.errors import InputError
from physid.formats import read_archive
from physid.inference.options import default_integrator
from physid.inference.parameters import ParameterVector
from physid.inference.simulate import simulate
from physid.models import Exponential
from physid.ode import ACA, METHODS, PID, Adjoint, Fixed, Probes
from physid.ode.request import Limits
from physid.predict.ensemble import band
from physid.runs.codec import decode, encode, integrator_data, integrator_of, unsaid
from physid.runs.experiments import experiment_files, experiments_of
from physid.runs.origin import beginning

# for every field of an integrator values that are none of its default
OTHERS: dict[str, list[Any]] = {
    "solver": ["tsit5", replace(METHODS["tsit5"], name="mine")],
    "rtol": [1e-4, torch.tensor([1e-4, 1e-6], dtype=torch.float64)],
    "atol": [1e-5, torch.tensor([1e-5], dtype=torch.float64)],
    "control": ["pi", PID("mine", p=0.2, i=0.3), Fixed(0.01), Fixed()],
    "gradient": ["forward", ACA(checkpoints=7), Adjoint(rtol=1e-3, limits=Limits(max_steps=5))],
    "engine": ["eager", "native"],
    "exact": [True],
    "first_step": [0.125],
    "max_step": [0.1],
    "max_steps": [77],
    "time_limit": [12.5],
    "checkpoints": [3],
    "probes": [2, Probes(2, (0.5, 1e-9), (0.0, 3.0), 5)],
}
CODE = ("norm",)  # fields that hold functions, which a run refuses


def same(a: Any, b: Any) -> bool:
    """Whether two values are one, tensors and arrays by their numbers and types."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Trajectory | Inputs | Experiment):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b) and type(a) is type(b)


@pytest.mark.parametrize("name", [field.name for field in fields(Integrator) if field.name not in CODE])
def test_every_field_of_an_integrator_survives(name: str) -> None:
    assert name in OTHERS, f"{name} is new: give it values here, and see that runs/codec.py keeps them"
    for value in OTHERS[name]:
        one = replace(Integrator(), **{name: value})
        again = integrator_of(json.loads(json.dumps(integrator_data(one), allow_nan=False)))
        for field in fields(Integrator):
            assert same(getattr(again, field.name), getattr(one, field.name)), field.name


def test_what_is_no_data_is_refused_before_a_fit_is_written(tmp_path: Path) -> None:
    def mine(error: Any) -> Tensor:
        found: Tensor = error.abs().max()
        return found

    asked = Integrator("dopri8", 1e-8, 1e-8, norm=mine)
    assert "mine" in next(unsaid(integrator_data(asked)))
    with pytest.raises(InputError, match=r"norm .*mine.* is code, which a run directory cannot keep"):
        fit(Exponential(), decay(), integrator=asked, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    found = replace(fit(Exponential(), decay()), integrator=asked)
    with pytest.raises(InputError, match="cannot keep"):
        found.save(tmp_path / "run")
    with pytest.raises(InputError, match="by name only"):
        integrator_of(integrator_data(asked))


VALUES = [
    *(None, True, 3, "text", 0.1, float("inf"), float("-inf"), [1, 2.5], (1, (2.0, "a")), {"a": (1,), "tuple": [2]}),
    *(torch.tensor([1.0, float("inf")]), torch.zeros(2, 0), np.array([[1, 2]]), np.array(True)),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_were(value: Any) -> None:
    assert same(decode(json.loads(json.dumps(encode(value), allow_nan=False))), value)


def decay(**options: Any) -> Experiment:
    t = torch.linspace(0, 2, 12, dtype=torch.float64)
    y = torch.exp(-0.5 * t)[:, None] + 0.01 * torch.sin(40 * t)[:, None]
    return Experiment("decay", Trajectory(t, y), torch.ones(1), **options)


def full(**options: Any) -> Experiment:
    """An experiment in which no field is as by default."""
    t = torch.linspace(0, 1.1, 12, dtype=torch.float64)
    y = torch.exp(-0.5 * t)[:, None]
    y[3] = float("nan")
    return Experiment(
        name="full",
        train=Trajectory(t[:8], y[:8]),
        test=Trajectory(t[8:], y[8:]),
        initial=torch.tensor([0.9], dtype=torch.float64),
        initial_time=-0.5,
        initial_free=torch.tensor([True]),
        initial_scale=torch.tensor([3.0], dtype=torch.float64),
        channels=("u",),
        channel_units=("V",),
        unit="V",
        time_unit="s",
        start={"k": np.array([0.3]), "other": torch.tensor([1.0])},
        constants={"gravity": 9.7, "pair": (1, 2), "matrix": torch.eye(2)},
        truth={"k": 0.5, "unseen": float("nan")},
        sigma=0.02,
        source="here",
        data_hash="abc",
        metric="sum",
        noise="normal",
        options={"window": (1970.0, 2000.0), "tables": None},
        inputs=Inputs.through([-1.0, 0.5, 1.0], [[1.0], [2.0], [0.5]], ["power"]),
        integrator={"solver": "rk4", "max_step": float("inf"), "control": PID("pi", p=0.4, i=0.3)},
        **options,
    )


def test_every_field_of_an_experiment_survives() -> None:
    one = full(validation=full())
    plain = Experiment("plain", Trajectory(torch.arange(3.0), torch.ones(3, 1)), torch.zeros(1))
    for field in fields(Experiment):  # nothing is left as by default, so nothing can be lost unseen
        assert not same(getattr(one, field.name), getattr(plain, field.name)), field.name
    files = experiment_files([one, replace(one, name="second")])
    again = experiments_of(json.loads(files["data.json"]), read_archive(files["data.npz"]))
    truth = dict(one.truth)
    for before, after in zip([one, replace(one, name="second")], again, strict=True):
        assert np.isnan(after.truth["unseen"])
        for each in (before, after):
            object.__setattr__(each, "truth", {"k": truth["k"]})
            assert each.validation is not None
            object.__setattr__(each.validation, "truth", {})
        for field in fields(Experiment):
            assert same(getattr(after, field.name), getattr(before, field.name)), field.name


def test_load_resume_and_verify_take_the_integrator_of_the_fit(tmp_path: Path) -> None:
    asked = replace(default_integrator(), engine="eager", max_step=0.4, first_step=0.2, control=PID("mine", safety=0.7))
    found = fit(Exponential(), decay(), integrator=asked, out=tmp_path / "run")
    kept = replace(asked, atol=found.integrator.atol, max_steps=found.integrator.max_steps)  # by the states, the record
    assert found.integrator == kept
    assert Fit.load(tmp_path / "run").integrator == kept
    request, _ = beginning(tmp_path / "run", None, False)
    assert request.options.integrator == asked
    by_data = fit(Exponential(), decay(integrator={"max_step": 0.1}), out=tmp_path / "other")
    assert by_data.integrator.max_step == 0.1
    assert Fit.load(tmp_path / "other").experiment.integrator == {"max_step": 0.1}
    assert Fit.load(tmp_path / "other").integrator == by_data.integrator


def test_a_run_of_an_older_layout_is_read(tmp_path: Path) -> None:
    found = fit(Exponential(), decay(constants={"size": 2.0}), out=tmp_path / "run")
    about = json.loads((tmp_path / "run" / "settings.json").read_text())
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    del about["integrator"], data["integrator"]
    data |= {"constants": {"size": 2.0}, "start": {}, "truth": {}, "options": {}, "channels": ["y[0]"]}
    from physid.runs.fits import read_integrator

    assert read_integrator(about) == replace(found.integrator, probes=0)  # such runs had none
    (again,) = experiments_of(data, read_archive((tmp_path / "run" / "data.npz").read_bytes()))
    assert again.constants == {"size": 2.0}


class Heater(Model):
    """A pot that is heated by a held input, and loses heat."""

    state_names = ("T",)
    input_names = ("power",)
    gain = Unknown(1e-3)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (power,) = self.inputs(t)
        return self.gain * power[..., None] - 0.01 * y


def test_draws_of_a_driven_model_run_as_a_fit_does_and_keep_its_integrator() -> None:
    t = torch.linspace(0, 100, 5, dtype=torch.float64)
    power = Inputs.through([0.0, 60.0, 200.0], [[1000.0], [0.0], [500.0]], ["power"])
    experiment = Experiment("pot", Trajectory(t + 1, torch.ones(5, 1)), torch.tensor([20.0]), inputs=power)
    vector = ParameterVector(Heater(), experiment)
    integrator = Integrator("tsit5", 1e-10, 1e-10, gradient="forward")
    drawn = np.stack([one.mean for one in simulate(vector, np.array([[1e-3], [2e-3]]), t[1:], integrator)])
    alone = [simulate(vector, [np.array([gain])], t[1:], integrator, True)[0].mean for gain in (1e-3, 2e-3)]
    np.testing.assert_allclose(drawn, np.stack(alone), rtol=1e-9)
    gains, heated, cooled = np.array([1e-3, 2e-3]), np.exp(-0.01 * 59), np.exp(-0.01 * 40)  # from t = 1 on
    at_60 = 20 * heated + gains * 1000 / 0.01 * (1 - heated)
    np.testing.assert_allclose(drawn[:, -1, 0], at_60 * cooled, rtol=1e-8)
    short = simulate(vector, np.array([[1e-3], [2e-3]]), t[1:], replace(integrator, max_steps=1))
    few = np.stack([one.mean for one in short])
    assert np.isnan(few[:, -1]).all()


def test_the_band_of_seeds_holds_a_further_one() -> None:
    """Over many samples of a normal distribution 95 % of the next ones lie in it; two seeds make none."""
    rng = np.random.default_rng(0)
    for count in (3, 5):
        paths = rng.normal(size=(count, 4000, 1))
        low, high = band(paths)
        further = rng.normal(size=low.shape)
        assert ((further > low) & (further < high)).mean() == pytest.approx(0.95, abs=0.015)
    assert np.isnan(band(rng.normal(size=(2, 3, 1)))).all()
