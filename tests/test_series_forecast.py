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

from physid.api.train import train
from physid.cli.app import main
from physid.data.series import Series
from physid.datasets import collect
from physid.errors import InputError
from physid.models import NETWORKS, network
from physid.plots import series_channels
from physid.predict.series_forecast import forecast_series

LATENT: dict[str, Any] = {"latent": 3, "recognition": 4, "width": 5, "depth": 0, "units": 4}


class Told(torch.nn.Module):
    """Draws that are known: the targets, and spread evenly around them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.batch: Series | None = None

    def sample(self, batch: Series, count: int) -> torch.Tensor:
        self.batch = batch
        return batch.targets + torch.linspace(-1, 1, count, dtype=torch.float64)[:, None, None, None]


@pytest.fixture
def swings(tmp_path: Path) -> Any:
    return collect("series", table=str(write_table(tmp_path / "swings.csv")), group="series", observed=0.5)


def test_units_bands_and_what_is_shown(swings: Any) -> None:
    told = Told()
    found = forecast_series(told, swings, [2, 0], draws=201, until=0.4)
    batch = swings.tested([2, 0])
    scale, low = swings.scale.numpy(), swings.low.numpy()
    truth = batch.targets.double().numpy() * scale + low
    np.testing.assert_allclose(found.mean, truth, atol=1e-6)
    np.testing.assert_allclose(found.low, truth - 0.95 * scale, atol=1e-6)
    np.testing.assert_allclose(found.high, truth + 0.95 * scale, atol=1e-6)
    assert np.array_equal(np.isfinite(found.truth), batch.wanted.numpy() > 0)
    early = found.times <= 0.4
    assert np.array_equal(np.isfinite(found.observed[:, early]), batch.observed.numpy()[:, early] > 0)
    assert not np.isfinite(found.observed[:, ~early]).any()
    assert told.batch is not None
    assert float(told.batch.observed[:, ~early].sum()) == 0
    assert set(found.error()) == {"interpolation", "extrapolation"}
    assert max(found.error().values()) < 1e-5
    frame = found.frame()
    assert len(frame) == found.mean.size
    row = frame[(frame.series == 0) & (frame.channel == "v")].reset_index()
    np.testing.assert_array_equal(row["mean"], found.mean[1, :, 1])


def test_a_figure_has_a_panel_for_every_channel_of_every_series(swings: Any) -> None:
    figure = series_channels(forecast_series(Told(), swings, [0, 1], draws=5, until=0.4))
    assert len(figure.axes) == 4
    assert [axes.get_ylabel() for axes in figure.axes] == ["x", "", "v", ""]
    (points,) = [line for line in figure.axes[0].lines if line.get_label() == "observed"]
    assert np.isfinite(np.asarray(points.get_ydata(), float)).sum() > 0


@pytest.mark.parametrize("name", ["latent-ode", "rnn"])
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
        (["--until", "3"], "--until is for fits"),
    ):
        assert main(["forecast", str(run), *bad]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert text in line


def test_other_networks_are_refused(swings: Any) -> None:
    with pytest.raises(InputError, match="Linear predicts no series"):
        forecast_series(torch.nn.Linear(1, 1), swings)
