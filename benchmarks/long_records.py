"""Long broad-band records from CSV to report: processor time against the number of samples.

    python benchmarks/long_records.py 20000 80000

A damped oscillator, driven by white noise held over each sample, of which the position is measured with noise. Each
length runs in a process of its own, `physid fit` with everything at its default, imports and compilation included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.signal import cont2discrete

STEP, STIFFNESS, DAMPING, NOISE = 0.1, 25.0, 1.5, 0.01
MODEL = """
import torch
from physid import Model, Unknown, positive


class Driven(Model):
    state_names = ("x", "v")
    channel_names = ("x",)
    input_names = ("u",)
    k = Unknown(20.0, positive)
    c = Unknown(2.0, positive)

    def field(self, t, y):
        x, v = y.unbind(-1)
        (u,) = self.inputs(t)
        return torch.stack((v, u - self.k * x - self.c * v), -1)

    def observe(self, y):
        return y[..., :1]
"""


def write(folder: Path, count: int) -> None:
    """The record of so many samples as data.csv, and its model."""
    random = np.random.default_rng(0)
    force = random.normal(size=count)
    system = (np.array([[0.0, 1.0], [-STIFFNESS, -DAMPING]]), np.array([[0.0], [1.0]]), np.eye(2)[:1], np.zeros((1, 1)))
    a, b, *_ = cont2discrete(system, STEP)
    state = np.zeros((count, 2))
    for i in range(count - 1):
        state[i + 1] = a @ state[i] + b[:, 0] * force[i]
    seen = state[:, 0] + NOISE * random.normal(size=count)
    rows = (f"{STEP * i:.2f},{force[i]:.6f},{seen[i]:.6f}\n" for i in range(count))
    (folder / "data.csv").write_text("t,u,x\n" + "".join(rows))
    (folder / "driven.py").write_text(MODEL)


def measure(count: int) -> None:
    """Fit, and print a row: samples, seconds of processor time, the estimates."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, count)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        asked = ["--data", "data.csv", "--model", "driven.py:Driven", "--initial", "x=0,v=0", "--json", "--out", "run"]
        done = subprocess.run(
            [sys.executable, "-m", "physid", "fit", *asked], cwd=folder, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found = json.loads(done.stdout.splitlines()[-1])
        values = {name: (round(one["value"], 4), round(one["stderr"], 4)) for name, one in found["unknowns"].items()}
        print(f"{count} samples: {spent:.1f} s of processor time, {found['status']}, {values}", flush=True)


if __name__ == "__main__":
    for text in sys.argv[1:] or ["20000", "80000"]:
        measure(int(text))
