"""The native engine beside its peers, row by row of the aims: loss and gradient, fresh values at every timed call.

    python benchmarks/native.py [--quick] [--rounds N] [--cpu] [--only NAME]

Times are the shortest of the rounds, for everyone alike, so that a busy machine disturbs them little; with --cpu they
are processor time on one thread, for a machine on which other work runs. Peers that are not installed are left out.
`fused` is `ode.misfit`, which has the loss in the compiled call. The floor is the time of the bare evaluations of f and
its products, compiled and called in a row; the last column is the part of our time that it makes up.

Threads of torch that wait actively for work take the second core from everyone else: OMP_WAIT_POLICY is PASSIVE here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compiled import diffrax_run
from peers import solvers
from problems import FIRST, SECOND, fresh, three_bodies, three_bodies_start, van_der_pol
from timing import interleave, table, versions

from physid import ode
from physid.ode.native.engine import Native
from physid.ode.native.kernel import Kernel

Loss = Callable[[Tensor], Tensor]
Run = Callable[[int], object]
LANES = 200  # calls of a kernel in a row, to measure one


class Features(nn.Module):
    """Accelerations of three bodies from 36 features of their state, linear or by a network of one hidden layer."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(36, hidden), nn.Tanh(), nn.Linear(hidden, 9)] if hidden else [nn.Linear(36, 9)]
        self.net = nn.Sequential(*layers).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        r, v = y.unbind(-3)
        apart = r[..., SECOND, :] - r[..., FIRST, :]
        pull = apart * (apart * apart).sum(-1, keepdim=True) ** -1.5
        a = self.net(torch.cat([part.flatten(-2) for part in (r, v, apart, pull)], -1))
        return torch.stack([v, a.unflatten(-1, (3, 3))], -3)


def positions(y: Tensor) -> Tensor:
    """Mean over time (and samples) of the squared positions, summed over the bodies."""
    return (y.select(-3, 0) ** 2).sum((-2, -1)).mean()


