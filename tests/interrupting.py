"""Long solves of every kind, each told by SIGINT to stop: `python interrupting.py KIND...` prints how long that took.

Run as a process of its own, with the handler that a terminal's programs have: under nohup or cron SIGINT is ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from physid import Experiment, Integrator, Model, Trajectory, Unknown, fit, odeint, odeint_event, positive, solve
from physid.ode.sensitivities import sensitivities

AFTER = 0.1  # seconds of work before the signal
AGAIN = 10.0  # seconds until the next
LONG: dict[str, Any] = {"max_steps": 10**9}
one = torch.ones(2, dtype=torch.float64)
rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
Work = Callable[[], object]


def field(t: Tensor, y: Tensor) -> Tensor:
    """A cosine that is followed at a high rate, for samples too."""
    return -1e4 * rate * (y - torch.cos(1e3 * t)[..., None])


def wide(t: Tensor, y: Tensor) -> Tensor:
    """The same for a state of 300 numbers that all depend on one another."""
    return -1e5 * rate * (y - 0.1 * torch.tanh(y @ torch.ones(300, 300, dtype=y.dtype)) * torch.cos(1e3 * t))


def compiled() -> Work:
    """One compiled solve."""
    assert solve(field, one, [0.0, 1e-3]).engine == "native"
    return lambda: solve(field, one, [0.0, 1e5], **LONG)


def eager() -> Work:
    """One by torch."""
    return lambda: solve(field, one, [0.0, 1e5], engine="eager", **LONG)


def batch() -> Work:
    """A batch over two threads."""
    torch.set_num_threads(2)
    many = torch.ones(64, 2, dtype=torch.float64)
    assert solve(field, many, [0.0, 1e-3], batched=True).engine == "native"
    return lambda: solve(field, many, [0.0, 1e5], batched=True, **LONG)


def backward() -> Work:
    """The compiled backward pass of a solve whose states are rebuilt from two."""
    torch.set_num_threads(1)
    y = odeint(field, one, torch.tensor([0.0, 40.0]), options={"checkpoints": 2})
    return lambda: y[-1].sum().backward()


def graph() -> Work:
    """A backward pass through a graph of all steps, again and again."""
    y = solve(field, one, [0.0, 0.002], gradient="naive").y
    assert isinstance(y, Tensor)
    return lambda: [torch.autograd.grad(y[-1].sum(), rate, retain_graph=True) for _ in range(1000)]


def forward() -> Work:
    """Sensitivities of a wide state, each evaluation of which is long."""
    integrator = Integrator("dopri8", 1e-10, 1e-10, **LONG)
    y = torch.ones(300, dtype=torch.float64)
    return lambda: sensitivities(wide, y, [0.0, 3.0], params=[rate], integrator=integrator)


def compiler() -> Work:
    """Waiting for the C compiler."""
    program = Path(tempfile.mkdtemp()) / "cc"
    program.write_text("#!/bin/sh\ncase $1 in --version) echo slow;; *) sleep 60;; esac\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    os.environ["CC"] = str(program)
    return lambda: solve(lambda t, y: -2.0 * rate * y, one, [0.0, 1.0])


def event() -> Work:
    """The search for an event that never comes."""

    def turning(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -y[0]])

    options = {"max_num_steps": 10**9}
    return lambda: odeint_event(turning, one, 0.0, event_fn=lambda t, y: y[0] + 9, options=options)


class Slow(Model):
    """A decay that drags a fast oscillation along: one solve of it takes very long."""

    state_names = ("x", "y")
    channel_names = ("x",)
    k = Unknown(1.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt."""
        return -1e4 * self.k * (y - torch.cos(1e3 * t)[..., None])

    def observe(self, y: Tensor) -> Tensor:
        """The first state."""
        return y[..., :1]


def _slow_data(until: float = 1e4) -> Experiment:
    times = torch.linspace(0.1 * until, until, 5, dtype=torch.float64)
    return Experiment("slow", Trajectory(times, torch.ones(5, 1, dtype=torch.float64)), one)


def fitting() -> Work:
    """A fit; it ends with a status. A short one is first: modules that are being imported may lose a signal."""
    fit(Slow(), _slow_data(1e-3), integrator=Integrator(engine="eager"), strategy="full")

    def work() -> None:
        found = fit(Slow(), _slow_data(), integrator=Integrator(**LONG), strategy="full")
        assert found.status == "interrupted", found.status
        raise KeyboardInterrupt

    return work


def workers() -> Work:
    """Starts over two processes."""

    def work() -> None:
        found = fit(Slow(), _slow_data(), integrator=Integrator(**LONG), strategy="full", starts=3, workers=2)
        assert found.status == "interrupted", found.status
        raise KeyboardInterrupt

    return work


def busy() -> Work:
    """Nothing but Python: how long a signal takes on this machine, as busy as it is."""

    def work() -> None:
        while True:
            pass

    return work


def told(work: Work, after: float) -> float:
    """Seconds from the signal to KeyboardInterrupt; it is sent again, as a user would, while nothing happens."""
    sent, heard = [0.0], threading.Event()

    def send() -> None:
        time.sleep(after)
        sent[0] = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)
        while not heard.wait(AGAIN):
            os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with contextlib.suppress(KeyboardInterrupt):
        work()
        heard.set()
        sender.join()
        return float("inf")
    heard.set()
    return time.perf_counter() - sent[0]


def main() -> None:
    """One line for every kind: its name and the seconds."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for kind in sys.argv[1:]:
        work = globals()[kind]()
        print(kind, told(work, 25.0 if kind == "workers" else AFTER), flush=True)


if __name__ == "__main__":
    main()
