"""Agreement of runs against published figures, and the commands that evaluate and compare trained classifiers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import RECIPE, Line, Points

from physid.api.train import Trained
from physid.cli.app import main
from physid.errors import InputError
from physid.ode import Fixed, Integrator
from physid.training.classifying import icc, predicted, reliability, scores_with

Captured = pytest.CaptureFixture[str]

# Shrout and Fleiss (1979), table 2: four ratings on six targets
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_the_published_example() -> None:
    """ICC(1,1) and ICC(1,4) of Shrout and Fleiss (1979), table 4; the intervals as R's psych prints them."""
    single, mean = icc(JUDGES)
    assert (round(single.value, 2), round(mean.value, 2)) == (0.17, 0.44)
    assert (round(single.low, 3), round(single.high, 3)) == (-0.133, 0.723)
    assert (round(mean.low, 2), round(mean.high, 2)) == (-0.88, 0.91)


@pytest.mark.skipif(importlib.util.find_spec("pingouin") is None, reason="pingouin is not installed")
@pytest.mark.filterwarnings("ignore")  # its own
def test_pingouin_agrees() -> None:
    import pandas as pd
    import pingouin

    ratings = np.random.default_rng(0).normal(size=(30, 1)) + np.random.default_rng(1).normal(size=(30, 5))
    subject, rater = np.divmod(np.arange(ratings.size), ratings.shape[1])
    frame = pd.DataFrame({"subject": subject, "rater": rater, "score": ratings.ravel()})
    table = pingouin.intraclass_corr(frame, "subject", "rater", "score")
    values = table.loc[table["Type"].isin(["ICC1", "ICC(1,1)", "ICC1k", "ICC(1,k)"]), "ICC"].to_numpy()
    assert np.allclose([one.value for one in icc(ratings)], values, atol=1e-12)


def test_agreement_of_a_known_share_of_variance() -> None:
    """Subjects with variance 3 and errors with variance 1: ICC1 = 3/4, ICC1k = 12/13."""
    random = np.random.default_rng(7)
    ratings = np.sqrt(3) * random.normal(size=(20_000, 1)) + random.normal(size=(20_000, 4))
    single, mean = icc(ratings)
    assert single.low < 0.75 < single.high
    assert mean.low < 12 / 13 < mean.high
    assert single.high - single.low < 0.02


def test_agreement_at_its_ends() -> None:
    equal = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1)
    assert icc(equal)[0].value == 1
    assert icc([[1.0, 2.0], [2.0, 1.0]])[0].value < 0
    for bad in ([[1.0, 2.0]], [[1.0], [2.0]], np.ones((3, 3))):
        with pytest.raises(InputError):
            icc(bad)


def test_misclassified_images_are_those_that_any_run_got_wrong() -> None:
    truth = np.array([0, 1, 2, 3, 0, 1])
    answers = [np.array([0, 1, 2, 3, 1, 1]), np.array([0, 1, 2, 0, 0, 1])]
    found = reliability(answers, truth)
    assert (found["all"]["images"], found["misclassified"]["images"]) == (6, 2)
    assert found["misclassified"]["icc1"].value == icc([[3, 0], [1, 0]])[0].value
    assert found["all"]["icc1"].value > found["misclassified"]["icc1"].value


def test_too_few_images_have_no_agreement() -> None:
    found = reliability([np.array([0, 1, 2]), np.array([0, 1, 1])], np.array([0, 1, 2]))
    assert found["misclassified"]["images"] == 1
    assert np.isnan(found["misclassified"]["icc1"].value)
    assert np.isfinite(found["all"]["icc1"].value)


def test_a_learner_without_classes_or_an_ode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained(Line(2), Points(), RECIPE, [], "finished", "", 0.0)
    with pytest.raises(InputError, match="is no classifier"):
        predicted(trained)
    monkeypatch.setattr(Points, "test", lambda self, size: iter([{"x": self.x}]))
    with pytest.raises(InputError, match="is no classifier"):
        predicted(trained)
    with pytest.raises(InputError, match="no ODE"):
        scores_with(trained, solver="euler")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["fit", "images-toy", "--model", "node18", "--width", "2", "--epochs", "2", "--batch", "24", "--quiet"]
    data = ["--set", "images=48", "--set", "test_images=20", "--set", "size=8", "--set", "classes=3"]
    found = []
    for seed in (0, 1):
        found.append(str(folder / f"seed{seed}"))
        assert main([*arguments, *data, "--lr", "0.05", "--seed", str(seed), "--out", found[-1]]) == 0
    return found


