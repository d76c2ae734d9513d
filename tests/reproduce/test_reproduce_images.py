"""The exhibits on images: their tables from known results, and one cell at the smallest scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from physid.ode.hearing import TimeUp
from physid.reproduce import Work, exhibit, images
from physid.reproduce.image_errors import PAPER2, PAPER7, TABLE2
from physid.reproduce.images import SOLVERS, compute, name_of
from physid.runs import writer
from physid.training.classifying import icc

SMALL: dict[str, Any] = {
    "model": "resnet18",
    "options": {"width": 2},
    "data": "images-toy",
    "data_options": {"images": 12, "test_images": 6, "classes": 3, "size": 8},
    "seed": 1,
    "recipe": {"epochs": 2, "batch": 4, "lr": 0.05, "rate": {"rule": "one-cycle"}},
}


def result(error: float = 0.25, **more: Any) -> dict[str, Any]:
    """What a cell of four test images in two classes returns."""
    answers = [0, 1, 0, 1 if error == 0 else 0]
    solvers = {name_of(*one): error + 0.01 * number for number, one in enumerate(SOLVERS)}
    history = [{"epoch": 1, "test_error": 0.5, "seconds": 2.0}, {"epoch": 2, "test_error": error, "seconds": 4.0}]
    history = [{**row, "evaluations": 52.0, "backward_evaluations": 48.0, "memory_mb": 100.0} for row in history]
    base = {"error": error, "answers": answers, "truth": [0, 1, 0, 1], "history": history, "solvers": solvers}
    return {**base, **more}


def test_table2_is_table7_in_places() -> None:
    """The paper's table 2 has the errors of table 7 at steps of 0.2 and tolerances of 1e-2, but for its rounding."""
    columns = {"heun_euler": 1, "bosh3": 1, "dopri5": 1, "euler": 2, "midpoint": 2, "rk4": 2}
    for key, error in zip(TABLE2, PAPER2["cifar10"][:6], strict=True):
        solver = key.split()[0]
        assert error == pytest.approx(4.85 + PAPER7[solver][columns[solver]], abs=0.0151)


def test_tables_of_errors() -> None:
    results = {f"cifar10-{kind}-0": result() for kind in images.MODELS}
    table = exhibit("table2").table(results)
    ours, paper = table.rows
    number = [name_of(*one) for one in SOLVERS].index("bosh3 0.01")
    assert ours[:2] == ["cifar10", "here"]
    assert ours[3] == pytest.approx(25 + number)
    assert ours[8:] == [25.0] * 4
    assert paper[2:] == list(PAPER2["cifar10"])
    increase = {(row[0], row[1]): row[3] for row in exhibit("table7").table(results).rows}
    own = [name_of(*one) for one in SOLVERS].index("heun_euler 0.01")
    assert increase["HeunEuler", 0.01] == 0
    assert increase["RK23", 0.01] == pytest.approx(number - own)
    assert exhibit("table6").table(results).rows[0][3] == 0
    for name in ("table6", "table7"):
        assert exhibit(name).figure(results) is not None


def test_table_of_agreement() -> None:
    results = {f"cifar10-resnet18-{seed}": result(0.25 * (seed > 0)) for seed in range(3)}
    (row, paper) = exhibit("table3").table(results).rows
    single, _ = icc(np.array([one["answers"] for one in results.values()]).T)
    assert row[:4] == ["cifar10", "ResNet18", 3, pytest.approx(100 * 0.5 / 3)]
    assert row[4] == f"{single.low:.3f}-{single.high:.3f}"
    assert paper[4] == "0.932-0.935"
    assert exhibit("table3").figure(results) is not None


def test_table_of_gradients() -> None:
    results = {
        "cifar10-node18-aca-100": result(0.05),
        "cifar10-node18-aca-101": result(0.07),
        "cifar10-node18-naive-100": {"diverged": "The loss is nan."},
        "cifar10-node18-aca-3": result(0.9),  # a run of panel (c)
    }
    (row,) = exhibit("fig7").table(results).rows
    assert row[:3] == ["aca", 2, pytest.approx(6.0)]
    assert row[3] == pytest.approx(2**0.5)
    assert (row[5], row[7], row[8]) == (2.0, 52.0, 48.0)
    assert exhibit("fig7").figure(results) is not None


def test_the_full_exhibits_are_the_papers_trainings() -> None:
    cells = {cell.key: cell.settings for cell in exhibit("fig7").cells(False)}
    assert len(cells) == 9 + 40
    assert cells["cifar10-node18-naive-102"]["protocol"] == "paper-gradients-naive"
    assert cells["cifar10-node18-adjoint-100"]["protocol"] == "paper-gradients"
    assert cells["cifar100-resnet18-9"]["protocol"] == "paper-90"
    assert "width" not in cells["cifar10-node18-aca-100"]["options"]
    assert [cell.settings["protocol"] for cell in exhibit("table6").cells(False)] == ["paper-350"]


@pytest.mark.parametrize("there", [True, False])
def test_quick_takes_real_images_where_there_are_some(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSID_DATA", str(tmp_path))
    if there:
        folder = tmp_path / "cifar-10-batches-bin"
        folder.mkdir()
        (folder / "data_batch_1.bin").touch()
    assert {cell.settings["data"] for cell in exhibit("fig7").cells(True)} == {"cifar10" if there else "images-toy"}


def test_a_cell_trains_and_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    monkeypatch.setattr(images, "SOLVERS", (("euler", {"step": 0.5}), ("bosh3", {"rtol": 1e-1, "atol": 1e-1})))
    whole = compute(Work(tmp_path / "whole"), **SMALL, solvers=True)
    assert set(whole["solvers"]) == {"euler 0.5", "bosh3 0.1"}
    assert whole["error"] == whole["history"][-1]["test_error"]
    assert len(whole["answers"]) == len(whole["truth"]) == 6
    cut = Work(tmp_path / "cut", deadline=0.0)
    with pytest.raises(TimeUp):
        compute(cut, **SMALL, solvers=False)

    def interrupt(fields: Any) -> None:
        if fields.get("step") == "2/3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(Work(tmp_path / "cut", tell=interrupt), **SMALL, solvers=False)
    torch.manual_seed(99)
    again = compute(Work(tmp_path / "cut"), **SMALL, solvers=False)
    assert again["answers"] == whole["answers"]
    assert [row["loss"] for row in again["history"]] == [row["loss"] for row in whole["history"]]
