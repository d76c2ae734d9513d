"""Runs of fits with several experiments, noise models, ties and many starts: kept whole, resumed, verified."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from physid import Experiment, Fit, Unknown, fit
from physid.cli.app import main
from physid.datasets import load
from physid.errors import InputError
from physid.inference.search.monitor import Monitor
from physid.inference.search.optimizer import StrategyState
from physid.inference.search.workers import WorkersState
from physid.models import Pendulum
from physid.runs import writer
from physid.runs.verify import verify

Captured = pytest.CaptureFixture[str]


def pair() -> list[Experiment]:
    one = load("pendulum", noise=0.01, seed=1, points=40)
    return [one, replace(load("pendulum", noise=0.01, seed=2, points=30), name="second")]


class Stopper:
    """Interrupts a fit at one evaluation."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, fields: Mapping[str, Any]) -> None:
        if fields["evaluation"] == self.at:
            raise KeyboardInterrupt


CASES: dict[str, dict[str, Any]] = {
    "several": {},
    "held out": {"holdout": "second"},
    "part held out": {"holdout": 0.2},
    "tied": {"tie": {"friction": "length / 7"}},
    "sigmas": {"noise": "normal"},
    "student": {"noise": "student:5"},
    "loss": {"loss": "huber", "loss_scale": 0.02},
    "starts": {"starts": 3, "seed": 5},
    "grow": {"strategy": "grow"},
}


