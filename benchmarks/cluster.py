"""Many starts on a cluster: joblib's backend dask carries the workers of a fit to a local dask cluster.

    pip install distributed; python benchmarks/cluster.py [--starts 8] [--workers 2]

The same lynx and hare starts run over processes of this machine (loky) and on the cluster; both must find the same.
"""

from __future__ import annotations

import argparse
import time

import joblib
from dask.distributed import Client, LocalCluster

import physid
from physid.datasets import load
from physid.models import build


def run(starts: int, workers: int) -> tuple[physid.Fit, float]:
    """The fit from so many starts, and its seconds."""
    experiment = load("lynxhare")
    began = time.perf_counter()
    found = physid.fit(build(experiment), experiment, noise="lognormal", starts=starts, workers=workers)
    return found, time.perf_counter() - began


def main() -> None:
    """Run both and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    here, seconds = run(asked.starts, asked.workers)
    print(f"loky: {seconds:.1f} s, {sum(one.status == 'converged' for one in here.starts)} of {asked.starts} converged")
    with LocalCluster(n_workers=asked.workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            there, seconds = run(asked.starts, asked.workers)
    print(f"dask: {seconds:.1f} s, {sum(one.status == 'converged' for one in there.starts)} of {asked.starts} converged")
    print(f"the same starts and ends: {here.starts == there.starts}; log-likelihood {there.likelihood.log_likelihood if there.likelihood else None}")


if __name__ == "__main__":
    main()
