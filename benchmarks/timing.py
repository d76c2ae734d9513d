"""Timing that is fair to all: every rival in turn, round after round, in one process; the median counts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

PACKAGES = ("torch", "torchdiffeq", "torchode", "TorchDiffEqPack", "diffrax", "jax", "numpy", "scipy")


def interleave(
    rivals: Mapping[str, Callable[[int], object]],
    rounds: int,
    middle: Callable[[list[float]], float] = statistics.median,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median (or `middle`) seconds of each, called with the number of the round, and once before, unmeasured."""
    for call in rivals.values():
        call(0)
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(1, rounds + 1):
        for name, call in rivals.items():
            started = clock()
            call(turn)
            seconds[name].append(clock() - started)
    return {name: middle(values) for name, values in seconds.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that reads in a terminal and in a page."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def versions() -> str:
    """What the numbers were taken with."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, {', '.join(found)}; {os.cpu_count()} cores seen."
