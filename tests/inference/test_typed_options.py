"""What is typed, or written in settings, of the integrator of a fit, beside what experiment and model say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from physid import Fit
from physid.cli.app import main
from physid.machine import compiler_command

Captured = pytest.CaptureFixture[str]

OWN = '''
import numpy as np
from physid import Experiment, Model, Trajectory, Unknown, positive

class Cooling(Model):
    """T' = -k (T - 20)."""
    state_names = ("T",)
    k = Unknown(0.2, positive)
    def field(self, t, y):
        return -self.k * (y - 20.0)

class Cautious(Cooling):
    """The same, with a recipe of its own."""
    recipe = {"max_step": 0.5}

TIMES = np.linspace(0.0, 10.0, 11)

def plant(**how):
    values = 20.0 + 60.0 * np.exp(-0.3 * TIMES) + 0.1 * np.cos(7.0 * TIMES)
    return Experiment("plant", Trajectory(TIMES, values[:, None]), initial=[80.0], integrator=how)

def held():
    """One step of the classical method from one sample to the next."""
    return plant(solver="rk4")

def coarse():
    """Steps that go by loose tolerances, landing on the samples."""
    return plant(solver="bosh3", rtol=1e-4, atol=1e-4, exact=True)
'''


@pytest.mark.parametrize(
    ("experiment", "typed", "changed"),
    [
        ("held", "", {}),
        ("held", "--rtol 1e-6", {"rtol": 1e-6}),
        ("held", "--engine eager --max-steps 500", {"max_steps": 500}),
        ("held", "--optimizer adam --atol 1e-5", {"gradient": "aca", "rtol": 1e-7, "atol": 1e-5}),
        ("held", "--solver tsit5", {"solver": "tsit5", "probes": 1}),
        ("coarse", "", {}),
        ("coarse", "--rtol 1e-6", {"rtol": 1e-6}),
        ("coarse", "--engine eager", {"probes": 0}),
        ("coarse", "--solver dopri8", {"solver": "dopri8"}),
        ("coarse", "--settings fit.yaml", {"rtol": 1e-5}),
        ("coarse", "--settings fit.yaml --rtol 1e-6", {"rtol": 1e-6}),
    ],
)
def test_a_typed_option_changes_its_field_of_the_experiments_own_integrator_alone(
    experiment: str,
    typed: str,
    changed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    Path("fit.yaml").write_text("rtol: 1e-5\n")
    own = {"solver": "rk4", "rtol": 1e-10, "atol": None, "exact": False, "max_steps": None, "probes": 0}
    if experiment == "coarse":
        own |= {
            "solver": "bosh3",
            "rtol": 1e-4,
            "atol": 1e-4,
            "exact": True,
            "probes": int(compiler_command() is not None),
        }
    if compiler_command() is None:
        changed = {name: value for name, value in changed.items() if name != "probes"}
    words = ["fit", f"own.py:{experiment}", "--model", "own.py:Cooling", "--dry-run", "--json", *typed.split()]
    assert main(words) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = own | {"gradient": "forward"} | changed
    assert {name: done[name] for name in expected} == expected


def test_a_fit_with_a_typed_option_is_by_the_experiments_own_integrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Steps of rk4 over whole intervals have an error that no tolerance changes; a model's recipe counts beside it."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    found = {}
    for name, typed in {
        "own": "",
        "rtol": "--rtol 1e-6",
        "eager": "--engine eager",
        "dopri8": "--solver dopri8",
    }.items():
        words = ["fit", "own.py:held", "--model", "own.py:Cooling", "--out", name, *typed.split()]
        assert main(words) == 0
        assert ("--rtol changes no step" in capsys.readouterr().err) == (name == "rtol")
        fitted = Fit.load(Path(name), trust=True)
        found[name] = fitted.estimates[0].value
        assert fitted.integrator.solver == ("dopri8" if name == "dopri8" else "rk4")
    assert found["rtol"] == pytest.approx(found["own"], rel=1e-9)
    assert found["eager"] == pytest.approx(found["own"], rel=1e-9)
    assert abs(found["dopri8"] / found["own"] - 1) > 1e-6
    assert main(["fit", "own.py:held", "--model", "own.py:Cautious", "--rtol", "1e-6", "--out", "recipe"]) == 0
    assert Fit.load(Path("recipe"), trust=True).integrator.max_step == 0.5
