"""The C of the catalogue and of random programs, run under the sanitizers of addresses and of undefined behaviour."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attacks.sanitized import catalogue
from attacks.tally import Tally

FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1"
TOLD = 1500  # characters of what a process said at its end
PATIENCE = 600.0  # seconds for one piece of work, its compilation included
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
    "x[..., torch.arange(N - 1, -1, -1)]",
    "x @ A.to(x.dtype)",
    "x.cumsum(-1)",
    "x.roll(1, -1)",
    "torch.stack((x, x)).mean(0)",
    "x.unsqueeze(0).expand(3, *x.shape).sum(0)",
)


def program(draw: random.Random) -> tuple[int, str]:
    """The size of a state and a right-hand side of random operations."""
    size = draw.choice((1, 2, 3, 5, 8, 17, 33))
    lines = [
        "A = torch.rand(N, N, dtype=torch.float64)",
        "def f(t, y):",
        "    x, z = y, y * torch.cos(t)[..., None]",
    ]
    for _ in range(draw.randint(2, 12)):
        kind = draw.randrange(3)
        if kind == 0:
            name = draw.choice(UNARY)
            what = f"torch.softmax({draw.choice('xz')}, -1)" if "(" in name else f"torch.{name}({draw.choice('xz')})"
        else:
            what = draw.choice(BINARY if kind == 1 else SHAPES)
        lines.append(f"    {draw.choice('xz')} = {what}")
    return size, "\n".join([*lines, "    return torch.tanh(x) - 0.1 * z"])


class Worker:
    """A process under the sanitizers that does one piece of work after the other."""

    def __init__(self, folder: Path, compiler: str, library: str) -> None:
        self.said = folder / "said"
        quoted = shlex.quote(f'exec {shlex.quote(compiler)} "$@" {FLAGS}')  # last, so that they win over ours
        self.environment = os.environ | {
            "CC": f"sh -c {quoted} cc",
            "LD_PRELOAD": library,
            "PHYSID_CACHE": str(folder / "cache"),
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        self.process: subprocess.Popen[str] | None = None

    def does(self, work: Sequence[Any]) -> str:
        """What came of a piece of work: "ran N", or how the process ended and what it said last."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "attacks.sanitized"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.said.open("w"),
                text=True,
            )
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(work) + "\n")
            process.stdin.flush()
            line = process.stdout.readline().strip()
        finally:
            timer.cancel()
        said = self.said.read_text(errors="replace")
        if line.startswith("ran") and "runtime error" not in said:
            return line
        process.kill()
        self.process = None
        return f"{process.wait()}: {line} {said[:TOLD]}"

    def end(self) -> None:
        """Let the process go."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Solve in every way by C with sanitizers, forwards and backwards; in full the whole catalogue first."""
    tally, ends = Tally(), time.monotonic() + seconds
    compiler = shutil.which("gcc")
    library = _sanitizer(compiler) if compiler else None
    if not compiler or not library:
        tally.notes["left out: no gcc with sanitizers"] += 1
        return tally
    cases = [("catalogue", *pair) for pair in catalogue()] if full else []
    worker = Worker(folder, compiler, library)
    try:
        while cases or time.monotonic() < ends:
            work = cases.pop() if cases else ("program", *program(draw))
            found = worker.does(work)
            tally.inputs += 1
            tally.notes[work[0]] += 1
            if found.startswith("ran"):
                solves = int(found.split()[1])
                tally.refused += not solves
                tally.notes["solves in C"] += solves
            else:
                tally.fail("hang" if found.startswith("-9") else "crash", f"{work}: {found}")
    except KeyboardInterrupt:
        tally.notes[f"ended by hand, left: {len(cases)} of the catalogue"] += 1
    finally:
        worker.end()
    return tally


def _sanitizer(compiler: str) -> str | None:
    """The libraries that come first in a process: a compiler's sanitizer, and what throws the exceptions of C++."""
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        command = [compiler, f"-print-file-name={name}"]
        found.append(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
    return " ".join(found) if all(Path(path).is_absolute() for path in found) else None
