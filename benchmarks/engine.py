"""The eager engine beside its peers: three bodies, van der Pol oscillators, networks, a block of convolutions.

OMP_NUM_THREADS=1 python benchmarks/engine.py [--quick] [--heavy]
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers import batched_solvers, diffrax_three_bodies, installed, solvers
from problems import ConvBlock, fresh, three_bodies, three_bodies_start, van_der_pol
from timing import interleave, table, versions

from physid import ode

Gradient = Callable[[float, int], tuple[Tensor, int]]


def ours(f: object, y0: Tensor, t: Tensor, tol: float, params: object, **options: object) -> tuple[Tensor, int]:
    """physid's engine under the signature of the peers."""
    solution = ode.solve(f, y0, t, rtol=tol, atol=tol, engine="eager", **options)
    return solution.y, solution.statistics.evaluations


def loss_of(y: Tensor) -> Tensor:
    """Mean over time of the squared positions [T, 2, 3, 3], summed over the bodies."""
    return (y[:, 0] ** 2).sum((1, 2)).mean()


def three_body_gradients(t: Tensor) -> dict[str, Gradient]:
    """Loss and gradient with respect to 3 masses and 18 initial values: (tolerance, turn) -> dL/dm, evaluations."""
    mass, start = three_bodies_start()

    def by_torch(solve: object, tol: float, turn: int) -> tuple[Tensor, int]:
        m, y0 = fresh(turn, mass, start)
        y, evaluations = solve(three_bodies(m), y0, t, tol, (m,))
        slope = torch.autograd.grad(loss_of(y), [m, y0])[0]
        return slope, evaluations

    def compiled(run: object, tol: float, turn: int) -> tuple[Tensor, int]:
        return run(tol, *fresh(turn, mass, start))

    mine = {f"physid {name}": partial(ours, gradient=name) for name in ("aca", "naive", "adjoint", "forward")}
    runs = {name: partial(by_torch, solve) for name, solve in (mine | solvers()).items()}
    return runs | {name: partial(compiled, run) for name, run in diffrax_three_bodies(t).items()}


def three_body_report(rounds: int, quick: bool) -> str:
    """Time, error of dL/dm and evaluations at 1e-5, with ratios to torchdiffeq."""
    t = torch.linspace(0, 1, 1000, dtype=torch.float64)
    rivals = three_body_gradients(t)
    slow = [name for name in rivals if name.endswith("adjoint")]
    if quick:
        rivals = {name: run for name, run in rivals.items() if name not in slow}
    reference, _ = rivals["physid aca"](1e-12, 0)
    results = {name: run(1e-5, 0) for name, run in rivals.items()}
    timed = {name: partial(run, 1e-5) for name, run in rivals.items() if name not in slow}
    seconds = interleave(timed, rounds) | interleave({n: partial(rivals[n], 1e-5) for n in slow if n in rivals}, 1)
    base = seconds.get("torchdiffeq")
    rows = []
    for name, (slope, evaluations) in results.items():
        error = float((slope - reference).abs().max() / reference.abs().max())
        ratio = f"{base / seconds[name]:.2f}" if base else "-"
        rows.append([name, f"{1e3 * seconds[name]:.1f}", ratio, f"{error:.1e}", str(evaluations)])
    head = [
        "three bodies, 1e-5",
        "ms",
        "times torchdiffeq's speed",
        "error of dL/dm",
        "evaluations (diffrax: attempts)",
    ]
    return table(head, rows)


def trajectory_report() -> str:
    """The largest error of the states at 1e-9 against a solve at 1e-13."""
    mass, start = three_bodies_start()
    t = torch.linspace(0, 1, 1000, dtype=torch.float64)
    with torch.no_grad():
        truth = ode.solve(three_bodies(mass), start, t, solver="dopri8", rtol=1e-13, atol=1e-13).y
        rows = []
        for name, solve in ({"physid": ours} | solvers()).items():
            if name.endswith("adjoint"):
                continue
            y, evaluations = solve(three_bodies(mass), start, t, 1e-9, ())
            rows.append([name, f"{float((y - truth).abs().max()):.1e}", str(evaluations)])
    return table(["trajectory at 1e-9", "largest error", "evaluations"], rows)