def last(capsys: Captured) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_evaluate_under_other_solvers(runs: list[str], capsys: Captured, tmp_path: Path) -> None:
    table = tmp_path / "errors.csv"
    arguments = ["--solver", "euler", "--solver", "rk4", "--step", "1", "--step", "0.5", "--out", str(table)]
    assert main(["compare", runs[0], *arguments, "--json"]) == 0
    rows = last(capsys)["rows"]
    assert isinstance(rows, list)
    assert [(row["solver"], row["step"]) for row in rows] == [
        ("as trained", None),
        *((solver, step) for solver in ("euler", "rk4") for step in (1.0, 0.5)),
    ]
    trained = Trained.load(runs[0])
    assert rows[0]["error"] == pytest.approx(trained.scores["error"])
    answers, truth = predicted(Trained(**{**vars(trained), "learner": trained.learner.integrate(solver="euler")}))  # type: ignore[operator]
    assert rows[1]["error"] == pytest.approx((answers != truth).mean())
    assert rows[1]["error change"] == pytest.approx(rows[1]["error"] - rows[0]["error"])
    assert len(table.read_text().splitlines()) == 6
    assert main(["compare", runs[0], "--rtol", "1e-4", "--json"]) == 0
    capsys.readouterr()
    assert main(["compare", runs[0], "--solver", "rk45x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "solver" in line
    assert main(["compare", *runs, "--paper"]) == 2
    assert "2 runs with solvers: expected one run" in capsys.readouterr().err
    assert main(["compare", runs[0], "--solver", "euler", "--out", str(tmp_path / "x.png")]) == 2
    assert "does not end in .csv" in capsys.readouterr().err
    assert main(["evaluate", runs[0], "--rtol", "1e-4", "--json"]) == 0  # the old name
    out, err = capsys.readouterr()
    assert len(json.loads(out.splitlines()[-1])["rows"]) == 2
    assert err == "physid: note: `physid evaluate` is now `physid compare RUN --solver NAME`.\n"


def test_the_own_solver_comes_back_after_another(runs: list[str]) -> None:
    trained = Trained.load(runs[0])
    before = trained.learner.integrator
    scores_with(trained, solver="euler", step=0.5)
    assert trained.learner.integrator == before


def test_runs_are_compared_by_how_far_they_agree(runs: list[str], capsys: Captured, tmp_path: Path) -> None:
    table = tmp_path / "agreement.csv"
    assert main(["compare", *runs, "--json", "--out", str(table)]) == 0
    found = last(capsys)
    answers = [predicted(Trained.load(run))[0] for run in runs]
    single = icc(np.stack(answers, 1))[0]
    assert found["all"]["images"] == 20  # type: ignore[index]
    assert found["all"]["icc1"] == pytest.approx([single.value, single.low, single.high])  # type: ignore[index]
    assert table.read_text().splitlines()[1].startswith("all,20,")
    assert main(["reliability", *runs, "--json"]) == 0  # the old name
    assert last(capsys) == found
    assert main(["compare", runs[0], "--json"]) == 0  # alone: its own scores
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]) == 1


def test_the_weights_are_those_that_were_trained(runs: list[str]) -> None:
    one, other = (Trained.load(run).learner.state_dict() for run in runs)
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_a_changed_integrator_has_a_controller_that_fits() -> None:
    start = Integrator("heun_euler", control="paper")
    assert start.changed(rtol=0.1) == Integrator("heun_euler", rtol=0.1, control="paper")
    assert start.changed(solver="rk4").control == Fixed(1.0)
    assert start.changed(step=0.25) == Integrator("heun_euler", control=Fixed(0.25))
    assert start.changed(solver="rk4").changed(solver="dopri5").control is None
    with pytest.raises(InputError, match="positive"):
        start.changed(step=-1.0)
