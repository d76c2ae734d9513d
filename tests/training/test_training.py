"""Trainings: what the loop computes, and that whatever cuts it off leaves a run that goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from toys import COLLECTION, NETWORK, RECIPE, Line, Points

from physid import datasets, models
from physid.api.fit import Fit
from physid.api.train import Trained, train
from physid.cli.app import main
from physid.datasets import collect
from physid.errors import InputError
from physid.models import network
from physid.runs import writer
from physid.runs.trainings import TRAININGS
from physid.runs.verify import verify
from physid.training import Rate, Recipe

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.NETWORKS, "line", NETWORK)
    monkeypatch.setitem(datasets.COLLECTIONS, "points", COLLECTION)
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)


def begin(seed: int = 3, **options: Any) -> tuple[Any, Any, Recipe]:
    torch.manual_seed(seed)
    points = collect("points")
    return network("line", points, **options), points, replace(RECIPE, seed=seed)


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.learner.state_dict().items()}


def same(one: Trained, other: Trained) -> None:
    """The same bits in every weight and moment, and the same history but for the clock."""
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name
    clocks = ("seconds", "memory_mb")
    plain = [[{k: v for k, v in row.items() if k not in clocks} for row in run.history] for run in (one, other)]
    assert plain[0] == plain[1]


@pytest.fixture(scope="module")
def undisturbed() -> Trained:
    torch.manual_seed(3)
    learner = Line(3)
    return train(learner, Points(), replace(RECIPE, seed=3))


def test_the_loop_is_that_of_a_plain_script() -> None:
    """Adam without dropout and clipping, written out by hand."""
    torch.manual_seed(0)
    ours, plain = Line(2), Line(2)
    plain.load_state_dict(ours.state_dict())
    for module in (ours, plain):
        module.net[0] = torch.nn.Identity()
    points, recipe = (
        Points(),
        Recipe(3, 7, 0.02, options={"betas": (0.8, 0.9)}, rate=Rate("milestones", 0.1, milestones=(1,))),
    )
    trained = train(ours, points, recipe)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.02, betas=(0.8, 0.9))
    losses = []
    for epoch in range(3):
        total = 0.0
        for batch in points.batches(epoch, 0, 7):
            optimizer.param_groups[0]["lr"] = 0.02 if epoch == 0 else 0.002
            optimizer.zero_grad()
            loss = plain.loss(batch)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        losses.append(total / 4)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [row["loss"] for row in trained.history] == losses
    plain.eval()
    error = (plain((points.x, points.y)) - points.y).detach()
    assert trained.scores["mse"] == pytest.approx(float(error.square().mean()), rel=1e-6)
    assert trained.history[0]["evaluations"] == 1.0
    assert ours.epochs == [-1, 0, 1, 2]
    assert (trained.status, trained.exit_code) == ("finished", 0)


@given(some.integers(0, 20), some.integers(0, 400))
def test_rates(epoch: int, iteration: int) -> None:
    assert Rate("exponential", 0.9).at(epoch, iteration, 400) == 0.9**epoch
    assert Rate("exponential", 0.9, floor=0.3, per="iteration").at(epoch, iteration, 400) == max(0.9**iteration, 0.3)
    assert Rate().at(epoch, iteration, 400) == 1
    cycle = Rate("one-cycle", warm=0.25)
    assert 0 <= cycle.at(epoch, iteration, 400) <= 1
    assert cycle.at(0, 100, 400) == 1
    assert cycle.at(0, 0, 400) == pytest.approx(0.04)


class Stop(BaseException):
    """The end of a process, as a test can catch it: nothing handles it."""


def after(steps: int, error: type[BaseException]) -> Any:
    count = 0

    def progress(row: Mapping[str, Any]) -> None:
        nonlocal count
        count += 1
        if count == steps:
            raise error

    return progress


@pytest.mark.parametrize("steps", [5, 13, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 6, 20))])
def test_killed_anywhere_and_resumed_to_the_same_bits(tmp_path: Path, undisturbed: Trained, steps: int) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(*begin(), out=run, progress=after(steps, Stop))
    torch.manual_seed(99)  # another process
    same(Trained.resume(run), undisturbed)
    same(Trained.load(run), undisturbed)


def test_interrupted_and_out_of_time(tmp_path: Path, undisturbed: Trained) -> None:
    run = tmp_path / "run"

    def interrupt(row: Mapping[str, Any]) -> None:
        if row["step"] == "3/5":
            os.kill(os.getpid(), signal.SIGINT)

    first = train(*begin(), out=run, progress=interrupt)
    assert (first.status, first.exit_code) == ("interrupted", 130)
    assert first.history == []
    assert Trained.load(run).status == "interrupted"
    second = Trained.resume(run, time_limit=1e-9)
    assert (second.status, second.exit_code) == ("time limit", 124)
    same(Trained.resume(run), undisturbed)
    same(Trained.resume(run), undisturbed)  # finished: read again


def test_a_training_without_its_checkpoint_starts_anew_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    torch.manual_seed(3)
    whole = train(*begin())
    torch.manual_seed(3)
    with pytest.raises(Stop):
        train(*begin(), out=run, progress=after(6, Stop))
    (run / "checkpoint.safetensors").unlink()
    with pytest.warns(writer.StartsAnew, match=r"no checkpoint\.safetensors: the training starts anew"):
        found = Trained.resume(run)
    assert [row["epoch"] for row in found.history] == [row["epoch"] for row in whole.history]
    same(found, whole)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    found = train(Line(poison=7), Points(), replace(RECIPE, batch=3), out=tmp_path / "run")
    assert (found.status, found.exit_code) == ("diverged", 4)
    assert "epoch 1, step 7" in found.message
    assert all(torch.isfinite(value).all() for value in weights(found).values())


def test_refusals(tmp_path: Path) -> None:
    learner, points, recipe = begin()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        train(learner, points, recipe, out=tmp_path / "full")
    for make, text in (
        (lambda: Recipe(1, 1, 0.1, optimizer="adm"), r"'adm'\. Did you mean 'adam'"),
        (lambda: Recipe(1, 1, lr=-1.0), "lr=-1.0: expected a positive number"),
        (lambda: Rate("exponental"), "Did you mean 'exponential'"),
    ):
        with pytest.raises(InputError, match=text):
            make()
    with pytest.raises(InputError, match="options of sgd"):
        train(learner, points, Recipe(1, 1, 0.1, "sgd", {"betas": 1}))
    with pytest.raises(InputError, match="Did you mean 'width'"):
        network("line", points, widht=3)
    with pytest.raises(InputError, match=r"'lin'\. Did you mean 'line'"):
        network("lin", points)


def test_damage_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train(*begin(), out=run, time_limit=1e-9)
    with pytest.raises(InputError, match="a training of a network"):
        Fit.load(run)
    good = (run / "checkpoint.safetensors").read_bytes()
    for bad in (b"", good[:40], good[:-5]):
        (run / "checkpoint.safetensors").write_bytes(bad)
        with pytest.raises(InputError, match="damaged"):
            Trained.resume(run)
    (run / "checkpoint.safetensors").write_bytes(good)
    request = json.loads((run / "request.json").read_text())
    assert request["learner"] == {"model": "line", "options": {"width": 3, "poison": 0}, "class": "Line"}
    monkeypatch.setattr(Points, "describe", lambda self: {"points": 3})
    with pytest.raises(InputError, match="not what it was"):
        Trained.resume(run)


def test_a_learner_of_ones_own_is_given_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = train(Line(4), Points(), RECIPE, out=run)
    with pytest.raises(InputError, match=r"learner=\.\.\."):
        Trained.load(run)
    same(Trained.load(run, Line(4)), trained)
    with pytest.raises(InputError, match="damaged"):
        Trained.load(run, Line(5))


def test_the_commands(tmp_path: Path, capsys: Captured) -> None:
    run = str(tmp_path / "run")
    assert main(["fit", "points", "--out", run, "--epochs", "2", "--batch", "6", "--json", "--seed", "4"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["status"], done["epochs"], done["weights"]) == ("finished", 2, 19)
    assert (done["recipe"]["batch"], done["recipe"]["seed"], done["model"]) == (6, 4, "line")
    assert main(["report", run]) == 0
    assert "points with model line: finished." in capsys.readouterr().out
    assert main(["resume", run]) == 0
    assert main(["verify", run]) == 0
    assert "every file is intact and 1 scores come out again" in capsys.readouterr().out
    assert main(["list", "networks"]) == 0
    assert "hasty" in capsys.readouterr().out
    cut = str(tmp_path / "cut")
    arguments = ["fit", "points", "--model", "line", "--protocol", "hasty", "--lr", "0.2"]
    assert main([*arguments, "--out", cut, "--time-limit", "1e-9"]) == 124
    assert main(["verify", cut]) == 2
    assert "is 'time limit': its end cannot be replayed. First: physid resume" in capsys.readouterr().err
    assert main(["resume", cut]) == 0
    trained = Trained.load(cut)
    assert (trained.recipe.optimizer, trained.recipe.lr, trained.recipe.epochs) == ("sgd", 0.2, 2)
    assert main([*arguments, "--dry-run"]) == 0


def test_verify_sees_weights_that_are_not_those_of_the_scores(tmp_path: Path) -> None:
    found = train(*begin(), out=tmp_path / "run")
    assert verify(tmp_path / "run").ok
    with torch.no_grad():
        next(found.learner.parameters()).add_(0.1)
    files = {
        path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name in TRAININGS.encode(found)
    }
    keeper = writer.RunWriter(
        tmp_path / "run", {"request.json": (tmp_path / "run" / "request.json").read_bytes()}, resumed=True
    )
    keeper.finish({**files, "model.safetensors": TRAININGS.encode(found)["model.safetensors"]})  # with sums that fit
    keeper.close()
    (difference,) = verify(tmp_path / "run").differences
    assert difference.startswith(f"the test mse was {found.scores['mse']:.10g} and is ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["points", "--model", "gravity"], "network for points 'gravity'"),
        (["points", "--starts", "3"], "--starts belongs to fits of unknowns, but line is trained by batches"),
        (["points", "--fix", "a=1"], "--fix belongs"),
        (["points", "--protocol", "hastyy"], "Did you mean 'hasty'"),
        (["points", "--set", "coutn=3"], "Did you mean 'count'"),
        (["points", "--model", "line", "--rtol", "1e-3"], "option of line 'rtol'"),
        (["threebody", "--model", "line"], "line cannot be trained on threebody: it takes points"),
        (["exponential", "--batch", "3"], "--batch belongs to networks"),
        (["--model", "line"], "nothing to train line on"),
        (["exponential", "--model", "lien"], "Did you mean 'line'"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str], text: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_kill_9_in_mid_epoch(tmp_path: Path, undisturbed: Trained, python: str) -> None:
    """A process that is killed, by the real signal."""
    run = tmp_path / "run"
    code = f"""
import os, signal, sys, torch
sys.path.insert(0, "tests")
from dataclasses import replace
from pathlib import Path
from physid import datasets, models
from physid.runs import writer as keep
from physid.api.train import train
from toys import COLLECTION, NETWORK, RECIPE
models.NETWORKS["line"], datasets.COLLECTIONS["points"] = NETWORK, COLLECTION
keep.EVERY = keep.SHARE = 0.0
torch.manual_seed(3)
points = datasets.collect("points")
def kill(row):
    if (row["epoch"], row["step"]) == ("3/4", "2/5"):
        os.kill(os.getpid(), signal.SIGKILL)
train(models.network("line", points), points, replace(RECIPE, seed=3), out={str(run)!r}, progress=kill)
"""
    done = subprocess.run([python, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (run / "SHA256SUMS").exists()
    same(Trained.resume(run), undisturbed)
