"""Table 4 and its figures on a few random throws: a training that goes on, and what is made of several."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from physid.api.train import Trained
from physid.datasets import hopper as data
from physid.ode.hearing import TimeUp
from physid.reproduce import Work
from physid.reproduce import hopper as exhibit

TINY: dict[str, Any] = {"observed": 0.1, "seed": 1, "trajectories": 60, "epochs": 2, "width": 4, "depth": 0, "every": 1}


@pytest.fixture(autouse=True)
def _throws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "throws", lambda n, progress: np.random.default_rng(0).uniform(0, 1, (n, 200, 14)))


def test_a_training_goes_on_where_time_ran_out(tmp_path: Path) -> None:
    whole = exhibit.compute(Work(tmp_path / "a"), network="rnn", **TINY)
    assert [row["epoch"] for row in whole["history"]] == [1, 2]
    assert (whole["steps"], whole["history"][1]["test_mse"] > 0) == (1, True)
    assert whole["mean_predictor"] == pytest.approx(1 / 12, rel=0.05)
    with pytest.raises(TimeUp):
        exhibit.compute(Work(tmp_path / "b", deadline=time.monotonic() + 1e-3), network="rnn", **TINY)
    rest = exhibit.compute(Work(tmp_path / "b"), network="rnn", **TINY)
    assert [row["test_mse"] for row in rest["history"]] == [row["test_mse"] for row in whole["history"]]


def test_gradient_methods_are_those_that_were_asked_for(tmp_path: Path) -> None:
    found = exhibit.compute(Work(tmp_path / "aca"), network="latent-ode aca", **{**TINY, "epochs": 1})
    assert found["history"][0]["evaluations"] >= 14
    exhibit.compute(Work(tmp_path / "naive"), network="latent-ode naive", **{**TINY, "epochs": 1})
    for name in ("aca", "naive"):
        gradient = Trained.load(tmp_path / name).learner.integrator.gradient  # type: ignore[union-attr]
        assert getattr(gradient, "name", gradient) == name


def results(errors: dict[str, list[float]], compared: bool) -> dict[str, dict[str, object]]:
    """Trainings that ended with these errors, by network and seed."""
    return {
        exhibit.key(name, 0.1, seed, compared): {
            "steps": 8,
            "mean_predictor": 0.06,
            "history": [
                {"epoch": 1, "loss": 2.0, "test_mse": 2 * error, "seconds": 4.0, "evaluations": 14},
                {"epoch": 2, "loss": 1.0, "test_mse": error, "seconds": 8.0, "evaluations": 14},
            ],
        }
        for name, row in errors.items()
        for seed, error in enumerate(row)
    }


def test_table_and_verdict() -> None:
    errors = {"latent-ode aca": [0.03, 0.031, 0.032], "latent-ode naive": [0.03, 0.03, 0.033], "rnn": [0.05]}
    errors["latent-ode adjoint"] = [0.04, 0.04, 0.04]
    table = exhibit.TABLE4.table(results(errors, compared=True) | results({"rnn": [0.05]}, compared=False))
    assert [row[0] for row in table.rows] == ["rnn", "compared: adjoint", "compared: naive", "compared: aca"]
    assert table.rows[0][1:8] == [10.0, 2.45, 5.0, None, 5.0, 1, 6.0]
    assert table.rows[3][3:7] == [pytest.approx(3.1), pytest.approx(0.1), pytest.approx(3.0), 3]
    assert table.rows[0][8:] == [16, 14, 0.5]
    (verdict,) = table.notes[1:]
    assert "below naive in 1 of 3 seeds" in verdict
    assert "below adjoint in 3 of 3 seeds" in verdict
    figure = exhibit.TABLE4.figure(results({"rnn": [0.05]}, compared=False))
    assert figure is not None
    assert [line.get_label() for line in figure.axes[0].lines if not line.get_label().startswith("_")] == [  # type: ignore[attr-defined]
        "rnn",
        "mean predictor",
        "paper, at the end",
    ]
