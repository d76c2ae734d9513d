"""Lynx and hare from 30 starts, every rate off by exp(N(0, 1)): log-normal noise, maximum likelihood.

OMP_NUM_THREADS=1 PHYSID_DATA=... python benchmarks/lynxhare.py [--starts 30]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import table, versions

import physid
from physid.models import LotkaVolterra

RATES = {"alpha": 0.5400, "beta": 0.02716, "gamma": 0.7966, "delta": 0.02370}
REFERENCE = [*RATES.values(), 34.60, 5.844, 0.2184, 0.2201, -122.926]
GOAL = 1e-3  # largest relative error


def pelts() -> physid.Experiment:
    """Hares and lynxes of 1900 to 1920, in thousands of pelts."""
    path = Path(os.environ["PHYSID_DATA"]) / "lynx_hare/hudson-bay-lynx-hare.csv"
    rows = torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=3))
    data = physid.Trajectory(rows[:, 0] - 1900, rows[:, [2, 1]])
    free = torch.tensor([True, True])
    return physid.Experiment("lynxhare", data, torch.tensor([30.0, 4.0]), initial_free=free, channels=("hare", "lynx"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Lynx and hare from many starts.")
    parser.add_argument("--starts", type=int, default=30)
    count, good, seconds, rows = parser.parse_args().starts, 0, [], []
    for seed in range(count):
        random = np.random.default_rng(seed)
        model = LotkaVolterra(**{name: float(v * np.exp(random.standard_normal())) for name, v in RATES.items()})
        started = time.perf_counter()
        fit = physid.fit(model, pelts(), noise="lognormal")
        seconds.append(time.perf_counter() - started)
        found = [one.value for one in fit.estimates]
        if fit.likelihood is not None:
            found += [*fit.likelihood.sigmas.values(), fit.likelihood.log_likelihood]
        error = float(np.abs(np.array(found) / REFERENCE[: len(found)] - 1).max())
        good += error <= GOAL and len(found) == len(REFERENCE)
        rows.append([str(seed), f"{error:.1e}", fit.status, f"{seconds[-1]:.2f}"])
    print(table(["start", "largest relative error", "status", "s"], rows))
    print(f"{good} of {count} within {GOAL:g}; median {np.median(seconds):.2f} s, largest after the first "
          f"{max(seconds[1:], default=0.0):.2f} s")  # fmt: skip
    print(versions())


if __name__ == "__main__":
    main()
