"""What probes make of a gradient's error, and what they cost: over problems, tolerances, and ways to control the steps.

    python benchmarks/probes.py [dopri5] [--seeds 5]

The loss is sum y(T)^2 + sum y(T), its gradient that by the parameters and the initial state, each times its size;
errors are relative to a solve by dopri8 at 1e-12 with every column in the norm. `plain`: the state alone decides on the
steps; `one`: the state and one random tangent (the median over seeds, and the worst), `estimate` what the Solution says
of its error; `columns`: gradient forward with all its columns. Processor time (--prices) is that of value and gradient,
the ratio to plain, the least of several calls that take turns. --fits compares fits with probes and without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from physid import Experiment, Model, Trajectory, Unknown, fit, solve
from physid.datasets import load
from physid.inference import default_integrator
from physid.models import build
from physid.ode import Probes
from physid.ode.directions import typical

Make = Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]]
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def gravity(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Three bodies of masses p [3]; lengths and times as in the paper."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        r, v = y.reshape(2, 3, 3)
        d = r[None] - r[:, None]
        n2 = (d * d).sum(-1) + torch.eye(3, dtype=y.dtype)
        a = 0.2004844 * ((d * (n2**-1.5)[..., None]) * p[None, :, None]).sum(1)
        return torch.cat([(7.2393239 * v).reshape(-1), a.reshape(-1)])

    return field


def shaken(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.stack([y[1], p[0] * torch.cos(3 * t) - 25 * y[0]])


def lorenz(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.stack([p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]])


def vanderpol(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.stack([y[1], p[0] * (1 - y[0] ** 2) * y[1] - y[0]])


def kepler(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.cat([y[2:], -p[0] * y[:2] / (y[:2] @ y[:2]) ** 1.5])


def prey(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.stack([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])


def pendulum(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.stack([y[1], -p[0] * torch.sin(y[0]) - p[1] * y[1]])


def decay(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.stack([-p[0] * y[0], p[0] * y[0] - p[1] * y[1]])


def pulsed(p: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.stack([y[1], p[0] * torch.exp(-40 * (t - 5) ** 2) - p[1] * y[0] - p[2] * y[1]])


BODIES = [0, 0.2, 0, 0.5, 0, 0.5, 0, 0, 0.5, 0, 0.1, 0, 0, 0, 0.1, 0.1, 0, 0]
PROBLEMS: dict[str, tuple[Make, list[float], list[float], float]] = {
    "three bodies": (gravity, [1, 1, 1], BODIES, 1.0),
    "oscillator at rest": (shaken, [0], [0, 0], 10.0),
    "Lorenz": (lorenz, [10, 28, 8 / 3], [1, 1, 20], 3.0),
    "van der Pol": (vanderpol, [3], [2, 0], 12.0),
    "Kepler, e = .8": (kepler, [1], [0.2, 0, 0, 3], 6.0),
    "Lotka-Volterra": (prey, [1.1, 0.4, 0.1, 0.4], [10, 5], 20.0),
    "pendulum": (pendulum, [9.8, 0.2], [1.5, 0], 10.0),
    "decay chain": (decay, [1.2, 0.3], [1, 0], 10.0),
    "pulse at rest": (pulsed, [0, 2, 0.3], [0, 0], 10.0),
}


class Case:
    """One problem, with what is measured of it."""

    def __init__(self, make: Make, params: list[float], start: list[float], end: float, solver: str) -> None:
        self.make, self.end, self.solver = make, end, solver
        self.p, self.y0 = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (params, start))
        with torch.no_grad():
            self.size = torch.cat([typical(x[None])[0] for x in (self.p, self.y0)])
        self.f = make(self.p)
        self.truth, _ = self.gradient(1e-12, "forward", 1, solver="dopri8")

    def gradient(self, tolerance: float, gradient: str, probes: Any, **options: Any) -> tuple[Tensor, Any]:
        """dL/d(p, y0), each times its size, and the solution."""
        options = {"solver": self.solver} | options
        found = solve(
            self.f,
            self.y0,
            [0.0, self.end],
            rtol=tolerance,
            atol=tolerance,
            gradient=gradient,
            probes=probes,
            max_steps=10**6,
            **options,
        )
        last = found.y[-1]
        slopes = torch.autograd.grad(last.square().sum() + last.sum(), [self.p, self.y0])
        return torch.cat(slopes) * self.size, found

    def error(self, found: Tensor) -> float:
        """Relative to the truth."""
        return float((found - self.truth).norm() / self.truth.norm())

    def price(self, tolerance: float, gradient: str, probes: Any) -> float:
        """Processor time with probes over that without, of calls that take turns."""
        best = [float("inf")] * 2
        for _ in range(12):
            for which, how in enumerate((0, probes)):
                begun = time.process_time()
                for _ in range(3):
                    self.gradient(tolerance, gradient, how)
                best[which] = min(best[which], time.process_time() - begun)
        return best[1] / best[0]


class Shaken(Model):
    """An oscillator that rests until it is shaken, as strongly as is to be found out."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    a = Unknown(0.0)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, self.a * torch.cos(3 * t) - 25 * x], -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


