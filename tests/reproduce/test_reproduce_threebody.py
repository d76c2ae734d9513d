"""Table 5 and its figures: rows against direct computation, on tiny settings."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from physid import datasets
from physid.api.fit import fit
from physid.datasets import load
from physid.errors import Diverged
from physid.models import build
from physid.ode.hearing import TimeUp
from physid.reproduce import Exhibit, Work, exhibit, reproduce, table5, threebody
from physid.reproduce.exhibit import ended
from physid.reproduce.orbits import FIG8, FIG21, PANELS, key_of


def test_trivial_forecasters_are_those_of_the_paper_s_test() -> None:
    """The figures .474, .239 and .150 were had by another program."""
    found = threebody.truth(Work(Path("x")))
    sums = [one["test"]["sum"] for one in found["trivial"].values()]
    assert sums == pytest.approx([0.474, 0.239, 0.150], abs=6e-4)
    assert [one["test"]["mean"] * 9 for one in found["trivial"].values()] == pytest.approx(sums)
    late = [one["forecast"]["sum"] for one in found["trivial"].values()]
    assert late[1:] == pytest.approx([2 * s for s in sums[1:]], rel=1e-9)  # they are perfect before
    data = load("threebody", protocol="paper-code")
    assert data.test is not None
    assert found["path"][-1].tolist() == data.test.observations[-1].reshape(-1).tolist()


def test_a_fit_of_a_cell_is_the_fit(tmp_path: Path) -> None:
    work = Work(tmp_path / "cell")
    cell = threebody.by_fit(work, model="gravity", seed=1, protocol="paper-code", gradient="aca", system=3)
    data = load("threebody", protocol="paper-code", seed=1, random_masses=3)
    direct = fit(build(data, "full"), data, protocol="paper-code", gradient="aca", seed=1)
    assert direct.scores["test"] is not None
    assert cell["test"]["sum"] == pytest.approx(direct.scores["test"]["mse"], rel=1e-9)
    assert cell["test"]["mean"] == pytest.approx(direct.scores["test"]["mse"] / 9, rel=1e-9)
    assert list(cell["masses"].values()) == pytest.approx([one.value for one in direct.estimates], rel=1e-12)
    assert np.shape(cell["path"]) == (threebody.POINTS, 9)


@pytest.mark.slow
def test_a_cell_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": "gravity", "seed": 0, "protocol": "paper-code", "gradient": "aca"}
    work = Work(tmp_path / "cell")
    count = 0

    def stop(fields: Any) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        threebody.by_fit(Work(tmp_path / "cell", stop), **settings)
    with pytest.raises(TimeUp):
        threebody.by_fit(Work(tmp_path / "cell", deadline=0.0), **settings)
    resumed = threebody.by_fit(work, **settings)
    whole = threebody.by_fit(Work(tmp_path / "other"), **settings)
    assert resumed["test"] == whole["test"]
    with pytest.raises(Diverged):
        ended("diverged", "it did")


@pytest.mark.slow
def test_a_training_of_a_cell(tmp_path: Path) -> None:
    found = threebody.by_training(Work(tmp_path / "cell"), model="lstm-aug", seed=0, epochs=1)
    assert found["test"]["sum"] == pytest.approx(9 * found["test"]["mean"])
    assert found["test"]["sum"] > 0.1
    assert (found["recovered"], found["masses"], found["weights"] > 1000) == (None, {}, True)
    assert found["forecast"]["sum"] != found["test"]["sum"]


def result(total: float, recovered: bool | None = None) -> dict[str, Any]:
    score = {"sum": total, "mean": total / 9}
    return {"test": score, "forecast": score, "recovered": recovered, "seconds": 1.0}


def test_rows_are_means_and_deviations_of_the_runs() -> None:
    results = {f"ode-aca-paper-text-{s}": result(x, x < 0.25) for s, x in enumerate((0.1, 0.2, 0.3))}
    results |= {"ode-naive-paper-text-0": result(0.05), "ode-naive-paper-text-1": {"diverged": "it did"}}
    table = table5.table(results)
    rows = {(row[0], row[1], row[2]): row for row in table.rows}
    assert len(rows) == 2
    aca = rows["ODE", "aca", "text"]
    assert aca[3:9] == ["3", "0.2 ± 0.1", "0.0222 ± 0.011", "0.2 ± 0.1", "0.0007 ± 0.0005", "2 of 3"]
    assert rows["ODE", "naive", "text"][3:5] == ["2, 1 diverged", "0.05"]
    assert any("ode-aca < ode-naive does not hold (0.2, 0.05)" in note for note in table.notes)
    figure = table5.figure(results)
    assert figure is not None
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ODE naive text", "ODE aca text"]


def test_figures_take_over_the_cells_of_the_table(tmp_path: Path) -> None:
    """Figure 8 computes nothing that a run of table 5 beside it has computed."""
    keys = {cell.key for cell in exhibit("table5").cells(False)}
    assert {cell.key for cell in FIG8.cells(False)} == {"truth", *map(key_of, PANELS)} <= keys

    def tiny(one: Exhibit) -> Exhibit:
        cells = [cell for cell in one.cells(True) if cell.key in ("truth", "ode-aca-paper-text-0")]
        return Exhibit(**{**one.__dict__, "cells": lambda quick: cells})

    done = reproduce(tiny(exhibit("table5")), tmp_path / "t", quick=True, only="truth")
    assert done.status == "partial"
    shutil.copytree(tmp_path / "t", tmp_path / "elsewhere" / "t")
    first = reproduce(tiny(FIG8), tmp_path / "f", quick=True, only="ode*")
    assert (first.status, first.missing) == ("complete", [])
    assert not (tmp_path / "f" / "work" / "truth").exists()
    assert (tmp_path / "f" / "fig8.png").is_file()
    assert first.table.rows[PANELS.index("ode-aca")][1] > 0
    assert first.table.rows[0][1] is None
    other = reproduce(tiny(FIG8), tmp_path / "g" / "f", quick=True, only="ode*")
    assert other.missing == ["truth"]


@pytest.mark.slow
def test_other_systems(tmp_path: Path) -> None:
    done = reproduce(FIG21, tmp_path / "out", quick=True)
    assert done.status == "complete"
    assert [row[:2] for row in done.table.rows] == [[21, "paper-text"], [21, "paper-code"], [21, "default"]]
    assert done.table.rows[2][2] < 1e-12
    assert all(row[6] for row in done.table.rows)
    assert (tmp_path / "out" / "fig21-23.png").is_file()


@pytest.mark.parametrize("horizon", [0.2, pytest.param(None, marks=pytest.mark.slow)])
def test_gradient_errors_shrink_with_the_tolerance(
    horizon: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if horizon is not None:
        monkeypatch.setattr(datasets, "load", partial(datasets.load, horizon=horizon, points=20))
    loose, tight = (threebody.gradient_errors(Work(tmp_path), tolerance, 1) for tolerance in (1e-5, 1e-7))
    for name in ("aca", "aca, step-aware", "naive", "adjoint"):
        assert tight["median"][name] < 0.2 * loose["median"][name]