def van_der_pol_report(sizes: tuple[int, ...], rounds: int) -> str:
    """Loss and gradient of a batch on [0, 5] with 50 times at 1e-6; torchode too has steps of their own."""
    t = torch.linspace(0, 5, 50, dtype=torch.float64)
    rivals = {"physid, own steps": partial(ours, batched=True), "physid, shared step": ours} | batched_solvers()
    rows = []
    for size in sizes:
        starts = torch.randn(size, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        damping = torch.linspace(0.5, 3, size, dtype=torch.float64)

        def run(solve: object, turn: int, damping: Tensor = damping, starts: Tensor = starts) -> int:
            mu, y0 = fresh(turn, damping, starts)
            y, evaluations = solve(van_der_pol(mu), y0, t, 1e-6, (mu,))
            torch.autograd.grad((y**2).mean(), [mu, y0])
            return evaluations

        seconds = interleave({name: partial(run, solve) for name, solve in rivals.items()}, rounds)
        base = seconds.get("torchdiffeq")
        for name, value in seconds.items():
            rows.append([f"{size}", name, f"{1e3 * value:.0f}", f"{base / value:.2f}" if base else "-"])
    return table(["van der Pol, samples", "engine", "ms", "times torchdiffeq's speed"], rows)


def network_report(rounds: int) -> str:
    """Loss and gradient of y' = MLP(y), one step for the whole batch, on [0, 5] with 10 times at 1e-6, float64."""
    t = torch.linspace(0, 5, 10, dtype=torch.float64)
    rivals = {"physid aca": ours, "physid naive": partial(ours, gradient="naive")}
    rivals |= {name: solve for name, solve in solvers().items() if name == "torchdiffeq"}
    turn = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=torch.float64)
    rows = []
    for width, batch in ((50, 2), (50, 20), (256, 20), (256, 512)):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 2)).double()
        starts = torch.randn(batch, 2, dtype=torch.float64)

        def run(solve: object, turn_: int, net: torch.nn.Module = net, starts: Tensor = starts) -> None:
            y, _ = solve(lambda t, y: net(y) / 10 + y @ turn, starts, t, 1e-6, tuple(net.parameters()))
            torch.autograd.grad((y**2).mean(), list(net.parameters()))

        seconds = interleave({name: partial(run, solve) for name, solve in rivals.items()}, rounds)
        base = seconds.get("torchdiffeq")
        for name, value in seconds.items():
            rows.append([f"{width}, {batch}", name, f"{1e3 * value:.0f}", f"{base / value:.2f}" if base else "-"])
    return table(["MLP: width, batch", "engine", "ms", "times torchdiffeq's speed"], rows)


def conv_report(rounds: int) -> str:
    """Forward and backward through a block of 64 channels, 16 x 16, batch 64, float32, heun_euler at 1e-2."""
    y0 = torch.randn(64, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    block = ConvBlock()
    t = torch.tensor([0.0, 1.0])

    def mine(turn: int) -> None:
        block.zero_grad()
        y = ode.solve(block, y0, t, solver="heun_euler", rtol=1e-2, atol=1e-2).y
        y[-1].square().mean().backward()

    rivals: dict[str, Callable[[int], object]] = {"physid aca": mine}
    if torchdiffeq := installed("torchdiffeq"):

        def theirs(turn: int) -> None:
            block.zero_grad()
            y = torchdiffeq.odeint(block, y0, t, method="adaptive_heun", rtol=1e-2, atol=1e-2)
            y[-1].square().mean().backward()

        rivals["torchdiffeq"] = theirs
    peaks = {}
    for name, run in rivals.items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(0)
        peaks[name] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = interleave(rivals, rounds)
    rows = [[name, f"{value:.2f}", f"{peaks[name]:.0f}"] for name, value in seconds.items()]
    return table(["conv block", "s", "growth of the peak, MiB (in this order)"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="The engine beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no adjoints, 64 samples only")
    parser.add_argument("--heavy", action="store_true", help="the block of convolutions as well")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 3 if chosen.quick else 9
    print(versions(), end="\n\n")
    print(three_body_report(rounds, chosen.quick), end="\n\n")
    print(trajectory_report(), end="\n\n")
    print(van_der_pol_report((64,) if chosen.quick else (64, 1024), rounds), flush=True)
    print("\n" + network_report(rounds), flush=True)
    if chosen.heavy:
        print("\n" + conv_report(3))


if __name__ == "__main__":
    main()
