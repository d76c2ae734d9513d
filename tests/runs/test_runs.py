"""Runs survive: whatever ends a fit, at whatever moment, its run directory goes on from there."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from variants import some

from physid import Experiment, Fit, Integrator, fit
from physid.cli.app import main
from physid.datasets import load
from physid.errors import InputError
from physid.formats import SUMS, Folder, archive_bytes, read_archive
from physid.models import build
from physid.runs import writer
from physid.runs.verify import verify
from physid.store import claim, put

Captured = pytest.CaptureFixture[str]


class Stop(BaseException):
    """The end of a process, as a test can catch it: nothing handles it."""


def far() -> Experiment:
    """A pendulum that is seen from too long a length, so that segments come first."""
    return load("pendulum", points=24, noise=0.05)


def start(**options: Any) -> Fit:
    experiment = far()
    model = build(experiment)
    model.length, model.friction = torch.tensor(1.6), torch.tensor(0.4)
    return fit(model, experiment, integrator=Integrator("tsit5", 1e-6, 1e-6), **options)


@pytest.fixture(autouse=True)
def _checkpoint_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)


@pytest.fixture(scope="module")
def undisturbed() -> Fit:
    """The fit that nothing disturbs."""
    return start()


def after(evaluations: int, error: type[BaseException]) -> Callable[[Mapping[str, Any]], None]:
    """Progress that ends the fit."""

    def progress(row: Mapping[str, Any]) -> None:
        if row["evaluation"] == evaluations:
            raise error

    return progress


def same(one: Fit, other: Fit) -> None:
    """Both are at one optimum, to a thousandth of a standard error."""
    assert one.status == other.status == "converged"
    for a, b in zip(one.estimates, other.estimates, strict=True):
        assert a.stderr is not None
        assert abs(a.value - b.value) < 1e-3 * a.stderr
        assert (a.start, a.name) == (b.start, b.name)


@pytest.mark.parametrize("evaluations", some([3, 16, 23], 16))
def test_a_fit_that_ends_anywhere_goes_on_to_the_same_optimum(
    evaluations: int, tmp_path: Path, undisturbed: Fit
) -> None:
    with pytest.raises(Stop):
        start(out=tmp_path / "run", progress=after(evaluations, Stop))
    assert not (tmp_path / "run" / SUMS).exists()
    with pytest.raises(InputError, match=r"is not finished.*physid resume"):
        Fit.load(tmp_path / "run")
    found = Fit.resume(tmp_path / "run")
    same(found, undisturbed)
    same(Fit.load(tmp_path / "run"), undisturbed)
    numbers = [row["evaluation"] for row in found.history]
    assert numbers == list(range(1, len(numbers) + 1))
    assert found.history[0] == {**undisturbed.history[0], "seconds": found.history[0]["seconds"]}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("stage", ["weld", "full"])
def test_it_goes_on_where_it_stood(stage: str, tmp_path: Path, undisturbed: Fit) -> None:
    phases = [str(row["phase"]) for row in undisturbed.history]
    assert phases[0] == "full"
    last = max(i for i, phase in enumerate(phases) if phase.startswith("segments"))
    with pytest.raises(Stop):
        start(out=tmp_path / "run", progress=after(last if stage == "weld" else len(phases), Stop))
    found = Fit.resume(tmp_path / "run")
    began = len(phases) - 2
    assert found.history[began]["seconds"] > 0
    assert len(found.history) <= len(phases) + 4  # nothing but the last stage was done again


def test_adam_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    experiment = load("exponential", noise=0.1)
    options: dict[str, Any] = {"optimizer": "adam", "epochs": 30, "protocol": "paper-code", "seed": 4}
    whole = fit(build(experiment), experiment, **options)
    with pytest.raises(Stop):
        fit(build(experiment), experiment, out=tmp_path / "run", progress=after(17, Stop), **options)
    found = Fit.resume(tmp_path / "run")
    assert found.x.tolist() == whole.x.tolist()
    costs = [[row["cost"] for row in one.history] for one in (found, whole)]
    assert costs[0] == costs[1]
    assert found.estimates == whole.estimates
    assert found.evaluations == pytest.approx(whole.evaluations, rel=0.02)


def test_lbfgs_goes_on(tmp_path: Path) -> None:
    experiment = load("pendulum", noise=0.05, points=30)
    whole = fit(build(experiment), experiment, optimizer="lbfgs")
    with pytest.raises(Stop):
        fit(build(experiment), experiment, optimizer="lbfgs", out=tmp_path / "run", progress=after(6, Stop))
    same(Fit.resume(tmp_path / "run"), whole)


def test_an_interrupted_run_is_usable_and_goes_on(tmp_path: Path, undisturbed: Fit) -> None:
    found = start(out=tmp_path / "run", progress=after(12, KeyboardInterrupt))
    assert found.status == "interrupted"
    assert Fit.load(tmp_path / "run").status == "interrupted"
    with pytest.raises(InputError, match="its end cannot be replayed"):
        verify(tmp_path / "run")
    same(Fit.resume(tmp_path / "run"), undisturbed)
    same(Fit.resume(tmp_path / "run"), undisturbed)  # now it has converged: nothing is done
    saved = undisturbed.save(tmp_path / "saved")
    assert verify(saved).ok


def test_only_one_fit_at_a_time(tmp_path: Path) -> None:
    def other(row: Mapping[str, Any]) -> None:
        if row["evaluation"] == 12:
            with pytest.raises(InputError, match="is being fitted by another process"):
                Fit.resume(tmp_path / "run")
            with pytest.raises(InputError, match="exists and is not empty"):
                start(out=tmp_path / "run")
            raise Stop

    with pytest.raises(Stop):
        start(out=tmp_path / "run", progress=other)
    claim(tmp_path / "run").close()  # free again

    def rival(row: Mapping[str, Any]) -> None:  # the same name is taken between the check and the first checkpoint
        if row["evaluation"] == 1:
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / "file").touch()

    with pytest.raises(InputError, match=r"other cannot be written: Directory not empty"):
        start(out=tmp_path / "other", progress=rival)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["file"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_last_checkpoint(
    broken: str, tmp_path: Path, undisturbed: Fit, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise full

    def fill(row: Mapping[str, Any]) -> None:
        if row["evaluation"] == 15:
            if broken == "write":
                monkeypatch.setattr(os, "fdopen", refuse)
            else:
                monkeypatch.setattr(os, broken, refuse)

    with pytest.raises(InputError, match=r"No space left on device.*make room, then physid resume"):
        start(out=tmp_path / "run", progress=fill)
    monkeypatch.undo()
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    assert main(["report", str(tmp_path / "run")]) == 2
    assert main(["resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    same(Fit.load(tmp_path / "run"), undisturbed)


def decay_fit(folder: Path | None = None) -> Fit:
    experiment = load("exponential", noise=0.05, points=20)
    return fit(build(experiment), experiment, out=folder)


def dying_fit(folder: Path, call: str, target: int, moment: str) -> int:
    """The exit status of a process that fits into `folder` and is gone before or after its call number `target`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    real, number = getattr(os, call), 0

    def deadly(*arguments: Any, **keywords: Any) -> Any:
        nonlocal number
        number += 1
        if number == target and moment == "before":
            os._exit(9)
        result = real(*arguments, **keywords)
        if number == target:
            os._exit(9)
        return result

    setattr(os, call, deadly)
    decay_fit(folder)
    os._exit(0)