Whole = Callable[[str], tuple[Fit, Path]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The undisturbed fit of a case, and its run: one for all tests that only look at it."""

    @cache
    def of(case: str) -> tuple[Fit, Path]:
        run = tmp_path_factory.mktemp("whole") / "run"
        return fit(Pendulum(), pair(), out=run, **CASES[case]), run

    return of


SEEN_ELSEWHERE = ("part held out", "held out", "tied", "student", "grow")  # in fits of one experiment, and below


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SEEN_ELSEWHERE else case for case in CASES]
)
def test_what_is_kept_is_what_was_found(case: str, whole: Whole) -> None:
    found, run = whole(case)
    again = Fit.load(run)
    assert found.status == again.status == "converged"
    assert [one.name for one in again.experiments] == [one.name for one in found.experiments]
    for a, b in zip(again.experiments, found.experiments, strict=True):
        assert (len(a.train), a.sigma) == (len(b.train), b.sigma)
    assert again.scores_of == found.scores_of
    assert again.likelihood == found.likelihood
    assert again.starts == found.starts
    assert np.array_equal(again.x, found.x)
    checked = verify(run)
    assert checked.differences == []
    assert checked.compared == len(found.estimates)


def cuts() -> list[Any]:
    """Every case cut off early and late; some of both by default, the others under -m slow."""
    default = [("several", False), ("sigmas", True)]
    every = [(case, late) for late in (False, True) for case in CASES]
    return [*default, *(pytest.param(*one, marks=pytest.mark.slow) for one in every if one not in default)]


@pytest.mark.parametrize(("case", "late"), cuts())
def test_an_interrupted_fit_goes_on_to_the_same_end(
    case: str, late: bool, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    undisturbed, _ = whole(case)
    at = len(undisturbed.history) - 1 if late else len(undisturbed.history) // 3
    run = tmp_path / "run"
    assert fit(Pendulum(), pair(), out=run, progress=Stopper(at), **CASES[case]).status == "interrupted"
    found = Fit.resume(run)
    assert found.status == "converged"
    assert found.x == pytest.approx(undisturbed.x, rel=1e-5, abs=1e-7)
    assert [one.start for one in found.starts] == [one.start for one in undisturbed.starts]
    assert Fit.load(run).status == "converged"


def test_a_profile_of_several_is_that_of_all_and_a_loss_has_none(whole: Whole) -> None:
    found, _ = whole("several")
    (profile,) = found.profile("length")[1]
    estimate = next(one for one in found.estimates if one.name == "length")
    assert profile.low == pytest.approx(estimate.low, rel=1e-5)
    assert profile.high == pytest.approx(estimate.high, rel=1e-5)
    with pytest.raises(InputError, match="loss huber, which is no likelihood and has no profiles"):
        whole("loss")[0].profile("length")


def test_the_band_of_a_measurement_is_that_of_its_noise_and_a_loss_has_none() -> None:
    several = [replace(one, sigma=None) for one in pair()]
    band = fit(Pendulum(), several, noise="normal").forecast(4.0)
    assert float((band.noise_high - band.mean).max()) == pytest.approx(1.99 * 0.01, rel=0.2)
    wider = fit(Pendulum(), several, **CASES["student"]).forecast(
        4.0
    )  # of 5 degrees of freedom, at a scale below sigma
    assert float((wider.noise_high - wider.mean).max()) == pytest.approx(2.57 * 0.0088, rel=0.2)
    assert np.isnan(fit(Pendulum(), several, **CASES["loss"]).forecast(4.0).noise_high).all()


def test_a_tie_by_a_function_asks_for_its_model(tmp_path: Path) -> None:
    found = fit(Pendulum(), pair(), tie={"friction": lambda model: model.length / 7.0}, out=tmp_path / "run")
    assert found.status == "converged"
    with pytest.raises(InputError, match="friction was tied by a function, which a run does not hold"):
        Fit.load(tmp_path / "run")
    with pytest.raises(InputError, match="friction was tied by a function"):
        Fit.load(tmp_path / "run", model=Pendulum())

    model = Pendulum()
    model.tie("friction", lambda model: model.length / 7.0)
    assert Fit.load(tmp_path / "run", model=model).status == "converged"


def test_a_tie_of_the_class_may_be_freed(tmp_path: Path) -> None:
    class Tied(Pendulum):
        friction = Unknown(0.2, tie=lambda model: model.length / 5.0)

    found = fit(Tied(), pair(), free=["friction"], out=tmp_path / "run")
    assert len(found.estimates) == 2
    assert Fit.load(tmp_path / "run", model=Tied()).model.ties == {}


def test_a_file_of_several_experiments_is_fitted_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["experiment,t,theta,omega"]
    for one in pair():
        for t, (theta,) in zip(one.train.times.tolist(), one.train.observations.tolist(), strict=True):
            lines.append(f"{one.name},{t:.8g},{theta:.8g},")
    (tmp_path / "both.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "swing.py").write_text(
        "from physid.models import Pendulum\nclass Swing(Pendulum):\n    channel_names = ('theta',)\n"
    )
    arguments = ["fit", "--data", "both.csv", "--channels", "theta", "--model", "swing.py:Swing", "--out", "run"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "second" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["status"] == "converged"
    assert {"length", "friction", "initial[0]@pendulum", "initial[0]@second"} <= set(done["unknowns"])
    assert main(["verify", "run", "--trust"]) == 0
    assert main(["report", "run", "--trust"]) == 0


def test_every_experiment_of_a_joint_run_is_written_shown_and_forecast(
    whole: Whole, tmp_path: Path, capsys: Captured
) -> None:
    found, run = whole("several")
    for name, rows in (("residuals.csv", 70), ("forecast.csv", 402)):
        table = pd.read_csv(run / name)
        assert len(table) == rows
        assert list(table["experiment"].unique()) == ["pendulum", "second"]
    second = found.experiments[1].train
    length, friction = (one.value for one in found.estimates)
    start = found.experiments[1].initial.numpy()
    truth = solve_ivp(
        lambda t, y: (y[1], -9.80665 / length * np.sin(y[0]) - friction * y[1]),
        (0.0, float(second.times[-1])),
        start,
        method="DOP853",
        t_eval=second.times.numpy(),
        rtol=1e-11,
        atol=1e-11,
    ).y[0]
    seen = pd.read_csv(run / "residuals.csv").query("experiment == 'second'")
    assert seen["theta"].to_numpy() == pytest.approx(truth - second.observations[:, 0].numpy(), abs=1e-7)
    assert main(["forecast", str(run), "--experiment", "second", "--out", str(tmp_path / "second.csv")]) == 0
    assert main(["forecast", str(run), "--experiment", "secnd"]) == 2
    assert "Did you mean 'second'" in capsys.readouterr().err
    assert main(["report", str(run), "--html", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "Trajectories, pendulum" in text
    assert "Residuals, second" in text
    assert main(["view", str(run), "--experiment", "second", "--html", str(tmp_path / "view.html")]) == 0
    assert "second" in (tmp_path / "view.html").read_text()


@cache
def undisturbed() -> Fit:
    return fit(Pendulum(length=3.0), pair(), starts=4, seed=5)


class Killed(BaseException):
    """The end of a process, as a test can catch it."""


@pytest.mark.parametrize("at", [20, *(pytest.param(at, marks=pytest.mark.slow) for at in (75, 92))])
def test_every_start_goes_on_from_where_it_was(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off among the welded segments, and in the race; the records of the starts are those of an undisturbed fit."""
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    whole = undisturbed()
    phases = [row["phase"] for row in whole.history]

    def kill(fields: Mapping[str, Any]) -> None:
        if fields["evaluation"] == at:
            raise Killed

    with pytest.raises(Killed):
        fit(Pendulum(length=3.0), pair(), starts=4, seed=5, out=tmp_path / "run", progress=kill)
    found = Fit.resume(tmp_path / "run")
    assert found.starts == whole.starts
    assert found.x == pytest.approx(whole.x, abs=1e-9)
    again = len(found.history) - len(whole.history)
    assert 0 <= again < len([phase for phase in phases if phase == phases[at - 1]]), (again, phases[at - 1])


@pytest.mark.slow
def test_workers_do_not_repeat_the_starts_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    ran: list[int] = []
    inner = Monitor.hold

    def hold(self: Monitor, state: StrategyState) -> None:
        inner(self, state)
        if isinstance(state.running, WorkersState):
            ran.append(len(state.running.done))
            if len(ran) == 3:
                raise Killed

    monkeypatch.setattr(Monitor, "hold", hold)
    with joblib.parallel_config("sequential"):
        with pytest.raises(Killed):
            fit(Pendulum(), pair(), starts=3, workers=1, out=tmp_path / "run")
        found = Fit.resume(tmp_path / "run")
        whole = fit(Pendulum(), pair(), starts=3, workers=1)
    assert ran == [0, 1, 2, 2, 3, 0, 1, 2, 3]
    assert found.starts == whole.starts
    assert found.x == pytest.approx(whole.x, abs=1e-9)
