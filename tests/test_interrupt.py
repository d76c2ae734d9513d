"""Ctrl-C, time limits and flags are heard inside of solves: compiled, eager, over threads and processes, in fits."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from physid import solve
from physid.ode import hearing
from physid.ode.solution import Status

SCRIPT = Path(__file__).parent / "interrupting.py"
ALLOWED = 0.5  # seconds, beside what any program takes on this machine at the time


def interrupted(*kinds: str) -> dict[str, float]:
    """Seconds that every kind of work took to stop, by its name."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "busy", *kinds], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: float(seconds) for name, seconds in (line.split() for line in done.stdout.splitlines())}


def test_ctrl_c_is_heard_within_half_a_second_wherever_a_solve_is() -> None:
    kinds = ("compiled", "eager", "batch", "backward", "graph", "forward", "compiler", "event", "fitting")
    took = interrupted(*kinds)
    slack = ALLOWED + 5 * took.pop("busy")
    assert {name: seconds for name, seconds in took.items() if not seconds < slack} == {}
    assert set(took) == set(kinds)


@pytest.mark.slow
def test_ctrl_c_ends_starts_over_processes() -> None:
    took = interrupted("workers")
    assert took["workers"] < 2 * ALLOWED + 5 * took["busy"]  # the workers are ended, too


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