def die_everywhere(folder: Path, call: str, moment: str, step: int) -> int:
    """Die at every `step`-th call, go on each time, and return the number of calls of a fit that lives."""
    whole = decay_fit()
    for target in range(1, 200, step):
        run = folder / f"run{target}"
        status = dying_fit(run, call, target, moment)
        assert status in (0, 9)
        if run.exists():
            same(Fit.resume(run), whole)
            assert Folder(run).altered() == []
        if status == 0:
            return target - 1
    raise AssertionError("it always died")


@pytest.mark.parametrize(("call", "moment", "step"), [("fsync", "after", 20), pytest.param("replace", "before", 14, marks=pytest.mark.slow)])
def test_the_process_dies_around_steps_of_writing(call: str, moment: str, step: int, tmp_path: Path) -> None:
    """No handler runs, no buffer is flushed: whatever is on the disk by then goes on, or nothing has begun."""
    assert die_everywhere(tmp_path, call, moment, step) > 15


@pytest.mark.slow
@pytest.mark.parametrize(("call", "least"), [("fsync", 40), ("replace", 20), ("rename", 1)])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_process_dies_around_every_step_of_writing(call: str, least: int, moment: str, tmp_path: Path) -> None:
    assert die_everywhere(tmp_path, call, moment, 1) >= least


