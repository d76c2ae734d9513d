"""A hundred fits are killed at moments spread over their time, and resumed: is any run lost, or corrupted?

    python benchmarks/kill.py [--kills 100]

Every fit runs in a process of its own; the moments go from its start to its end. A run is lost when its folder is there
and does not go on; corrupted when a file of the finished run is not what was written; wrong when it reaches another
optimum than an undisturbed fit.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

import torch

from physid import Fit, fit
from physid.datasets import load
from physid.errors import PhysidError
from physid.formats import Folder
from physid.models import build


def one(folder: Path | None = None) -> Fit:
    """A fit that passes through segments and the full horizon."""
    experiment = load("pendulum", points=24, noise=0.05)
    model = build(experiment)
    model.length, model.friction = 1.6, 0.4
    return fit(model, experiment, out=folder)


def killed(folder: Path, after: float) -> bool:
    """Whether a fit into `folder` was killed `after` seconds, or had come to its end."""
    child = os.fork()
    if not child:
        one(folder)
        os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    """Kill, resume, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    torch.set_num_threads(1)  # a process that has threads cannot be copied
    whole = one()
    began = time.perf_counter()
    one()
    seconds = time.perf_counter() - began
    counts = dict.fromkeys(("killed", "not begun", "unfinished", "finished", "lost", "corrupted", "wrong"), 0)
    with tempfile.TemporaryDirectory() as work:
        for number in range(kills):
            folder = Path(work) / f"run{number}"
            counts["killed"] += killed(folder, seconds * (number + 0.5) / kills)
            if not folder.exists():
                counts["not begun"] += 1
                continue
            counts["finished" if (folder / "SHA256SUMS").exists() else "unfinished"] += 1
            try:
                found = Fit.resume(folder)
            except PhysidError as error:
                counts["lost"] += 1
                print(f"lost: {error}")
                continue
            counts["corrupted"] += bool(Folder(folder).altered())
            pairs = zip(found.estimates, whole.estimates, strict=True)
            counts["wrong"] += any(abs(a.value - b.value) > 1e-3 * (b.stderr or 0.0) for a, b in pairs)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
