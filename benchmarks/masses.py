"""How often, how well and how fast the masses of three bodies are identified: random systems times random starts.

    python benchmarks/masses.py [--systems 8] [--starts 3] [--strategy auto]

The table of every fit: the largest error of a mass, evaluations, seconds. Masses start from U(0.5, 2) each.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch

from physid.datasets import load
from physid.fitting import fit
from physid.models import build

REACHED = 1e-8


def main() -> None:
    """Fit all of them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--strategy", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("system  start  status        largest error  evaluations  seconds")
    errors, seconds = [], []
    for system in range(options.systems):
        for start in range(options.starts):
            masses = np.random.default_rng([system, start]).uniform(0.5, 2.0, 3).tolist()
            experiment = load("threebody", random_masses=system, start=masses)
            found = fit(build(experiment), experiment, strategy=options.strategy)
            error = max(abs(one.value - (one.truth or np.nan)) for one in found.estimates)
            errors.append(error)
            seconds.append(found.seconds)
            row = f"{error:13.1e}  {found.evaluations:11d}  {found.seconds:7.2f}"
            print(f"{system:6d}  {start:5d}  {found.status:12s}  {row}", flush=True)
    reached = sum(error <= REACHED for error in errors)
    print(f"{reached} of {len(errors)} within {REACHED:g}; median {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
