"""LSTMs on sequences of an experiment: their recurrence, their training, and their forecasts beside fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from physid.api.fit import Fit
from physid.api.networks import FreeRun
from physid.api.opening import open_run
from physid.api.train import Trained, train
from physid.cli.app import main
from physid.data.experiment import Experiment, Trajectory
from physid.datasets import load
from physid.errors import InputError
from physid.models import NETWORKS, network
from physid.models.lstm import LSTM, augmented
from physid.models.sequences import GIVEN, LENGTH, Sequences
from physid.report.comparison import Comparison
from physid.runs import writer
from physid.training import Recipe
from physid.viewer import collect

Captured = pytest.CaptureFixture[str]


def small(model: str = "lstm", seed: int = 0, seeds: int = 1, epochs: int = 3) -> tuple[LSTM, Sequences, Recipe]:
    sequences = Sequences(load("threebody", points=60))
    torch.manual_seed(seed)
    learner = network(model, sequences, hidden=5, seeds=seeds)
    assert isinstance(learner, LSTM)
    return learner, sequences, replace(NETWORKS[model].recipe, epochs=epochs, seed=seed, evaluate_every=2)


def by_hand(cell: torch.nn.Module, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of one LSTM written out, and the read-out of its state."""
    w = dict(cell.named_parameters())
    gates = w["lstm.weight_ih_l0"] @ x + w["lstm.bias_ih_l0"] + w["lstm.weight_hh_l0"] @ h + w["lstm.bias_hh_l0"]
    i, f, g, o = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return w["out.weight"] @ h + w["out.bias"], h, c


@pytest.mark.parametrize("model", ["lstm", "lstm-aug"])
def test_free_run_is_the_recurrence_written_by_hand(model: str) -> None:
    learner, sequences, _ = small(model)
    given = sequences.series[:GIVEN].float()
    path = learner.free_run(given, 25)[0]
    mean, scale = sequences.series.float().mean(0), sequences.series.float().std(0)
    h, c, said = torch.zeros(5), torch.zeros(5), torch.zeros(9)
    seen = (
        augmented(sequences.series.float().unflatten(-1, (3, 3))) if model == "lstm-aug" else sequences.series.float()
    )
    for k in range(25):
        point = given[k] if k < GIVEN else said * scale + mean
        assert torch.allclose(path[k], point, atol=1e-5)
        features = augmented(point.view(3, 3)) if model == "lstm-aug" else point
        said, h, c = by_hand(learner.nets[0], (features - seen.mean(0)) / seen.std(0), h, c)


def test_loss_is_that_of_the_next_points() -> None:
    learner, sequences, _ = small()
    batch = sequences.x
    said = torch.stack([learner.nets[0](((one[:-1] - learner.mean) / learner.scale)[None])[0][0] for one in batch])
    target = (batch[:, 1:] - learner.mean) / learner.scale
    expected = float((said - target).square().mean().detach())
    assert float(learner.loss(batch).detach()) == pytest.approx(expected, rel=1e-5)


def test_augmented_features() -> None:
    r = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0], [1.0, 0.0, 0.0]])
    found = augmented(r).view(-1, 3)
    assert found.shape == (3 + 4 * 3, 3)
    assert found[3].tolist() == [0.0, -3.0, -4.0]
    assert found[6].tolist() == pytest.approx([0.0, -0.6, -0.8])
    assert found[9].tolist() == pytest.approx([0.0, -0.12, -0.16])
    assert found[12].tolist() == pytest.approx([0.0, -0.024, -0.032])
    assert torch.isfinite(augmented(torch.zeros(2, 3))).all()


def test_sequences_are_cut_dealt_and_described() -> None:
    data = load("threebody", points=65)
    sequences = Sequences(data)
    assert (sequences.count, sequences.steps(2), sequences.x.shape) == (3, 2, (3, LENGTH, 9))
    assert torch.equal(sequences.x[1, 0], data.train.observations[LENGTH].reshape(-1).float())
    again = [torch.cat(list(sequences.batches(epoch, 1, 2))) for epoch in (0, 0, 1, 2, 3)]
    assert torch.equal(again[0], again[1])
    assert any(not torch.equal(again[0], one) for one in again[2:])
    (batch,) = sequences.test(5)
    assert batch["series"].shape == (130, 9)
    assert batch["late"].sum() == 65
    assert sequences.describe()["sha256"] == data.data_hash


