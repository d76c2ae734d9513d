"""The measured systems from many starts: `python benchmarks/measured.py tanks --starts 10`.

Every positive unknown starts a factor exp(spread N(0, 1)) from its guess, the others from their guess. A start agrees
with the best one when its training rmse is within a thousandth of it. Prints a line for each start, then the figures.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch

import physid
from physid.datasets import load
from physid.models import build


def run(name: str, seed: int, spread: float) -> tuple[str, float, float, float]:
    """Status, training rmse, validation rmse (not-a-number where there is none) and seconds of one start."""
    experiment = load(name)
    model = build(experiment)
    random = np.random.default_rng(seed)
    for unknown, value in model.values().items():
        if model.unknowns[unknown].domain.low == 0.0:
            factor = np.exp(spread * random.standard_normal(tuple(value.shape)))
            setattr(model, unknown, value * torch.as_tensor(factor))
    began = time.perf_counter()
    fit = physid.fit(model, experiment)
    scores = [fit.scores.get(part) for part in ("train", "validation")]
    train, other = (math.nan if score is None else score["rmse"] for score in scores)
    return fit.status, train, other, time.perf_counter() - began


def main() -> None:
    """Fit from every start and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("lynxhare", "emps", "tanks"))
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--spread", type=float, default=0.5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(options.starts):
        rows.append(run(options.name, seed, options.spread))
        status, train, other, seconds = rows[-1]
        print(f"start {seed}: {status}, train {train:.4g}, validation {other:.4g}, {seconds:.1f} s", flush=True)
    best = min(rows, key=lambda row: row[1] if math.isfinite(row[1]) else math.inf)
    agree = sum(abs(row[1] - best[1]) <= 1e-3 * best[1] for row in rows)
    print(f"{agree} of {len(rows)} agree: train {best[1]:.4g}, validation {best[2]:.4g}")


if __name__ == "__main__":
    main()
