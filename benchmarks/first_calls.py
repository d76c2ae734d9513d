"""First calls of a new f: seconds of a solve with its gradient, each in a new process that has solved another f before.

python benchmarks/first_calls.py [ROUNDS]
Columns: a new f; after it has been compiled in an earlier process; with probes, which ask for tangents too; by
torch (engine "eager"). The least of ROUNDS (3) processes; seconds of wall clock, and of the processor with all that
compiles.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from physid import solve
from physid.models.gravity import NewtonGravity

DOUBLE = torch.float64


class Rates(nn.Module):
    """The Lotka-Volterra equations."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.tensor([1.1, 0.4, 0.1, 0.4], dtype=DOUBLE))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt [.., 2]."""
        a, b, c, d = self.rates
        x, z = y[..., 0], y[..., 1]
        return torch.stack([a * x - b * x * z, c * x * z - d * z], -1)


class Network(nn.Module):
    """A multilayer perceptron of the cubed state, as in the spiral of torchdiffeq."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width)).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt [.., width]."""
        return self.net(y**3)


class Heat(nn.Module):
    """The heat equation by lines."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.3, dtype=DOUBLE))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt [N]."""
        return self.rate * nn.functional.pad(y[2:] - 2 * y[1:-1] + y[:-2], (1, 1))


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor, bool]]] = {
    "Lotka-Volterra": lambda: (Rates(), torch.tensor([10.0, 5.0], dtype=DOUBLE), False),
    "Lotka-Volterra, batch 64": lambda: (Rates(), torch.rand(64, 2, dtype=DOUBLE) + 5, True),
    "three bodies": lambda: (NewtonGravity(), torch.randn(2, 3, 3, dtype=DOUBLE), False),
    "MLP 2-50-2, batch 20": lambda: (Network(2, 50), torch.randn(20, 2, dtype=DOUBLE), True),
    "MLP 18-64-18": lambda: (Network(18, 64), torch.randn(18, dtype=DOUBLE), False),
    "heat, N = 100": lambda: (Heat(), torch.rand(100, dtype=DOUBLE), False),
}


def child(name: str, engine: str, probes: int) -> None:
    """Print the seconds of the first solve of a case with its gradient."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    times = torch.linspace(0, 0.1, 11, dtype=DOUBLE)

    def once(f: nn.Module, y0: Tensor, batched: bool, engine: str) -> None:
        found = solve(f, y0, times, engine=engine, batched=batched, probes=probes if f is not warm else 0)
        torch.as_tensor(found.y).square().sum().backward()

    warm = Network(3, 4)
    once(warm, torch.ones(3, dtype=DOUBLE), False, engine)
    f, y0, batched = CASES[name]()
    began, used = time.perf_counter(), processor()
    once(f, y0, batched, engine)
    print(time.perf_counter() - began, processor() - used)


def processor() -> float:
    """Seconds of the processor: this process and those that it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def asked(name: str, engine: str, probes: int, cache: str) -> tuple[float, float]:
    """The least of one process: wall clock and processor."""
    command = [sys.executable, str(Path(__file__)), "child", name, engine, str(probes)]
    done = subprocess.run(
        command, env={**os.environ, "PHYSID_CACHE": cache}, check=True, capture_output=True, text=True
    )
    wall, used = map(float, done.stdout.split())
    return wall, used


def least(rows: list[tuple[float, float]]) -> str:
    """The least seconds of the rounds."""
    wall, used = (min(column) for column in zip(*rows, strict=True))
    return f"{wall:6.2f} /{used:5.2f}"


def main(rounds: int) -> None:
    """One line for each case."""
    print(f"{'seconds, wall / processor':26} {'new f':>13} {'known to disk':>13} {'with probes':>13} {'eager':>13}")
    for name in CASES:
        found: dict[str, list[tuple[float, float]]] = {"new": [], "disk": [], "probes": [], "eager": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                found["new"].append(asked(name, "native", 0, cache))
                found["disk"].append(asked(name, "native", 0, cache))
                found["eager"].append(asked(name, "eager", 0, cache))
            with tempfile.TemporaryDirectory() as cache:
                found["probes"].append(asked(name, "native", 1, cache))
        print(f"{name:26} {' '.join(f'{least(rows):>13}' for rows in found.values())}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 3)