def test_what_has_no_sequences_is_refused() -> None:
    times = torch.linspace(0, 1, 30, dtype=torch.float64)
    values = times[:, None].clone()
    with pytest.raises(InputError, match="not equally spaced"):
        Sequences(Experiment("a", Trajectory(times**2, values), torch.zeros(1)))
    values[3] = torch.nan
    with pytest.raises(InputError, match="has gaps"):
        Sequences(Experiment("a", Trajectory(times, values), torch.zeros(1)))
    with pytest.raises(InputError, match="has 19 points"):
        Sequences(load("threebody", points=19))
    scalar = Sequences(Experiment("a", Trajectory(times, times[:, None]), torch.zeros(1)))
    with pytest.raises(InputError, match="needs bodies in space"):
        network("lstm-aug", scalar)


def test_several_seeds_are_each_as_if_alone() -> None:
    together = train(*small(seeds=2, seed=4))
    for k in (0, 1):
        alone = train(*small(seed=4 + k))
        for name, value in alone.learner.state_dict().items():
            if name.startswith("nets.0."):
                assert torch.equal(value, together.learner.state_dict()[name.replace("nets.0", f"nets.{k}")]), name


def test_resumed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    whole = train(*small(epochs=6))
    steps = 0

    def stop(row: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    assert train(*small(epochs=6), out=tmp_path / "run", progress=stop).status == "interrupted"
    resumed = Trained.resume(tmp_path / "run")
    assert resumed.status == "finished"
    for name, value in whole.learner.state_dict().items():
        assert torch.equal(value, resumed.learner.state_dict()[name]), name
    assert resumed.scores == whole.scores


def test_scores_forecast_and_band(tmp_path: Path) -> None:
    learner, sequences, recipe = small(seeds=3)
    train(learner, sequences, recipe, out=tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert isinstance(run, FreeRun)
    data, test = run.experiment, run.experiment.test
    assert test is not None
    path = learner.free_run(test.observations.reshape(-1, 9)[:GIVEN].float(), len(test)).double().mean(0)
    error = (path - test.observations.reshape(-1, 9)).square().sum(1)
    late = test.times > data.train.times[-1]
    scores = run.scores
    assert scores["test"] is not None and scores["forecast"] is not None  # noqa: PT018
    assert scores["test"]["mse"] == pytest.approx(float(error.mean()), rel=1e-5)
    assert scores["forecast"]["mse"] == pytest.approx(float(error[late].mean()), rel=1e-5)
    forecast = run.forecast(data.train.times.numpy())
    paths = learner.free_run(data.train.observations.reshape(-1, 9)[:GIVEN].float(), 60).double().numpy()
    assert np.allclose(forecast.mean, paths.mean(0), atol=1e-6)
    reach = 4.3026527 * np.sqrt(1 + 1 / 3) * paths.std(0, ddof=1)  # where a further seed's path falls
    assert np.allclose(forecast.high - forecast.mean, reach, atol=1e-6)
    assert np.allclose(forecast.mean[:GIVEN], data.train.observations.reshape(-1, 9)[:GIVEN], atol=1e-6)
    assert "the spread of 3 seeds" in str(run.forecast(2.0))
    assert "in the band of the seeds' spread" in str(run.forecast(2.0))
    with pytest.raises(InputError, match="no unknowns to draw"):
        run.forecast(2.0, draws=200)


def test_one_seed_has_no_band(tmp_path: Path) -> None:
    train(*small("lstm-aug"), out=tmp_path / "run")
    run = FreeRun.load(tmp_path / "run")
    forecast = run.forecast(1.5)
    assert np.isnan(forecast.low).all()
    assert "no band: 1 of 3 seeds or more" in str(forecast)
    assert np.isfinite(forecast.mean).all()
    (tracks,) = collect(run)
    assert tracks.forecast.shape[1:] == (3, 3)


@pytest.mark.slow
def test_the_commands_take_a_network_beside_a_fit(tmp_path: Path, capsys: Captured) -> None:
    net, ode = str(tmp_path / "net"), str(tmp_path / "ode")
    options = ["--points", "60", "--quiet"]
    made = ["fit", "threebody", "--model", "lstm", "--epochs", "2", "--seeds", "3", "--hidden", "5"]
    assert main([*made, *options, "--out", net]) == 0
    assert main(["fit", "threebody", *options, "--out", ode]) == 0
    capsys.readouterr()
    assert main(["compare", net, ode, "--out", str(tmp_path / "both.png"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert rows["net"]["model"] == "lstm"
    assert rows["net"]["forecast rmse"] > rows["ode"]["forecast rmse"]
    assert main(["forecast", net, "--out", str(tmp_path / "f.csv"), "--out", str(tmp_path / "f.png")]) == 0
    assert main(["view", net, ode, "--html", str(tmp_path / "v.html"), "--quiet"]) == 0
    assert (tmp_path / "v.html").stat().st_size > 10_000
    assert "net" in str(Comparison([FreeRun.load(net), Fit.load(ode)], ["net", "ode"]))
    assert main(["profile", net]) == 2
    assert main(["fit", "threebody", "--hidden", "3"]) == 2
