"""The ladder of knowledge on three bodies: forecasts on (1, 2], masses in weights, and a drag that is found.

OMP_NUM_THREADS=1 python benchmarks/ladder.py [forecasts] [masses] [drag] [systems]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import table, versions

import physid
from physid import datasets, models
from physid.discovery import discover
from physid.modelling.address import load_model_file

PARTS = ("forecasts", "masses", "drag", "systems")


def trivial(experiment: physid.Experiment) -> dict[str, float]:
    """The mse, summed over channels, of the three forecasters that know nothing, on the part beyond training."""
    part = experiment.forecast
    if part is None:
        raise SystemExit("there is nothing beyond training")
    seen = experiment.train.observations.reshape(len(experiment.train), -1).numpy()
    times, last = experiment.train.times.numpy(), seen[-1]
    mass = np.asarray(experiment.truth["mass"])
    centre = np.einsum("i,tic->tc", mass, seen.reshape(len(seen), -1, 3)) / mass.sum()
    drift = (centre[-1] - centre[0]) / (times[-1] - times[0])
    after = (part.times.numpy() - times[-1])[:, None]
    shape = part.observations.shape
    guesses = {
        "mean of the training data": np.broadcast_to(seen.mean(0), (len(after), len(last))),
        "last value held": np.broadcast_to(last, (len(after), len(last))),
        "centre of mass drifting on": last + after * np.tile(drift, len(last) // 3),
    }
    return {
        name: experiment.score(torch.tensor(np.array(guess)).reshape(shape), part)["mse"]
        for name, guess in guesses.items()
    }


def fitted(experiment: physid.Experiment, rung: str) -> tuple[physid.Fit, list[str]]:
    """The fit of a rung, a level of knowledge or the name of a model, and its row."""
    known = rung in ("full", "partial", "none")
    model = models.build(experiment, knowledge=rung if known else None, model=None if known else rung)
    started = time.perf_counter()
    fit = physid.fit(model, experiment)
    scores = [fit.scores[name] for name in ("train", "forecast")]
    shown = ["-" if score is None else f"{score['mse']:.3g}" for score in scores]
    return fit, [rung, *shown, fit.status, f"{time.perf_counter() - started:.0f}"]


def forecasts() -> None:
    """Every rung on the system of the paper, beside the forecasters that know nothing."""
    experiment = datasets.load("threebody")
    rows = [[name, "", f"{mse:.3g}", "", ""] for name, mse in trivial(experiment).items()]
    rows += [
        fitted(experiment, rung)[1]
        for rung in ("none", "blackbox-isolated", "partial", "augmented-mlp", "augmented-sparse", "full")
    ]
    print(table(["rung", "mse on [0, 1]", "mse on (1, 2]", "status", "s"], rows), end="\n\n")


def masses() -> None:
    """The masses in the weights of the augmented NODE, from one trajectory, without noise and with it."""
    rows = []
    for rung in ("partial", "augmented-sparse"):
        for noise in (0.0, 1e-4, 1e-3):
            experiment = datasets.load("threebody", noise=noise, points=1000 if not noise else 500)
            fit, _ = fitted(experiment, rung)
            found = [f"{e.value:.6g} +- {e.stderr:.1g}" if e.stderr else f"{e.value:.7g}" for e in fit.derived]
            worst = max(abs(e.value / e.truth - 1) for e in fit.derived if e.truth)
            rows.append([rung, f"{noise:g}", *found, f"{worst:.1g}", fit.status])
    print(table(["rung", "noise", "m1", "m2", "m3", "largest relative error", "status"], rows), end="\n\n")


def drag() -> None:
    """Three bodies with a drag of 0.3 v: the residual, its formula, and the promoted model with and without noise."""
    experiment = datasets.load("threebody", drag=0.3)
    rows = [[name, "", f"{mse:.3g}", "", ""] for name, mse in trivial(experiment).items()]
    rows += [fitted(experiment, rung)[1] for rung in ("none", "full")]
    fit, row = fitted(experiment, "gravity-residual")
    found = discover(fit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.py"
        path.write_text(found.source())
        cls = load_model_file(path, "Found")
        again = []
        for noise in (0.0, 1e-3):
            noisy = datasets.load("threebody", drag=0.3, noise=noise)
            promoted = physid.fit(models.build(noisy, model=cls), noisy)
            one = next(e for e in promoted.estimates if e.name.startswith("c_"))
            score = promoted.scores["forecast"]
            again.append(["promoted, noise " + f"{noise:g}", "", f"{score['mse']:.3g}" if score else "-"])
            again[-1] += [promoted.status, f"{one.name} = {one.value:.6g} +- {one.stderr or 0:.1g}"]
    print(table(["rung", "mse on [0, 1]", "mse on (1, 2]", "status", "s"], [*rows, row, *again]), end="\n\n")
    print(found, end="\n\n")


def systems() -> None:
    """The black box on seven other systems: the mse on (1, 2] over that of the best forecaster that knows nothing."""
    rows = []
    for number in range(1, 8):
        experiment = datasets.load("threebody", random_masses=number)
        fit, _ = fitted(experiment, "none")
        score, best = fit.scores["forecast"], min(trivial(experiment).values())
        rows.append([str(number), f"{score['mse']:.3g}" if score else "-", f"{best:.3g}"])
        rows[-1].append(f"{score['mse'] / best:.2f}" if score else "-")
    print(table(["system", "black box", "best trivial", "ratio"], rows), end="\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="The ladder of knowledge on three bodies.")
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)} (default: all)")
    torch.set_num_threads(1)
    print(versions(), end="\n\n")
    for part in parser.parse_args().parts or PARTS:
        {"forecasts": forecasts, "masses": masses, "drag": drag, "systems": systems}[part]()


if __name__ == "__main__":
    main()
