"""Do 95 % intervals hold the truth in 95 of 100 draws? Three bodies with 21 unknowns, and the verdicts beside it.

    python benchmarks/coverage.py [--draws 400] [--seconds S] [--first SEED]

Masses and initial states of the paper's three bodies are free; 101 positions on [0, 1] carry noise of 1e-2. The three
masses are pooled. `adequate` counts the verdicts on the right model (its complement is the error of the first kind);
with --wrong a wrong law of attraction is fitted to the same data, and how often that is seen is the other one.
"""

from __future__ import annotations

import argparse
import time

import torch

from physid import Model, fit
from physid.datasets import load
from physid.models import build, make
from physid.models.gravity import NewtonGravity

CORE = 0.05


class Softened(NewtonGravity):
    """Gravity with a core, r / (r^2 + 0.05^2)^1.5 in place of r / r^3: too weak by 14 % at the closest approach."""

    def acceleration(self, t: torch.Tensor, r: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The pull of all other bodies [..., bodies, 3]."""
        difference = self._edges @ r
        pull = difference * ((difference * difference).sum(-1, keepdim=True) + CORE**2) ** -1.5
        weights = self._signs * self.strength().index_select(0, self._other)
        return weights.view(self.bodies, -1) @ pull


def main() -> None:
    """Fit draw after draw and print the counts, as far as the time allows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--wrong", type=int, default=100, help="draws on which the wrong law is fitted too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began, inside, adequate, wrong, seen = time.perf_counter(), 0, 0, 0, 0
    for count, seed in enumerate(range(asked.first, asked.first + asked.draws), 1):
        experiment = load("threebody", points=101, noise=1e-2, seed=seed, initial="free")
        found = fit(build(experiment), experiment)
        masses = [one for one in found.estimates if one.of == "mass"]
        if found.statistics is None or any(one.low is None for one in masses):
            print(f"seed {seed}: {found.status}: {found.message}", flush=True)
        inside += sum((one.low or 1e9) <= (one.truth or 0.0) <= (one.high or -1e9) for one in masses)
        adequate += found.statistics is not None and found.statistics.verdict == "adequate"
        if count <= asked.wrong:
            false: Model = make(Softened, experiment)
            other = fit(false, experiment)
            seen += other.verdict in ("inadequate", "does not fit", "no use", "no optimum")
            wrong += 1
        if count % 10 == 0 or time.perf_counter() - began > asked.seconds:
            print(
                f"{count} draws, {3 * count} intervals: {100 * inside / (3 * count):.1f} % hold the truth; the right "
                f"model adequate {adequate} of {count}, the wrong one refused {seen} of {wrong}; "
                f"{(time.perf_counter() - began) / count:.1f} s a draw",
                flush=True,
            )
        if time.perf_counter() - began > asked.seconds:
            break


if __name__ == "__main__":
    main()
