"""Forecasts of irregular series: units, bands, what is shown; the command, and its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from oscillators import write_table
from variants import some

from physid.api.train import train
from physid.cli.app import main
from physid.data.series import Series
from physid.datasets import collect
from physid.errors import InputError
from physid.models import NETWORKS, network
from physid.plots import series_channels
from physid.predict.series_forecast import SeriesRun
from physid.predict.sheet import measured_at, sheet
from physid.training import Learner, Recipe, TrainingResult

LATENT: dict[str, Any] = {"latent": 3, "recognition": 4, "width": 5, "depth": 0, "units": 4}


class Told(Learner):
    """Draws that are known: the targets, and spread evenly around them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.batches: list[Series] = []

    def sample(self, batch: Series, count: int) -> torch.Tensor:
        self.batches.append(batch)
        return batch.targets + torch.linspace(-1, 1, count, dtype=torch.float64)[:, None, None, None]

    def loss(self, batch: Series) -> torch.Tensor:
        return self.weight.sum()

    def scores(self, batch: Series) -> dict[str, torch.Tensor]:
        return {"count": self.weight.sum()}


@pytest.fixture
def swings(tmp_path: Path) -> Any:
    return collect("series", table=str(write_table(tmp_path / "swings.csv")), group="series", observed=0.5)


def told(swings: Any) -> SeriesRun:
    found = SeriesRun.of_training(
        TrainingResult(Told(), swings, Recipe(epochs=1, batch=1, lr=0.1), [], "finished", "", 0.0)
    )
    assert found is not None
    return found


def told_of(run: SeriesRun) -> list[Series]:
    learner = run.trained.learner
    assert isinstance(learner, Told)
    return learner.batches


def test_units_bands_and_what_is_shown(swings: Any) -> None:
    run = told(swings).shown(0.4)
    found = sheet(run, ["2", "0"], draws=201)
    scale, low = swings.scale.numpy(), swings.low.numpy()
    for number, one in zip((2, 0), found.forecasts, strict=True):
        batch = swings.tested([number], 0.4)
        own = np.isin(one.times, batch.times.double().numpy() * swings.time_scale)
        truth = batch.targets[0].double().numpy() * scale + low
        np.testing.assert_allclose(one.mean[own], truth, atol=1e-6)
        np.testing.assert_allclose(one.low[own], truth - 0.95 * scale, atol=1e-6)
        np.testing.assert_allclose(one.high[own], truth + 0.95 * scale, atol=1e-6)
        wanted, seen = (measured_at(one.experiment, part, one) for part in ("test", "train"))
        assert np.array_equal(np.isfinite(wanted[own]), batch.wanted[0].numpy() > 0)
        assert not np.isfinite(wanted[~own]).any()
        assert np.array_equal(np.isfinite(seen[own]), batch.observed[0].numpy() > 0)
        assert not np.isfinite(seen[one.times > 0.4]).any()
        assert np.isfinite(seen).any()
    for batch in told_of(run):
        assert float(batch.observed[:, batch.times * swings.time_scale > 0.4].sum()) == 0
    assert set(found.error()) == {"interpolation", "extrapolation"}
    assert max(found.error().values()) < 1e-5
    frame = found.frame()
    assert len(frame) == sum(one.mean.size for one in found.forecasts)
    row = frame[(frame.series == 0) & (frame.channel == "v")].reset_index()
    np.testing.assert_array_equal(row["mean"], found.forecasts[1].mean[:, 1])


def test_times_of_ones_own_come_between_those_of_the_series(swings: Any) -> None:
    run = told(swings).of("1")
    own = run.times()
    between = (own[1:] + own[:-1]) / 2
    every = np.sort(np.concatenate([own, between]))
    found = run.predict(every, draws=3)
    np.testing.assert_array_equal(found.mean[::2], run.predict(own, draws=3).mean)
    batch = told_of(run)[0]
    assert len(batch.times) == len(every)
    assert not batch.observed[:, 1::2].any()
    even = run.predict(run.times(until=0.3, points=7))
    np.testing.assert_allclose(even.times, np.linspace(own[0], 0.3, 7))


def test_a_series_of_which_nothing_is_shown_is_told(swings: Any) -> None:
    with pytest.raises(InputError, match=r"of series 0 nothing is shown up to -1: it begins at .*\. Show more"):
        told(swings).shown(-1.0).predict(np.array([0.1]))


def test_a_figure_has_a_panel_for_every_channel_of_every_series(swings: Any) -> None:
    figure = series_channels(sheet(told(swings).shown(0.4), ["0", "1"], draws=5))
    assert len(figure.axes) == 4
    assert [axes.get_ylabel() for axes in figure.axes] == ["x", "", "v", ""]
    (points,) = [line for line in figure.axes[0].lines if line.get_label() == "observed"]
    assert np.isfinite(np.asarray(points.get_ydata(), float)).sum() > 0


@pytest.mark.parametrize("name", some(["latent-ode", "rnn"], "latent-ode"))
def test_the_command(swings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    torch.manual_seed(0)
    learner = network(name, swings, **(LATENT if name == "latent-ode" else {"hidden": 3, "width": 4}))
    run = tmp_path / "run"
    train(learner, swings, replace(NETWORKS[name].recipe, epochs=1), out=run)
    outs = [tmp_path / f"out.{kind}" for kind in ("csv", "json", "png", "svg")]
    arguments = [part for out in outs for part in ("--out", str(out))]
    assert main(["forecast", str(run), "--series", "0,2", "--draws", "7", "--seen", "0.5", *arguments]) == 0
    table = pd.read_csv(outs[0])
    assert sorted(set(table.series)) == [0, 2]
    assert bool(table["low"].notna().all()) == (name == "latent-ode")
    said = json.loads(outs[1].read_text())
    assert said["until"] == 0.5
    assert said["mean"] == pytest.approx(table["mean"].tolist(), rel=1e-6, abs=1e-9)
    capsys.readouterr()
    assert main(["forecast", str(run), "--series", "0,2", "--draws", "7", "--seen", "0.5"]) == 0
    assert capsys.readouterr().out == outs[0].read_text()  # the same draws
    for bad, text in (
        (["--series", "9"], "has the numbers 0 to 2"),
        (["--series", "a"], "whole numbers"),
        (["--series", "0", "--experiment", "1"], "name the same"),
        (["--until", "-1"], "Give a later time"),
        (["--until", "inf"], "Give a later time, a finite one"),
        (["--series", "0,0"], "expected each once"),
    ):
        assert main(["forecast", str(run), *bad]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert text in line
