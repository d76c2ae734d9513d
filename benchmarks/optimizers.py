"""What the search costs over the catalogue: points, evaluations of the right-hand side, and the optimum reached.

    python benchmarks/optimizers.py [--json FILE] [--only NAME ...]
    python benchmarks/optimizers.py --compare BEFORE AFTER

One line for each fit: how it ended, the points at which the objective was evaluated, the evaluations of the right-hand
side, and the cost at the optimum. --compare prints the ratios of two such runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from physid import fit
from physid.datasets import load
from physid.models import build

FAR = {"lotka-volterra": {"alpha": 0.3, "beta": 0.1}, "pendulum": {"length": 3.0}, "vanderpol": {"mu": 5.0}}


def made(name: str, far: bool = False, model: str | None = None, **options: Any) -> tuple[Any, Any]:
    """A model and its experiment, with `far` from values that are far off."""
    data = load(name, **options)
    found = build(data) if model is None else build(data, model=model)
    for unknown, value in FAR.get(name, {}).items() if far else ():
        setattr(found, unknown, torch.tensor(value))
    return found, data


CLASSICS = {"exponential": 0.05, "vanderpol": 0.05, "lotka-volterra": 0.5, "pendulum": 0.05, "threebody": 1e-3}
FITS: dict[str, tuple[Callable[[], tuple[Any, Any]], dict[str, Any]]] = {}
for _name, _noise in CLASSICS.items():
    FITS[_name] = (lambda n=_name: made(n)), {}
    FITS[f"{_name}, noise"] = (lambda n=_name, s=_noise: made(n, noise=s)), {}
    FITS[f"{_name}, noise, full"] = (lambda n=_name, s=_noise: made(n, noise=s)), {"strategy": "full"}
    if _name != "threebody":
        FITS[f"{_name}, noise, sigma estimated"] = (lambda n=_name, s=_noise: made(n, noise=s)), {"noise": "normal"}
        FITS[f"{_name}, noise, cauchy"] = (lambda n=_name, s=_noise: made(n, noise=s)), {"loss": "cauchy"}
        FITS[f"{_name}, noise, 8 starts"] = (lambda n=_name, s=_noise: made(n, noise=s)), {"starts": 8}
for _name in FAR:
    _noise = CLASSICS[_name]
    for _strategy in ("auto", "full", "segments", "grow", "match"):
        FITS[f"{_name}, far, {_strategy}"] = (
            (lambda n=_name, s=_noise: made(n, far=True, noise=s)),
            {"strategy": _strategy},
        )
FITS |= {
    "lynxhare": ((lambda: made("lynxhare")), {}),
    "lynxhare, student": ((lambda: made("lynxhare")), {"noise": "student:4"}),
    "tanks": ((lambda: made("tanks")), {}),
    "emps": ((lambda: made("emps")), {}),
    "solarsystem": ((lambda: made("solarsystem")), {}),
    "threebody, augmented": ((lambda: made("threebody", model="augmented")), {"time_limit": 150.0}),
    "pendulum, residual": ((lambda: made("pendulum", noise=0.05, model="pendulum-residual")), {"time_limit": 100.0}),
    "exponential, lbfgs": ((lambda: made("exponential", noise=0.05)), {"optimizer": "lbfgs"}),
    "pendulum, lbfgs": ((lambda: made("pendulum", noise=0.05)), {"optimizer": "lbfgs"}),
    "exponential, adam": ((lambda: made("exponential", noise=0.05)), {"optimizer": "adam"}),
}


def measure(name: str) -> dict[str, Any]:
    """One fit of the catalogue."""
    make, options = FITS[name]
    model, data = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(model, data, **options)
    costs = [row["cost"] for row in found.history if row["phase"] == found.history[-1]["phase"]]
    return {
        "status": found.status,
        "points": len(found.history),
        "evaluations": found.evaluations,
        "cost": min(costs),
        "seconds": round(found.seconds, 2),
        "x": found.x.tolist(),
    }


def compare(before: Path, after: Path) -> None:
    """The ratios of two runs, fit by fit, and over all."""
    one, two = (json.loads(path.read_text()) for path in (before, after))
    print(f"{'fit':36s} {'points':>13s} {'evaluations':>19s}  ratio  cost after / before - 1")
    both = [name for name in one if name in two]
    for name in both:
        a, b = one[name], two[name]
        apart = (b["cost"] - a["cost"]) / (abs(a["cost"]) or 1.0)
        ended = a["status"] if a["status"] == b["status"] else f"{a['status']} -> {b['status']}"
        print(
            f"{name:36s} {a['points']:5d} -> {b['points']:5d} {a['evaluations']:8d} -> {b['evaluations']:8d}  "
            f"{b['evaluations'] / a['evaluations']:.2f}  {apart:+.1e}  {ended}"
        )
    whole = [sum(run[name][what] for name in both) for what in ("points", "evaluations") for run in (one, two)]
    print(f"{'all':36s} {whole[0]:5d} -> {whole[1]:5d} {whole[2]:8d} -> {whole[3]:8d}  {whole[3] / whole[2]:.2f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--only", nargs="*", help="fits whose names contain any of these")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    chosen = parser.parse_args()
    if chosen.compare:
        compare(*chosen.compare)
        return
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name in FITS:
        if chosen.only and not any(word in name for word in chosen.only):
            continue
        try:
            found[name] = row = measure(name)
        except Exception as error:  # of one fit, which is told; the others go on
            print(f"{name:36s} {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        print(
            f"{name:36s} {row['status']:14s} {row['points']:5d} points {row['evaluations']:8d} evaluations, "
            f"cost {row['cost']:.9g}, {row['seconds']:.1f} s",
            flush=True,
        )
        if chosen.json:
            chosen.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
