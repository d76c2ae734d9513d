"""Training of networks for images: the command, what is refused, and runs that go on to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from physid.api.train import Trained, train
from physid.cli.app import main
from physid.datasets import collect
from physid.models import NETWORKS, network
from physid.models.node18 import NODE18
from physid.runs import writer
from physid.training import Rate, Recipe

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]
RECIPE = Recipe(2, 16, 0.05, "sgd", {"momentum": 0.9, "weight_decay": 5e-4}, Rate("one-cycle"), seed=3)
DATA = {"images": 40, "test_images": 16, "classes": 3, "size": 8, "augment": "yes"}


def begin(model: str = "node18", **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    data = collect("images-toy", **DATA)
    return network(model, data, width=2, **options), data


def same(one: Trained, other: Trained) -> None:
    """The same bits in every weight, running statistic and count."""
    found = other.learner.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in one.learner.state_dict().items())
    assert [row["loss"] for row in one.history] == [row["loss"] for row in other.history]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)


@pytest.mark.usefixtures("often")
def test_interrupted_in_mid_epoch_and_resumed(tmp_path: Path) -> None:
    undisturbed = train(*begin(), RECIPE)

    def interrupt(row: Any) -> None:
        if (row["epoch"], row["step"]) == ("2/2", "1/3"):
            signal.raise_signal(signal.SIGINT)

    cut = train(*begin(), RECIPE, out=tmp_path / "run", progress=interrupt)
    assert cut.status == "interrupted"
    same(Trained.resume(tmp_path / "run"), undisturbed)
    assert undisturbed.history[0]["evaluations"] > 0 < undisturbed.history[0]["backward_evaluations"]


@pytest.mark.slow
def test_kill_9_in_mid_epoch(tmp_path: Path) -> None:
    """The command itself, killed by the real signal, then physid resume."""
    data = ["--set", "images=40", "--set", "test_images=16", "--set", "size=8", "--set", "augment=yes"]
    arguments = ["fit", "images-toy", "--model", "node18", "--width", "2", "--epochs", "3", "--batch", "8", *data]
    plain, run = tmp_path / "plain", tmp_path / "run"
    assert main([*arguments, "--seed", "5", "--out", str(plain), "--quiet"]) == 0
    code = f"""
import os, signal
from physid.cli.app import main
from physid.cli.console import Progress
from physid.runs import writer as keep
keep.EVERY = keep.SHARE = 0.0
def kill(self, fields):
    if (fields["epoch"], fields["step"]) == ("2/3", "3/5"):
        os.kill(os.getpid(), signal.SIGKILL)
Progress.__call__ = kill
main({[*arguments, "--seed", "5", "--out", str(run)]!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert not (run / "SHA256SUMS").exists()
    assert main(["resume", str(run), "--quiet"]) == 0
    same(Trained.load(run), Trained.load(plain))


@pytest.mark.parametrize(
    ("model", "options", "solver", "step"),
    [
        ("node18", {}, "heun_euler", None),
        ("node18", {"gradient": "adjoint"}, "dopri5", None),
        ("node18", {"gradient": "naive", "solver": "bosh3", "rtol": "0.1"}, "bosh3", None),
        ("node18", {"solver": "rk4", "step": "0.5"}, "rk4", 0.5),
        ("resnet18", {}, "euler", 1.0),
        ("anode18", {"steps": "4"}, "euler", 0.25),
    ],
)
def test_options_of_the_networks(model: str, options: dict[str, str], solver: str, step: float | None) -> None:
    net = begin(model, **options)[0]
    assert isinstance(net, NODE18)
    assert net.integrator.solver == solver
    assert getattr(net.integrator.control, "step", None) == step
    assert net.integrator.gradient == options.get("gradient", "naive" if model == "resnet18" else "aca")
    expected = {"heun_euler": 1e-2, "dopri5": 1e-5, "bosh3": 0.1}
    if solver in expected:
        assert (net.integrator.rtol, net.integrator.atol) == (expected[solver], expected[solver])


def test_the_schedules_of_the_paper() -> None:
    """Zhuang et al. (2020), appendix D."""
    protocols = NETWORKS["node18"].protocols
    found = {
        name: [recipe.epochs, recipe.batch, recipe.lr, *(recipe.lr * recipe.rate.at(epoch, 0, 1) for epoch in epochs)]
        for name, epochs in (
            ("paper-gradients", (29, 30, 60)),
            ("paper-90", (29, 30, 60)),
            ("paper-350", (149, 150, 250)),
        )
        for recipe in [protocols[name]]
    }
    assert found == {
        "paper-gradients": pytest.approx([90, 128, 0.01, 0.01, 1e-3, 1e-4]),
        "paper-90": pytest.approx([90, 128, 0.1, 0.1, 1e-2, 1e-3]),
        "paper-350": pytest.approx([350, 128, 0.1, 0.1, 1e-2, 1e-3]),
    }
    assert protocols["paper-gradients-naive"].batch == 32
    assert all(dict(p.options) == {"momentum": 0.9, "weight_decay": 5e-4} for p in protocols.values())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["images-toy", "--model", "resnet18", "--rtol", "0.1"], "option of resnet18 'rtol'"),
        (["images-toy", "--model", "node18", "--gradient", "forward"], "one of aca, naive, adjoint"),
        (["images-toy", "--model", "node18", "--protocol", "paper"], "protocol of node18 'paper'"),
        (["images-toy", "--model", "node18", "--solver", "heun_eular"], "heun_euler"),
        (["images-toy", "--model", "node18", "--set", "images=none"], "a whole number from 1 to 1000000"),
        (["images-toy", "--set", "version=binary"], "unknown option of images-toy"),
        (["exponential", "--compile"], "--compile belongs to networks"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str], text: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_learnt_task(tmp_path: Path, capsys: Captured) -> None:
    """A narrow network learns stripes far better than chance, which is an error of a half."""
    arguments = ["images-toy", "--model", "anode18", "--width", "4", "--epochs", "6", "--batch", "16", "--lr", "0.05"]
    data = [
        "--set",
        "images=96",
        "--set",
        "test_images=64",
        "--set",
        "size=8",
        "--set",
        "classes=2",
        "--set",
        "noise=0.05",
    ]
    assert main(["fit", *arguments, *data, "--out", str(tmp_path / "run"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["scores"]["error"] < 0.25
