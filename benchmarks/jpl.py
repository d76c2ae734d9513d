"""Masses of the giant planets from windows of the JPL Horizons tables, and whether the robust errors are honest.

    PHYSID_DATA=DIR python benchmarks/jpl.py [--windows 1970-2000,1900-1930,...]

For every window and body: the error in %, the robust standard error in %, and how many of these the truth is away.
The model holds the Sun and four planets: the inner planets, which it lacks, pull on these as a part of the Sun would,
and so the Sun's truth is that of the Sun and them. Then the fit of the Sun, Jupiter and Saturn alone, which leaves out
what moves them: its verdict.

Source of the inner planets' GM: Park, Folkner, Williams and Boggs (2021), DE440 and DE441.
"""

from __future__ import annotations

import argparse

import torch
from timing import table, versions

from physid import fit
from physid.datasets import load
from physid.models import build

# GM of Mercury, Venus, the Earth with the Moon, and Mars over that of the Sun
INNER = (22031.868551 + 324858.592 + 403503.235625 + 42828.375816) / 132712440041.279419
WINDOWS = "1970-2000,1900-1930,1940-1970,2000-2030,2060-2090"


def masses(window: str) -> list[list[str]]:
    """A row for each body whose truth is known."""
    experiment = load("solarsystem", window=window)
    found = fit(build(experiment), experiment)
    rows = []
    for one in found.estimates:
        if one.truth is None or one.of == "initial" or one.robust is None:
            continue
        truth = one.truth * (1.0 + INNER) if one.name == "gm[0]" else one.truth
        error, width = one.value - truth, one.robust
        part = 100 / abs(one.truth)
        rows.append([window, one.name, f"{part * error:+.5f}", f"{part * width:.5f}", f"{abs(error) / width:.2f}"])
    return rows


def main() -> None:
    """Fit window after window, then the reduced system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", default=WINDOWS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for window in asked.windows.split(",") for row in masses(window)]
    print(versions(), end="\n\n")
    print(table(["window", "unknown", "error, %", "robust s.e., %", "away, s.e."], rows), end="\n\n")
    within = sum(float(row[-1]) <= 3 for row in rows)
    print(f"{within} of {len(rows)} within 3 robust standard errors")
    experiment = load("solarsystem", bodies=["sun", "jupiter", "saturn"], window="1970:2000")
    found = fit(build(experiment), experiment)
    if found.statistics is not None:
        print(f"Sun, Jupiter and Saturn alone: {found.statistics.verdict}, rms {found.statistics.rms:.2e} au")


if __name__ == "__main__":
    main()