class Row:
    """One workload: f from fresh values, the times, the loss; timed for physid and for peers."""

    def __init__(self, name: str, aim: str, tol: float, t: Tensor, loss: Loss, batched: bool = False) -> None:
        self.name, self.aim, self.tol, self.t, self.loss, self.batched = name, aim, tol, t, loss, batched
        self.values: list[Tensor] = []
        self.kind = "three bodies"
        self.weight: Tensor | None = None  # of `misfit`, so that it is the loss
        self.module: nn.Module | None = None
        self.make: Callable[..., Callable[[Tensor, Tensor], Tensor]] = lambda: self.module  # type: ignore[assignment,return-value]

    def call(self, solve: Callable[..., Tensor], turn: int) -> tuple[Tensor, ...]:
        """Loss and gradient by the parameters and the initial state."""
        *params, y0 = fresh(turn, *self.values)
        f, held = self.make(*params), tuple(self.module.parameters()) if self.module else tuple(params)
        if self.module:
            with torch.no_grad():
                for parameter in held:
                    parameter.mul_(1 + 1e-9)
        y = solve(f, y0, held)
        return torch.autograd.grad(y if y.ndim == 0 else self.loss(y), [*held, y0])

    def ours(self, f: object, y0: Tensor, params: object, engine: str = "native") -> Tensor:
        """physid."""
        solution = ode.solve(
            f,
            y0,
            self.t,
            rtol=self.tol,
            atol=self.tol,
            batched=self.batched,
            engine=engine,  # type: ignore[arg-type]
        )
        self.statistics = solution.statistics
        return solution.y  # type: ignore[return-value]

    def fused(self, f: object, y0: Tensor, params: object) -> Tensor:
        """physid, with the loss in the compiled call."""
        integrator = ode.Integrator(rtol=self.tol, atol=self.tol, engine="native")
        if self.weight is None:
            shape = (len(self.t), *y0.shape)
            self.weight, self.target = self.weights(shape), torch.zeros(shape, dtype=torch.float64)
        return ode.misfit(f, y0, self.t, self.target, self.weight, integrator=integrator, batched=self.batched)  # type: ignore[arg-type]

    def weights(self, shape: tuple[int, ...]) -> Tensor:
        """The weights with which a sum of squares is the loss."""
        y = torch.ones(shape, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(self.loss(y), y)[0] / 2

    def floor(self) -> float:
        """Seconds of the bare evaluations and products of the last solve."""
        *params, y0 = fresh(0, *self.values)
        problem = ode.Integrator(rtol=self.tol, atol=self.tol).pose(self.make(*params), y0, self.t, None, self.batched)
        from physid.ode.native.choose import native_engine

        engine = native_engine(problem)
        if not isinstance(engine, Native):
            raise SystemExit(f"{self.name}: {engine}")
        field, product = bare(engine.kernel, problem.y0.detach()[: engine.kernel.n], problem.captured)
        return self.statistics.evaluations * field + self.statistics.backward_vjps * product


def bare(kernel: Kernel, y: Tensor, captured: list[Tensor]) -> tuple[float, float]:
    """Seconds of one f and of one w^T df, each called many times in a row from Python's side of C."""
    p, c = (x[0] if x.ndim == 2 else x for x in kernel.pack(captured))
    lanes = y.expand(LANES, -1).contiguous()
    t, k, work = torch.zeros(LANES, dtype=y.dtype), torch.empty_like(lanes), kernel._work(0)
    w, gy, gp, gt = torch.ones_like(y), torch.zeros_like(y), torch.zeros(kernel.p, dtype=y.dtype), t[:1]
    library = kernel.library
    fields = [LANES, *(x.data_ptr() for x in (t, lanes, p, c, k, work))]
    products = [LANES, *(x.data_ptr() for x in (t, y.contiguous(), p, c, w, gy, gp, gt, work))]
    field = least(lambda: library.physid_fields(*fields)) / LANES
    return field, least(lambda: library.physid_vjps(*products)) / LANES


def least(call: Callable[[], object], rounds: int = 300) -> float:
    """The shortest time of a call."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best


def rows(sizes: tuple[int, ...]) -> list[Row]:
    """The workloads of the aims."""
    mass, start = three_bodies_start()
    t = torch.linspace(0, 1, 1000, dtype=torch.float64)
    found = []
    for name, aim, tol in (("three bodies, 1e-5", "0.25", 1e-5), ("three bodies, 1e-8 (error < 1e-6)", "0.5", 1e-8)):
        row = Row(name, aim, tol, t, positions)
        row.values, row.make = [mass, start], three_bodies
        found.append(row)
    for name, aim, hidden in (("linear NODE 36 -> 9", "1.0", 0), ("MLP NODE 36 - 64 - 9", "0.3", 64)):
        row = Row(name, aim, 1e-5, torch.linspace(0, 1, 50, dtype=torch.float64), positions)
        row.values, row.module, row.kind = [start], Features(hidden), "features"
        found.append(row)
    for size in sizes:
        row = Row(f"van der Pol, {size}", {64: "1.5", 1024: "8"}.get(size, "-"), 1e-6, times(5), squares, batched=True)
        starts = torch.randn(size, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        row.values, row.make = [torch.linspace(0.5, 3, size, dtype=torch.float64), starts], van_der_pol
        row.kind = "van der Pol"
        found.append(row)
    for size in sizes:
        row = Row(f"three bodies, {size}", {64: "8", 1024: "120"}.get(size, "-"), 1e-5, times(1), positions, True)
        noise = torch.randn(size, 1, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        row.values, row.make = [mass, start * (1 + 1e-3 * noise)], three_bodies
        found.append(row)
    return found


def times(end: float) -> Tensor:
    """Fifty times on [0, end]."""
    return torch.linspace(0, end, 50, dtype=torch.float64)


def squares(y: Tensor) -> Tensor:
    """The mean of the squares."""
    return (y**2).mean()


def report(sizes: tuple[int, ...], rounds: int, clock: Callable[[], float], only: str) -> str:
    """Milliseconds of every engine, ours over theirs, and the part that the floor makes up."""
    lines = []
    for row in rows(sizes):
        if only not in row.name:
            continue
        heavy = rivals(row)
        ours: dict[str, Run] = {"native": partial(row.call, row.ours), "fused": partial(row.call, row.fused)}
        row.call(row.ours, 0)
        count = (2 if row.batched else 40) * rounds
        before = interleave(ours, count, min, clock)
        quick = {name: heavy.pop(name) for name in ("diffrax",) if name in heavy}
        seconds = interleave(quick, (2 if row.batched else 20) * rounds, min, clock)
        seconds |= interleave(heavy, max(2, rounds // 5 if row.batched else rounds // 3), min, clock)
        after = interleave(ours, count, min, clock)
        mine, fused = (min(before[name], after[name]) for name in ours)
        row.call(row.ours, 0)
        others = ", ".join(f"{name} {1e3 * value:.4g} ({value / mine:.3g} x)" for name, value in seconds.items())
        floor = f"{100 * row.floor() / fused:.0f} %"
        lines.append([row.name, f"{1e3 * mine:.3g}", f"{1e3 * fused:.3g}", row.aim, others, floor])
        print(" | ".join(lines[-1]), file=sys.stderr)
    head = ["loss and gradient, ms", "native", "fused", "aim", "others (times native)", "floor of fused"]
    return table(head, lines)


def rivals(row: Row) -> dict[str, Run]:
    """The eager engine and the peers that take this workload."""
    names = ("torchdiffeq", "torchode") if row.batched else ("torchdiffeq", "torchode", "TorchDiffEqPack")
    peers = {name: solve for name, solve in solvers().items() if name in names}
    runs: dict[str, Run] = {"eager": partial(row.call, partial(row.ours, engine="eager"))}
    for name, solve in peers.items():
        if not (name == "torchode" and row.module):
            runs[name] = partial(row.call, partial(theirs, solve, row))
    run = diffrax_run(row.kind, row.t, row.batched)
    if run is not None:
        runs["diffrax"] = partial(compiled, run, row)
    return runs


def theirs(solve: Callable[..., tuple[Tensor, int]], row: Row, f: object, y0: Tensor, params: object) -> Tensor:
    """A peer of the same signature."""
    return solve(f, y0, row.t, row.tol, params)[0]


def compiled(run: Callable[[float, list[Tensor]], object], row: Row, turn: int) -> object:
    """A compiled peer."""
    values = fresh(turn, *row.values)
    weights = list(row.module.parameters()) if row.module else []
    with torch.no_grad():
        return run(row.tol, [*weights, *(value * (1 + 1e-9 * turn) for value in values)])


FIRST_CALL = """
import time, torch
from problems import three_bodies, three_bodies_start
from physid import ode
warm = torch.ones(1, dtype=torch.float64)
ode.solve(lambda t, y: -y, warm, [0.0, 1.0], engine="native")
mass, start = three_bodies_start()
mass.requires_grad_()
started = time.perf_counter()
ode.solve(three_bodies(mass), start, [0.0, 1.0], engine="native")
print(time.perf_counter() - started)
"""


def first_calls() -> str:
    """The first solve of a new f, compiled and from the cache, in a process that has traced another before."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PHYSID_CACHE": folder}
        here = Path(__file__).resolve().parent
        environment["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent)])
        seconds = [
            float(subprocess.run([sys.executable, "-c", FIRST_CALL], env=environment, text=True, capture_output=True,
                                 check=True).stdout)
            for _ in range(2)
        ]  # fmt: skip
    lines = [["compiled", f"{1e3 * seconds[0]:.0f}", "500"], ["from the cache", f"{1e3 * seconds[1]:.1f}", "10"]]
    return table(["first solve of a new f", "ms", "aim"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The native engine beside its peers.")
    parser.add_argument("--quick", action="store_true", help="small batches and few rounds")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cpu", action="store_true", help="processor time on one thread")
    parser.add_argument("--only", default="", help="workloads whose name has this in it")
    chosen = parser.parse_args()
    if chosen.cpu:
        torch.set_num_threads(1)
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    clock = time.process_time if chosen.cpu else time.perf_counter
    print(versions(), f"{torch.get_num_threads()} threads.", end="\n\n")
    sizes = (64,) if chosen.quick else (64, 1024)
    print(report(sizes, 3 if chosen.quick else chosen.rounds, clock, chosen.only), end="\n\n")
    print(first_calls())


if __name__ == "__main__":
    main()
