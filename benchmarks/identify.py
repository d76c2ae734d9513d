"""Masses from trajectories: 8 random three-body systems with unequal masses, each fitted from 3 starts in U(.5, 2).

OMP_NUM_THREADS=1 python benchmarks/identify.py [--systems 8] [--starts 3] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import table, versions

import physid
from physid import datasets, models

GOAL = 1e-8  # largest relative error of a mass


def one(system: int, start: int) -> tuple[list[str], bool, float, int]:
    """Fit one system from one start: a row of the table, whether the goal is met, seconds, evaluations."""
    guess = np.random.default_rng([system, start]).uniform(0.5, 2.0, 3)
    experiment = datasets.load("threebody", random_masses=system, start=guess.tolist())
    model = models.build(experiment)
    started = time.perf_counter()
    fit = physid.fit(model, experiment)
    seconds = time.perf_counter() - started
    truth = np.asarray(experiment.truth["mass"], dtype=float)
    found = np.array([estimate.value for estimate in fit.estimates if estimate.name.startswith("mass")])
    error = float(np.abs(found / truth - 1).max())
    row = [
        str(system),
        _numbers(truth),
        _numbers(guess),
        f"{error:.1e}",
        fit.status,
        str(fit.evaluations),
        f"{seconds:.1f}",
    ]
    return row, error <= GOAL, seconds, fit.evaluations


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description="Masses from trajectories, many systems and starts.")
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2 systems, 1 start")
    chosen = parser.parse_args()
    systems, starts = (2, 1) if chosen.quick else (chosen.systems, chosen.starts)
    torch.set_num_threads(1)
    results = [one(system, start) for system in range(systems) for start in range(starts)]
    print(versions(), end="\n\n")
    head = ["system", "masses", "start", "largest relative error", "status", "evaluations", "s"]
    print(table(head, [row for row, *_ in results]), end="\n\n")
    met = sum(good for _, good, *_ in results)
    print(
        f"{met} of {len(results)} within {GOAL:g}; median {statistics.median(s for *_, s, _ in results):.1f} s, "
        f"longest {max(s for *_, s, _ in results):.1f} s, in all {sum(s for *_, s, _ in results):.0f} s."
    )
    sys.exit(met < len(results))


if __name__ == "__main__":
    main()
