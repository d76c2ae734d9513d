"""Small irregular series for tests: damped oscillators with other phases, and the batch of a model for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from physid.data.series import Series


def swing(phase: float, times: np.ndarray) -> np.ndarray:
    """Angle and rate [T, 2] of a damped oscillation."""
    decay = np.exp(-times)
    return np.stack((decay * np.cos(6 * times + phase), decay * np.sin(6 * times + phase)), 1)


def write_table(path: Path, series: int = 12, times: int = 20, seed: int = 0) -> Path:
    """A long table: every series at times of its own, some cells empty."""
    draw = np.random.default_rng(seed)
    lines = ["series,t,x,v"]
    for number in range(series):
        t = np.sort(draw.uniform(0, 1, times))
        for time, (x, v) in zip(t, swing(2 * np.pi * draw.random(), t), strict=True):
            lines.append(f"s{number},{time:.6f},{x:.6f},{'' if draw.random() < 0.2 else f'{v:.6f}'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def batch(count: int = 5, times: int = 12, channels: int = 3, part: float = 0.4, seed: int = 0) -> Series:
    """Random series in float64, of which some channels of some times were observed."""
    draw = torch.Generator().manual_seed(seed)
    t = torch.rand(times, generator=draw, dtype=torch.float64).sort().values / 2
    targets = torch.rand(count, times, channels, generator=draw, dtype=torch.float64)
    wanted = (torch.rand(count, times, channels, generator=draw) < 0.9).double()
    seen = (torch.rand(count, times, channels, generator=draw) < part).double() * wanted
    return Series(t, targets * seen, seen, targets * wanted, wanted)
