"""Ctrl-C, time limits and flags are heard inside of solves: compiled, eager, over threads and processes, in fits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from torch import Tensor

from physid import Experiment, Integrator, Model, Trajectory, Unknown, positive, solve
from physid.inference.parameters import vector_of
from physid.inference.simulate import simulate
from physid.ode import hearing
from physid.ode.solution import Status

SCRIPT = Path(__file__).parents[1] / "interrupting.py"
ALLOWED = 0.5  # seconds, beside what any program takes on this machine at the time


def interrupted(python: str, *kinds: str) -> dict[str, float]:
    """Seconds that every kind of work took to stop, by its name."""
    command = [python, str(SCRIPT), "busy", *kinds]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=warm.unmeasured(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: float(seconds) for name, seconds in (line.split() for line in done.stdout.splitlines())}


def test_ctrl_c_is_heard_within_half_a_second_wherever_a_solve_is(python: str) -> None:
    kinds = ("compiled", "eager", "batch", "backward", "graph", "forward", "compiler", "event", "fitting")
    took = interrupted(python, *kinds)
    slack = ALLOWED + 5 * took.pop("busy")
    assert {name: seconds for name, seconds in took.items() if not seconds < slack} == {}
    assert set(took) == set(kinds)


@pytest.mark.slow
def test_ctrl_c_ends_starts_over_processes() -> None:
    took = interrupted(sys.executable, "workers")
    assert took["workers"] < 2 * ALLOWED + 5 * took["busy"]  # the workers are ended, too


def test_no_ctrl_c_is_lost_between_short_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A destructor in Python would hear the signal as it begins, and lose what the handler raises."""
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    heard, sent, ready, ended = 0, 0, threading.Event(), threading.Event()

    def send() -> None:
        nonlocal sent
        for sent in range(1, 51):
            ready.wait()
            ready.clear()
            time.sleep(0.003 + 0.0002 * sent)
            os.kill(os.getpid(), signal.SIGINT)
            while heard < sent and not lost:
                time.sleep(0.001)
            if lost:
                break
        ended.set()

    y0, times = torch.ones(2, dtype=torch.float64, requires_grad=True), [0.0, 0.01]
    found = solve(fast, y0, times)
    assert found.engine == "native"
    assert isinstance(found.y, Tensor)
    found.y.sum().backward()
    sender = threading.Thread(target=send)
    sender.start()
    while not ended.is_set():
        try:
            ready.set()  # from here on a signal may come
            while not ended.is_set():
                y = solve(fast, y0, times).y
                assert isinstance(y, Tensor)
                y.sum().backward()
        except KeyboardInterrupt:
            heard += 1
    sender.join()
    assert (heard, lost) == (50, [])


rate = torch.tensor(1.0, dtype=torch.float64)
one = torch.ones(2, dtype=torch.float64)


def fast(t: Tensor, y: Tensor) -> Tensor:
    return -1e4 * rate * (y - torch.cos(1e3 * t))


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_a_time_limit_ends_a_march_with_what_was_reached(engine: str) -> None:
    solve(fast, one, [0.0, 1e-3], engine=engine)
    started = time.perf_counter()
    found = solve(fast, one, [0.0, 1e-6, 1e5], engine=engine, max_steps=10**9, time_limit=0.4, throw=False)
    assert time.perf_counter() - started < 2
    assert found.status is Status.TIME_LIMIT
    assert found.message.startswith("0.4 s of time limit reached only t = ")
    assert isinstance(found.y, Tensor)
    assert torch.isfinite(found.y[:2]).all()
    assert torch.isnan(found.y[2]).all()


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_a_deadline_of_the_caller_ends_all_in_it_and_nothing_after_it(engine: str) -> None:
    started = time.perf_counter()
    with pytest.raises(hearing.TimeUp), hearing.listening(0.2), hearing.listening(100.0):
        solve(fast, one, [0.0, 1e5], engine=engine, max_steps=10**9)
    assert time.perf_counter() - started < 2
    with hearing.within(0.0):
        assert solve(fast, one, [0.0, 1e5], engine=engine, throw=False).message.startswith("the time limit reached")
    assert solve(fast, one, [0.0, 1e-3], engine=engine).ok


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_a_flag_stops_a_solve_of_another_thread(engine: str) -> None:
    flag, ended = hearing.Flag(), threading.Event()

    def work() -> None:
        with hearing.listening(flag=flag):
            try:
                solve(fast, one, [0.0, 1e5], engine=engine, max_steps=10**9)
            except KeyboardInterrupt:
                ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)
    flag.up()
    thread.join(20)
    assert ended.is_set()


def test_a_prediction_that_runs_out_of_time_has_what_was_reached_and_no_more() -> None:
    class Many(Model):
        state_names = tuple(f"x{i}" for i in range(40))
        channel_names = ("x0",)
        k = Unknown(1.0, positive)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.k * y.roll(1, -1) * torch.where(t > 1.5, 1e9, 1.0)

        def observe(self, y: Tensor) -> Tensor:
            return y[..., :1]

    times = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    data = Experiment("many", Trajectory(times, torch.ones(3, 1)), torch.ones(40), initial_free=torch.ones(40).bool())
    joint = vector_of(Many(), data)
    integrator = Integrator("dopri5", 1e-6, gradient="forward", max_steps=200)
    whole = simulate(joint, [joint.get()], times[:2], integrator, sensitivities=True)[0]
    cut = simulate(joint, [joint.get()], times, integrator, sensitivities=True)[0]
    assert whole.solution.ok
    assert not cut.solution.ok
    assert np.allclose(cut.mean[:2], whole.mean, rtol=1e-5)
    assert np.allclose(cut.slopes[:2], whole.slopes, atol=1e-5)
    with hearing.within(0.0):
        none = simulate(joint, [joint.get()], times, integrator, sensitivities=True)[0]
    for found, first in ((cut, 2), (none, 0)):
        assert found.mean.shape == (3, 1)
        assert found.slopes.shape == (3, 1, 41)
        assert np.isnan(found.mean[first:]).all()
        assert np.isnan(found.slopes[first:]).all()
