"""How long the compiled functions take: nanoseconds per f, w^T df and df v; milliseconds to trace, write, compile.

python benchmarks/kernels.py [NAME ...]
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from physid.models.classics import Pendulum, VanDerPol
from physid.models.gravity import NewtonGravity
from physid.ode.native.compile import assemble
from physid.ode.native.compiler import build
from physid.ode.native.compiler.all_rules import TABLE
from physid.ode.native.compiler.library import unit_of
from physid.ode.native.compiler.trace import trace
from physid.ode.native.kernel import Kernel
from physid.ode.native.reach import Surroundings
from physid.ode.native.witness import witness
from physid.ode.rhs import Field, StateLayout

DOUBLE = torch.float64
COLUMNS = 8
CALLS = 5000
# Every call depends on the one before, so that none can be left out or overlap.
LOOP = """
#include <time.h>
static double nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}
typedef void Tangents(REAL, const REAL *, const REAL *, const REAL *, int, const REAL *, const REAL *, REAL *, REAL *,
                      REAL *);
double timed(int what, int count, int m, const REAL *y0, const REAL *p, const REAL *c, const REAL *dy, const REAL *dp,
             REAL *k, REAL *gp, REAL *dk, REAL *work,
             Tangents *field_jvp) {
    REAL y[N], gy[N], gt[1] = {0};
    for (int i = 0; i < N; ++i) y[i] = y0[i], gy[i] = 0, k[i] = 1;
    double begin = nanoseconds();
    for (int n = 0; n < count; ++n) {
        if (what == 0) field(n * (REAL)1e-6, y, p, c, k, work);
        else if (what == 1) field_vjp(n * (REAL)1e-6, y, p, c, k, gy, gp, gt, work);
        else field_jvp(n * (REAL)1e-6, y, p, c, m, dy, what == 2 ? 0 : dp, k, dk, work);
        for (int i = 0; i < N; ++i) {
            y[i] += (REAL)1e-15 * (what == 0 ? k[i] : what == 1 ? gy[i] : dk[i]);
            if (what == 1) k[i] = (REAL)1e-9 * gy[i];
        }
    }
    return (nanoseconds() - begin) / count;
}
"""


class Features(nn.Module):
    """Accelerations of three bodies from 36 features, by a matrix or by a network with one hidden layer."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        layers = [nn.Linear(36, hidden), nn.Tanh(), nn.Linear(hidden, 9)] if hidden else [nn.Linear(36, 9)]
        self.net = nn.Sequential(*layers).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt [18]."""
        r, v = y.view(2, 3, 3)
        d = r[[1, 2, 2]] - r[[0, 0, 1]]
        pull = d / d.norm(dim=-1, keepdim=True) ** 3
        features = torch.cat([part.reshape(-1) for part in (r, v, d, pull)])
        return torch.cat([y[9:], self.net(features)])


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "vanderpol": lambda: (VanDerPol(), torch.randn(2, dtype=DOUBLE)),
    "pendulum": lambda: (Pendulum(), torch.randn(2, dtype=DOUBLE)),
    "threebody": lambda: (NewtonGravity(), torch.randn(2, 3, 3, dtype=DOUBLE)),
    "tenbody": lambda: (NewtonGravity(mass=[1.0] * 10), torch.randn(2, 10, 3, dtype=DOUBLE)),
    "linear 36-9": lambda: (Features(0), torch.randn(18, dtype=DOUBLE)),
    "mlp 36-64-9": lambda: (Features(64), torch.randn(18, dtype=DOUBLE)),
}


def timings(kernel: Kernel, y: Tensor, captured: list[Tensor]) -> list[float]:
    """The least ns per call of f, w^T df, df v by the state, df v by state and parameters, COLUMNS columns each."""
    p, c = kernel.pack(captured)
    job = build.Target(f"loop {time.time()}", lambda: kernel.sources.functions() + LOOP)  # a source that no cache has
    timed = build.load(job)[0].timed
    timed.restype, timed.argtypes = ctypes.c_double, [*[ctypes.c_int] * 3, *[ctypes.c_void_p] * 10]
    dy, dp = torch.rand(kernel.n, COLUMNS, dtype=DOUBLE), torch.rand(kernel.p, COLUMNS, dtype=DOUBLE)
    k, gp, dk = torch.zeros(kernel.n, dtype=DOUBLE), torch.zeros(kernel.p, dtype=DOUBLE), torch.zeros_like(dy)
    work = torch.zeros(kernel.tangents.physid_scratch(COLUMNS), dtype=DOUBLE)
    arrays = [x.data_ptr() for x in (y, p, c, dy, dp, k, gp, dk, work)]
    arrays.append(ctypes.cast(kernel.tangents.physid_tangents, ctypes.c_void_p).value or 0)
    return [min(timed(what, CALLS, COLUMNS, *arrays) for _ in range(15)) for what in range(4)]


def main(names: list[str]) -> None:
    """One line for each case."""
    print(f"{'':12} {'f':>7} {'vjp':>7} {'jvp y':>7} {'jvp all':>7} ns  {'trace':>6} {'write':>6} {'compile':>7} ms")
    for name in names or CASES:
        torch.manual_seed(0)
        f, y0 = CASES[name]()
        captured, y, t = list(f.parameters()), y0.reshape(-1), torch.tensor(0.0, dtype=DOUBLE)
        field = Field(f, StateLayout(y0, False), captured)
        clock = [time.perf_counter()]
        graph = trace(field, t, y, captured, TABLE.__contains__)
        clock.append(time.perf_counter())
        unit_of(graph)
        clock.append(time.perf_counter())
        around = Surroundings(f, witness(lambda field=field, t=t, y=y: field(t, y)))
        kernel = assemble(graph, around)
        clock.append(time.perf_counter())
        spent = [1e3 * (b - a) for a, b in pairwise(clock)]
        ns = timings(kernel, y, captured)
        print(f"{name:12} {' '.join(f'{x:7.0f}' for x in ns)}     {spent[0]:6.1f} {spent[1]:6.1f} {spent[2]:7.0f}")


if __name__ == "__main__":
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHYSID_CACHE"] = folder
        main(sys.argv[1:])
