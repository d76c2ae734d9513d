"""The C of the catalogue and of random programs, run under the sanitizers of addresses and of undefined behaviour."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from attacks.tally import Tally

FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
NAMES = ("exponential", "lotka-volterra", "pendulum", "vanderpol", "threebody", "lynxhare")
CATALOGUE = """
import sys, torch
from physid.datasets import load
from physid.models import build
from physid.ode import solve
torch.set_num_threads(2)
experiment = load(sys.argv[1])
model = build(experiment)
y0 = experiment.initial.double()
times = experiment.train.times[:12].double()
for solver in ("dopri5", "tsit5", "dopri8", "bosh3"):
    how = {"rtol": 1e-5, "atol": 1e-6}
    start = y0.clone().requires_grad_()
    found = solve(model, start, times, solver=solver, engine="native", **how)
    found.y.square().sum().backward()
    many = (y0 + 0.01 * torch.rand(5, *y0.shape, dtype=y0.dtype)).requires_grad_()
    solve(model, many, times, solver=solver, engine="native", batched=True, **how).y.square().sum().backward()
print("ran")
"""
RANDOM = """
import sys, torch
from physid.ode import solve
torch.set_num_threads(2)
exec(sys.argv[1])
y0 = torch.rand(N, dtype=torch.float64).requires_grad_()
try:
    found = solve(f, y0, torch.linspace(0.0, 0.5, 5), solver="dopri5", rtol=1e-5, atol=1e-6, engine="native")
    found.y.square().sum().backward()
except Exception as error:
    print("refused", type(error).__name__, error)
print("ran")
"""
UNARY = (
    "sin",
    "cos",
    "exp",
    "tanh",
    "sqrt",
    "abs",
    "log1p",
    "sigmoid",
    "relu",
    "square",
    "neg",
    "reciprocal",
    "softmax(-1)",
)
BINARY = (
    "x + z",
    "x - z",
    "x * z",
    "x / (1 + z * z)",
    "torch.maximum(x, z)",
    "torch.where(x > z, x, z)",
    "torch.atan2(x, z)",
)
SHAPES = (
    "x[..., 1:].sum(-1, keepdim=True) + x",
    "torch.cat((x[..., 1:], x[..., :1]), -1)",
    "x.flip(-1)",
    "x[torch.arange(N - 1, -1, -1)]",
    "(A @ x)",
    "x.cumsum(-1)",
    "x.roll(1, -1)",
    "torch.stack((x, x)).mean(0)",
    "x.view(1, -1).expand(3, N).sum(0)",
)


def program(draw: random.Random) -> str:
    """A right-hand side of random operations."""
    size = draw.choice((1, 2, 3, 5, 8, 17, 33))
    lines = [
        f"N = {size}",
        "A = torch.rand(N, N, dtype=torch.float64)",
        "def f(t, y):",
        "    x, z = y, y * torch.cos(t)",
    ]
    for _ in range(draw.randint(2, 12)):
        kind = draw.randrange(3)
        if kind == 0:
            name = draw.choice(UNARY)
            what = f"torch.softmax({draw.choice('xz')}, -1)" if "(" in name else f"torch.{name}({draw.choice('xz')})"
        else:
            what = draw.choice(BINARY if kind == 1 else SHAPES)
        lines.append(f"    {draw.choice('xz')} = {what}")
    return "\n".join([*lines, "    return torch.tanh(x) - 0.1 * z"])


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Compile with the sanitizers and run, forwards and backwards, alone and in batches."""
    tally, ends = Tally(), time.monotonic() + seconds
    compiler = shutil.which("gcc")
    library = (
        compiler
        and subprocess.run(
            [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    if not compiler or not library or not Path(library).is_absolute():
        tally.notes["left out: no gcc with sanitizers"] += 1
        return tally
    environment = {
        **os.environ,
        "CC": f"{compiler} {FLAGS}",
        "LD_PRELOAD": library,
        "PHYSID_CACHE": str(folder / "cache"),
    }
    environment |= {
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    cases = [("catalogue", CATALOGUE, name) for name in (NAMES if full else NAMES[:1])]
    while cases or time.monotonic() < ends:
        kind, text, word = cases.pop() if cases else ("random program", RANDOM, program(draw))
        done = subprocess.run(
            [sys.executable, "-c", text, word], env=environment, capture_output=True, text=True, check=False
        )
        tally.inputs += 1
        tally.refused += done.stdout.startswith("refused")
        tally.notes[kind] += 1
        if done.returncode or "runtime error" in done.stderr or "Sanitizer" in done.stderr or "ran" not in done.stdout:
            tally.fail("crash", f"{kind} {word}: {done.returncode}: {done.stderr}")
    return tally
