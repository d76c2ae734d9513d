"""The measured data sets: what is read, what their models reach, and what happens when a file is another one."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import physid
from physid.data.experiment import Experiment
from physid.datasets import cifar, horizons, load
from physid.datasets.lynxhare import PELTS
from physid.errors import InputError
from physid.models import build

pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]


def test_pelts() -> None:
    experiment = load("lynxhare")
    assert experiment.train.observations.shape == (21, 2)
    assert experiment.train.observations[0].tolist() == [30.0, 4.0]  # hares first
    assert experiment.train.times[[0, -1]].tolist() == [1900.0, 1920.0]
    assert load("lynxhare", initial="known").initial_free.tolist() == [False, False]


def test_carriage_is_thinned_without_a_change_of_momentum() -> None:
    thin, full = load("emps", rate=50), load("emps", rate=1000)
    for one in (thin, full):
        assert one.inputs is not None
        assert one.validation is not None
    assert torch.equal(thin.train.observations, full.train.observations[::20])

    def impulse(one: Experiment) -> float:
        assert one.inputs is not None
        held = one.inputs(one.train.times)[:-1, 0]
        return float((held * one.train.times.diff()).sum())

    assert impulse(thin) == pytest.approx(impulse(full), rel=1e-9)
    with pytest.raises(InputError, match="a divisor of 1000"):
        load("emps", rate=300)


def test_tanks_start_both_records_from_one_state() -> None:
    experiment = load("tanks")
    assert experiment.validation is not None
    assert bool(experiment.validation.initial_free.all())
    assert experiment.train.observations.shape == (1024, 1)
    assert experiment.train.observations.max().item() == 10.0
    assert math.isclose(float(np.diff(experiment.train.times).max()), 4.0)


def test_lynx_and_hare_are_fitted_with_their_published_noise() -> None:
    """The maximum of the likelihood with normal errors of the logarithms, as the data set's docstring has it."""
    experiment = load("lynxhare")
    fit = physid.fit(build(experiment), experiment)
    assert fit.status == "converged"
    published = [0.5400, 0.02716, 0.7966, 0.02370, 34.60, 5.844]
    assert [one.value for one in fit.estimates] == pytest.approx(published, rel=1e-3)
    assert fit.likelihood is not None
    assert fit.likelihood.noise == "lognormal"
    assert fit.likelihood.sigmas == pytest.approx({"u": 0.2184, "v": 0.2201}, rel=1e-3)
    other = physid.fit(build(experiment), experiment, noise="equal")
    assert other.settings["noise"] == "equal"
    assert other.scores["train"] is not None
    assert other.scores["train"]["rmse"] < 3.8


@pytest.mark.slow
def test_the_carriage_runs_freely_within_6_mm_of_the_record_with_pulses() -> None:
    experiment = load("emps")
    fit = physid.fit(build(experiment), experiment)
    assert fit.status == "converged"
    found = {one.name: one.value for one in fit.estimates}
    assert found["mass"] == pytest.approx(95.11, rel=0.03)  # published, by another method
    assert found["viscous"] == pytest.approx(203.5, rel=0.05)
    assert found["dry"] == pytest.approx(20.39, rel=0.05)
    assert fit.scores["validation"] is not None
    assert fit.scores["validation"]["rmse"] <= 6.4e-3


@pytest.mark.parametrize("factor", [1.0, pytest.param(1.6, marks=pytest.mark.slow)])
def test_the_tanks_run_freely_closer_than_published_networks(factor: float) -> None:
    """From the guess, and from one with all drains off: half of such starts are lost without the continuation."""
    experiment, model = load("tanks"), build(load("tanks"))
    for name, part in (("drain1", factor), ("pour", 1 / factor), ("drain2", 1 / factor)):
        setattr(model, name, part * model.values()[name])
    fit = physid.fit(model, experiment)
    assert fit.status == "converged"
    assert fit.scores["validation"] is not None
    assert fit.scores["validation"]["rmse"] <= 0.25  # networks: 0.396 to 0.490 V


def test_another_file_of_that_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / PELTS.folder).mkdir()
    (tmp_path / PELTS.folder / PELTS.name).write_text("Year, Lynx, Hare\n1900, 1, 2\n")
    monkeypatch.setenv("PHYSID_DATA", str(tmp_path))
    with pytest.raises(InputError, match="another file, or a damaged one"):
        load("lynxhare")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder that is a link"])
def test_in_the_cache_there_are_plain_files_only(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PHYSID_DATA", raising=False)
    places = {PELTS.folder: PELTS.name, horizons.FOLDER: "Sun.txt", "cifar-10-batches-bin": "data_batch_1.bin"}
    (tmp_path / "cache").mkdir(mode=0o700)
    for folder, name in places.items():
        real = tmp_path / f"real {folder}"
        real.mkdir()
        (real / name).write_text("not for reading")
        if kind == "folder that is a link":
            (tmp_path / "cache" / folder).symlink_to(real)
            continue
        (tmp_path / "cache" / folder).mkdir(mode=0o700)
        path = tmp_path / "cache" / folder / name
        path.symlink_to(real / name) if kind == "link" else os.mkfifo(path)
    said = "is a pipe" if kind == "pipe" else "is a link"
    for read in (PELTS.path, lambda: horizons.find_tables(("sun",)), lambda: cifar.find(cifar.CIFAR10)):
        with pytest.raises(InputError, match=said):
            read()