def shaken_data() -> Experiment:
    """41 readings of an amplitude of .5, with noise of 1e-3."""
    t = torch.linspace(0, 10, 41, dtype=torch.float64)
    noise = 1e-3 * torch.randn(41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (torch.cos(3 * t) - torch.cos(5 * t)) / 32 + noise
    return Experiment("shaken", Trajectory(t, x[:, None]), torch.zeros(2), truth={"a": 0.5})


DATA: dict[str, Callable[[], Experiment]] = {
    "three bodies": lambda: load("threebody"),
    "three bodies, noise": lambda: load("threebody", noise=1e-3),
    "Lotka-Volterra": lambda: load("lotka-volterra", noise=0.5),
    "pendulum": lambda: load("pendulum", noise=0.05),
    "van der Pol": lambda: load("vanderpol", noise=0.05),
    "shaken": shaken_data,
}


def fits() -> None:
    """Fits without probes and with, in turn, twice each."""
    for name, make in DATA.items():
        for tolerance in (1e-10, 1e-6):
            for probes in (0, 1, 0, 1):
                data = make()
                model = Shaken() if name == "shaken" else build(data)
                how = replace(default_integrator("lm"), rtol=tolerance, atol=tolerance, probes=probes)
                begun = time.process_time()
                found = fit(model, data, integrator=how)
                spent = time.process_time() - begun
                print(
                    f"{name:20s} {tolerance:.0e} probes={probes} {found.status} {spent:.2f} s {found.evaluations} "
                    f"evaluations, gradient error {found.gradient_error}",
                    flush=True,
                )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solver", nargs="?", default="dopri5")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--prices", action="store_true", help="measure processor time, too")
    parser.add_argument("--fits", action="store_true", help="compare fits instead")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.fits:
        fits()
        return
    print("| problem | tolerance | plain | one | worst | estimate | columns | time, one | time, columns |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (make, params, start, end) in PROBLEMS.items():
        case = Case(make, params, start, end, chosen.solver)
        for tolerance in TOLERANCES:
            plain, bare = case.gradient(tolerance, "aca", 0)
            ours = []
            for seed in range(chosen.seeds):
                slope, found = case.gradient(tolerance, "aca", Probes(seed=100 * seed))
                ours.append((case.error(slope), found.statistics.accepted, found.gradient_error))
            ours.sort()
            middle = ours[len(ours) // 2]
            columns, carried = case.gradient(tolerance, "forward", 1)
            prices = [""] * 2
            if chosen.prices:
                prices = [f"{case.price(tolerance, how, 1):.2f}" for how in ("aca", "forward")]
            cells = (
                f"{case.error(plain):.1e} ({bare.statistics.accepted})",
                f"{middle[0]:.1e} ({middle[1]})",
                f"{ours[-1][0]:.1e}",
                f"{middle[2]:.1e}",
                f"{case.error(columns):.1e} ({carried.statistics.accepted})",
                *prices,
            )
            print(f"| {name} | {tolerance:.0e} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
