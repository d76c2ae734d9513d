"""The Sun and the giant planets: their motion from the tables of JPL Horizons, from which their masses follow."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.catalog import Option, Refused, folder
from physid.data.catalogue import DataSet
from physid.data.experiment import Experiment
from physid.datasets.horizons import TARGETS, EphemerisTable, find_tables
from physid.datasets.simulate import tensor, trajectory
from physid.errors import InputError
from physid.option_readers import window

AU, DAY = 149597870.7, 86400.0  # km, s
J2000 = 2451545.0  # Julian date of 2000-Jan-01 12:00 TDB
TEST_YEARS = 10.0

# GM of the Sun and of the systems of the planets, km^3/s^2: Park et al. (2021), DE440.
GM = {
    "sun": 1.32712440041e11,
    "jupiter": 1.267127641e8,
    "saturn": 3.79405848e7,
    "uranus": 5.794556e6,
    "neptune": 6.836527e6,
}
SUN_GUESS = 2.95e-4  # au^3/day^2: the square of Gauss's constant, cut to three digits


def read_bodies(value: Any) -> tuple[str, ...]:
    """Reads names of bodies, the Sun among them, and puts them in their order from the Sun."""
    names = value.split(",") if isinstance(value, str) else list(value)
    names = [str(name).strip().lower() for name in names]
    if "sun" not in names or len(names) < 2 or len(set(names)) < len(names) or not set(names) <= set(TARGETS):
        raise Refused(f"a list of the sun and one or more others out of {', '.join(TARGETS)}, each once")
    return tuple(body for body in TARGETS if body in names)


def read_window(value: Any) -> tuple[float, float]:
    """Reads two years, the first before the second, as in 1970:2000, or as it was once written, 1970-2000."""
    try:
        ends: Any = window(re.sub("[-, ]+", ":", value.strip())) if isinstance(value, str) else value
        first, last = map(float, ends)
    except (TypeError, ValueError):
        first = last = 0.0
    if not (first < last and math.isfinite(first - last)):
        raise Refused("a pair of years, the earlier first, as in 1970:2000")
    return first, last


OPTIONS = {
    "window": Option(
        "Years that are fitted, as in 1970:2000; the ten years after them are the test.", read_window, (1970.0, 2000.0)
    ),
    "bodies": Option("Bodies to keep, the Sun among them, as in sun,jupiter,saturn.", read_bodies, tuple(TARGETS)),
    "tables": Option("Folder of Horizons vector tables Sun.txt, Jupiter.txt, ...", folder),
}


def julian(year: float) -> float:
    """The Julian date of a Julian year: 365.25 days each, 2000.0 at J2000."""
    return J2000 + (year - 2000.0) * 365.25


def common_epochs(tables: dict[str, EphemerisTable], first: float, last: float) -> Array:
    """The epochs in [first, last] (Julian dates) that all tables have."""
    common = next(iter(tables.values())).epochs
    for table in tables.values():
        common = np.intersect1d(common, table.epochs)
    return common[(common >= first) & (common <= last)]


def window_epochs(tables: dict[str, EphemerisTable], window: tuple[float, float], needed: int) -> Array:
    """The common epochs in the window of years; InputError when the tables do not cover it with enough of them."""
    first, last = (julian(year) for year in window)
    start = max(float(table.epochs[0]) for table in tables.values())
    end = min(float(table.epochs[-1]) for table in tables.values())
    years = [2000.0 + (date - J2000) / 365.25 for date in (start, end)]
    epochs = common_epochs(tables, first, last)
    if first < start - 100.0 or last > end + 100.0 or len(epochs) < needed:
        raise InputError(
            f"the window {window[0]:g}-{window[1]:g} has {len(epochs)} epochs common to the tables, which cover "
            f"{years[0]:.1f}-{years[1]:.1f}: expected a window inside it with at least {needed}. Choose another."
        )
    return epochs


def load(*, window: tuple[float, float], bodies: tuple[str, ...], tables: Path | None) -> Experiment:
    """Positions relative to the Sun [T, planets, 3] in au at the epochs common to all tables, in days since J2000.

    The state is barycentric [2, bodies, 3], the Sun first. The observations determine neither position nor velocity of
    the Sun, so its initial state is fixed as the tables have it; that of the planets is free. GM in au^3/day^2 starts
    from a rounded value for the Sun, from zero for the planets. The ten years after the window are the test.

    Errors: InputError for a table that cannot be used or a window it does not cover; MissingError without tables.

    Source: JPL Horizons vector tables; GM from Park et al. (2021), DE440.
    """
    found = find_tables(bodies, tables)
    epochs = window_epochs(found, window, needed=8)
    later = common_epochs(found, np.nextafter(epochs[-1], np.inf), julian(window[1] + TEST_YEARS))
    states = joint(found, epochs)
    free = torch.ones(states.shape[1:], dtype=torch.bool)
    free[:, 0] = False
    digest = hashlib.sha256("".join(found[body].sha256 for body in bodies).encode()).hexdigest()
    truth = np.array([GM[body] for body in bodies]) * DAY**2 / AU**3
    return Experiment(
        name="solarsystem",
        train=trajectory(epochs - J2000, heliocentric(states)),
        test=trajectory(later - J2000, heliocentric(joint(found, later))) if len(later) else None,
        initial=tensor(states[0]),
        initial_free=free,
        initial_scale=tensor(sizes(states[0])),
        channels=tuple(f"{body}.{axis}" for body in bodies[1:] for axis in "xyz"),
        unit="au",
        time_unit="d since J2000",
        start={"gm": np.array([SUN_GUESS, *(0.0 for _ in bodies[1:])])},
        constants={"relative_to": 0},
        truth={"gm": truth},
        source="JPL Horizons vector tables (DE441), solar-system barycentre, ICRF",
        data_hash=digest,
        options={"window": window, "bodies": bodies, "tables": None if tables is None else str(tables)},
    )


def joint(tables: dict[str, EphemerisTable], epochs: Array) -> Array:
    """The states [T, 2, bodies, 3] of all bodies at `epochs`."""
    return np.stack([table.at(epochs) for table in tables.values()], axis=2)


def sizes(state: Array) -> Array:
    """Typical sizes [2, bodies, 3]: a planet's distance and speed from the Sun, and for the Sun their means."""
    size = np.linalg.norm(state - state[:, :1], axis=-1, keepdims=True)
    size[:, 0] = size[:, 1:].mean(axis=1)
    return np.asarray(np.broadcast_to(size, state.shape), dtype=np.float64)


def heliocentric(states: Array) -> Array:
    """The positions [T, planets, 3] relative to the Sun, the first body of `states` [T, 2, bodies, 3]."""
    return states[:, 0, 1:] - states[:, 0, :1]


ENTRY = DataSet(
    "solarsystem", "The Sun and the giant planets (JPL Horizons tables).", OPTIONS, load, {"full": "planetary"}
)
