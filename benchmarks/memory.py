"""What a checkpoint costs: bytes per accepted step, counted and seen from outside, from 100 to 10,000 steps.

OMP_NUM_THREADS=1 python benchmarks/memory.py [--size 1000] [--quick]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import table, versions

from physid import ode

BOUND = "bound: 1.2 x the state + 64"


def peak() -> int:
    """The largest resident size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def way(gradient: str, steps: int) -> dict[str, Any]:
    """Solve by `steps` steps of rk4 or, for the step-aware gradients, of a solver that chooses them at that length."""
    if "step-aware" not in gradient:
        return {"solver": "rk4", "control": ode.Fixed(1.0 / steps), "gradient": gradient}
    loose = {"rtol": 1.0, "atol": 1.0, "first_step": 1.0 / steps, "max_step": 1.0 / steps}
    return loose | {"solver": "bosh3", "gradient": ode.ACA(step_aware=True), "engine": gradient.split()[-1]}


def measure(gradient: str, steps: int, size: int) -> tuple[int, int]:
    """Checkpoint bytes and growth of the peak, of a solve by that many steps and its gradient."""
    rate = torch.full((size,), -0.5, dtype=torch.float64, requires_grad=True)

    def field(t: Tensor, y: Tensor) -> Tensor:
        return rate * y + torch.cos(t)

    def run(count: int) -> int:
        t = torch.tensor([0.0, 1.0], dtype=torch.float64)
        y0 = torch.ones(size, dtype=torch.float64, requires_grad=True)
        solution = ode.solve(field, y0, t, **way(gradient, count))
        solution.y[-1].sum().backward()
        return solution.statistics.checkpoint_bytes

    run(10)
    before = peak()
    return run(steps), peak() - before


def in_a_process(gradient: str, steps: int, size: int) -> tuple[int, int]:
    """The same in a process of its own, for a peak of its own."""
    command = [sys.executable, __file__, "--one", gradient, str(steps), "--size", str(size)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    checkpoints, growth = answer.stdout.split()
    return int(checkpoints), int(growth)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes per accepted step.")
    parser.add_argument("--size", type=int, default=1000, help="numbers in the state (float64)")
    parser.add_argument("--quick", action="store_true", help="up to 1000 steps")
    parser.add_argument("--one", nargs=2, metavar=("GRADIENT", "STEPS"), help="measure one and print two numbers")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.one:
        print(*measure(chosen.one[0], int(chosen.one[1]), chosen.size))
        return
    allowed = 1.2 * 8 * chosen.size + 64
    rows = []
    for gradient in ("aca", "step-aware, eager", "step-aware, native", "naive"):
        for steps in (100, 1000) if chosen.quick else (100, 1000, 10_000):
            checkpoints, growth = in_a_process(gradient, steps, chosen.size)
            counted = f"{checkpoints / steps:.0f}" if checkpoints else "-"
            verdict = "" if not checkpoints else ("yes" if checkpoints / steps <= allowed else "no")
            rows.append([gradient, str(steps), counted, verdict, f"{growth / steps:.0f}"])
    print(versions(), end="\n\n")
    print(
        f"State of {chosen.size} numbers, {8 * chosen.size} bytes; {BOUND} = {allowed:.0f} bytes per accepted step.\n"
    )
    print(
        table(
            ["gradient", "steps", "checkpoint bytes per step", "within the bound", "growth of the peak per step"], rows
        )
    )


if __name__ == "__main__":
    main()