def test_put_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a", b"before")
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(
                os, call, lambda *arguments, **keywords: (_ for _ in ()).throw(OSError(errno.EIO, "input/output error"))
            )
            with pytest.raises(OSError, match="input/output error"):
                put(tmp_path / "a", b"after")
        assert (tmp_path / "a").read_bytes() == b"before"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_killed_process_is_resumed_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    arguments = ["fit", "vanderpol", "--optimizer", "adam", "--epochs", "4000", "--json", "--out", "run"]
    monkeypatch.chdir(tmp_path)
    process = os.fork()  # as a start of Python does, less its imports
    if process == 0:
        os._exit(main(arguments))
    while not (tmp_path / "run").exists():
        assert os.waitpid(process, os.WNOHANG) == (0, 0)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    capsys.readouterr()
    assert main(["report", "run"]) == 2
    assert "is not finished: its fit still runs, or was killed. Then: physid resume run" in capsys.readouterr().err
    assert main(["verify", "run"]) == 2
    assert main(["resume", "run", "--time-limit", "0.2", "--quiet"]) == 124
    assert main(["resume", "run", "--time-limit", "0.2", "--json"]) == 124
    assert main(["report", "run"]) == 0


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        start(out=tmp_path / "run", progress=after(12, Stop))
    path = tmp_path / "run" / writer.CHECKPOINT
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"checkpoint\.npz is damaged"):
        Fit.resume(tmp_path / "run")
    with pytest.raises(InputError, match=r"it has no request\.json"):
        Fit.resume(tmp_path / "nothing")


def test_a_run_without_its_checkpoint_starts_anew_and_says_so(
    tmp_path: Path, undisturbed: Fit, capsys: Captured
) -> None:
    for name in ("run", "again"):
        with pytest.raises(Stop):
            start(out=tmp_path / name, progress=after(12, Stop))
        (tmp_path / name / writer.CHECKPOINT).unlink()
    with pytest.warns(writer.StartsAnew, match=r"run has no checkpoint\.npz: the fit starts anew"):
        found = Fit.resume(tmp_path / "run")
    same(found, undisturbed)
    assert len(found.history) == len(undisturbed.history)
    assert main(["resume", str(tmp_path / "again"), "--quiet"]) == 0
    assert capsys.readouterr().err == f"physid: {tmp_path}/again has no checkpoint.npz: the fit starts anew.\n"


def test_a_checkpoint_of_an_older_physid_goes_on_from_its_best_point(tmp_path: Path, undisturbed: Fit) -> None:
    with pytest.raises(Stop):
        start(out=tmp_path / "run", progress=after(16, Stop))
    path = tmp_path / "run" / writer.CHECKPOINT
    arrays = read_archive(path.read_bytes())
    about = json.loads(arrays["about"].tobytes())
    del about["state"]
    about["held"] = {"stage": "weld", "weld": 1, "most": 16, "rows": 4}
    old: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "best": arrays["best"],
        "state_z": np.ones(9),
    }
    path.write_bytes(archive_bytes(**old))
    same(Fit.resume(tmp_path / "run"), undisturbed)
