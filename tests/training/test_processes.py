"""Two processes that train together compute what one does on the whole batch; a board is told of every epoch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toys import RECIPE, Line, Points

from physid.api.train import Trained, train
from physid.errors import InputError
from physid.training import Rate, Recipe
from physid.training.processes import ALONE, Processes, SharedBatchNorm, share_batch_norm, size

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
import torch
from physid import datasets, models
from physid.api.train import train
from physid.training import Rate, Recipe
torch.set_num_threads(1)
gradient, rtol, out = sys.argv[1:]
data = datasets.collect("images-toy", images=15, test_images=7, classes=3, size=8)
torch.manual_seed(1)
net = models.network("node18", data, width=2, gradient=gradient, solver="heun_euler", rtol=rtol).double()
recipe = Recipe(2, 10, 0.05, "sgd", {"momentum": 0.9}, Rate("milestones", 0.1, milestones=(1,)), clip=5.0)
train(net, data, recipe, out=out)
"""


def run(arguments: list[str], count: int) -> None:
    """The script in `count` processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(count):
        told = {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **(told if count > 1 else {}), "LOCAL_RANK": str(rank)}
        started.append(
            subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, env=environment, stderr=-1)
        )
    for process in started:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors.decode()


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["aca", "naive"])
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path, gradient: str) -> None:
    for count in (1, 2):
        run([gradient, "1e-2", str(tmp_path / f"run{count}")], count)
    one, two = (Trained.load(tmp_path / f"run{count}") for count in (1, 2))
    for name in ("loss", "test_loss", "test_error", "evaluations", "accepted"):
        found = [[row[name] for row in trained.history] for trained in (one, two)]
        assert found[1] == pytest.approx(found[0], rel=1e-9), name
    weights = two.learner.state_dict()
    for name, value in one.learner.state_dict().items():
        assert torch.allclose(value, weights[name], rtol=1e-7, atol=1e-10), name


@pytest.mark.slow
def test_two_processes_by_the_adjoint_stay_close(tmp_path: Path) -> None:
    """Its reverse steps are chosen without the parameters' shares, so that they are others than those of one."""
    for count in (1, 2):
        run(["adjoint", "1e-3", str(tmp_path / f"run{count}")], count)
    one, two = (Trained.load(tmp_path / f"run{count}").history for count in (1, 2))
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=0.02)


def test_shared_batch_norm_alone_is_batch_norm() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4, momentum=None))
    ).double()
    shared = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4, momentum=None))
    ).double()
    shared.load_state_dict(plain.state_dict())
    share_batch_norm(shared, ALONE)
    assert isinstance(shared[1], SharedBatchNorm)
    assert list(shared.state_dict()) == list(plain.state_dict())
    for mode in (True, True, False):
        x = torch.randn(5, 3, 6, 6, dtype=torch.float64)
        found = [net.train(mode)(x) for net in (plain, shared)]
        assert torch.allclose(*found, atol=1e-12)  # type: ignore[misc]
        grads = [
            torch.autograd.grad(y.square().sum(), list(net.parameters()))
            for y, net in zip(found, (plain, shared), strict=True)
        ]
        assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(*grads, strict=True))
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, shared.state_dict()[name], atol=1e-12), name


def test_shares_of_a_batch() -> None:
    batch = {"x": torch.arange(7), "y": (torch.arange(7), torch.arange(7) * 2)}
    shares = [Processes(rank, 3).share(batch) for rank in range(3)]
    assert [size(share) for share in shares] == [3, 2, 2]
    assert torch.equal(torch.cat([share["y"][1] for share in shares]), batch["y"][1])  # type: ignore[index]
    with pytest.raises(InputError, match="2 samples for 3 processes"):
        Processes(0, 3).share(torch.arange(2))


def test_tensorboard_is_told_of_every_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    trained = train(Line(2), Points(), replace(RECIPE, epochs=3), out=run)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (row["epoch"], pytest.approx(row["loss"], rel=1e-6)) for row in trained.history
    ]


def test_without_tensorboard_there_is_no_folder_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(Line(2), Points(), Recipe(2, 6, 0.1, "sgd", rate=Rate()), out=tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()
