"""Simulated experiments on the classical small systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.catalog import Option, number, whole
from physid.data.catalogue import DataSet
from physid.data.experiment import Experiment
from physid.datasets.simulate import RightHandSide, grids, simulate, tensor, trajectory, with_noise


@dataclass(frozen=True)
class System:
    """A classical system: its right-hand side at the true values, where it starts, and how long it is watched."""

    name: str
    summary: str
    field: RightHandSide
    truth: Mapping[str, float]
    initial: tuple[float, ...]
    horizon: float
    channels: tuple[str, ...]
    source: str
    knowledge: Mapping[str, str]
    observe: Callable[[Array], Array] = lambda states: states
    unit: str = ""
    time_unit: str = "s"


def load(system: System, *, noise: float, seed: int, horizon: float, points: int) -> Experiment:
    """States fitted on [0, horizon] from a known initial state, and tested without noise on [0, 2 horizon]."""
    train, test = grids(horizon, points)
    times = np.union1d(train, test)
    initial = np.array(system.initial)
    seen = system.observe(simulate(system.field, initial, times))
    parts = {name: seen[np.searchsorted(times, grid)] for name, grid in (("train", train), ("test", test))}
    return Experiment(
        name=system.name,
        train=trajectory(train, with_noise(parts["train"], noise, seed) if noise else parts["train"]),
        test=trajectory(test, parts["test"]),
        initial=tensor(initial),
        channels=system.channels,
        unit=system.unit,
        time_unit=system.time_unit,
        truth=dict(system.truth),
        sigma=noise or None,
        source=system.source,
        options={"noise": noise, "seed": seed, "horizon": horizon, "points": points},
    )


def entry(system: System) -> DataSet:
    """The entry of the catalogue for a classical system."""
    options = {
        "noise": Option("Standard deviation of normal errors added to what is fitted.", number(0.0), 0.0),
        "seed": Option("Seed of the noise.", whole(0, 2**32 - 1), 0),
        "horizon": Option(
            "End of the time that is fitted; the test is twice as long.", number(0.0, above=True), system.horizon
        ),
        "points": Option("Number of times that are fitted; the test has twice as many.", whole(2), 100),
    }
    loader: Callable[..., Any] = partial(load, system)
    return DataSet(system.name, system.summary, options, loader, system.knowledge)


def exponential(t: float, y: Array) -> Array:
    """z' = -z / 2."""
    return -0.5 * y


def vanderpol(t: float, y: Array) -> Array:
    """x' = v, v' = (0.15 - x^2) v - x."""
    x, v = y
    return np.array([v, (0.15 - x**2) * v - x])


def lotka_volterra(t: float, y: Array) -> Array:
    """u' = 0.55 u - 0.028 u v, v' = 0.026 u v - 0.84 v."""
    u, v = y
    return np.array([0.55 * u - 0.028 * u * v, 0.026 * u * v - 0.84 * v])


def pendulum(t: float, y: Array) -> Array:
    """theta'' = -(9.80665 / 0.7) sin(theta) - 0.1 theta'."""
    theta, omega = y
    return np.array([omega, -(9.80665 / 0.7) * np.sin(theta) - 0.1 * omega])


SYSTEMS = (
    System(
        "exponential",
        "Exponential decay, the toy problem of the gradient comparison.",
        exponential,
        {"k": -0.5},
        (1.0,),
        4.0,
        ("z",),
        "simulated after Zhuang et al. (2020), section 4.1",
        {"full": "exponential", "none": "blackbox"},
    ),
    System(
        "vanderpol",
        "The van der Pol oscillator, which cannot be reversed in time.",
        vanderpol,
        {"mu": 0.15},
        (2.0, 0.0),
        12.5,
        ("x", "v"),
        "simulated after Zhuang et al. (2020), figure 4",
        {"full": "vanderpol", "none": "blackbox"},
        time_unit="",
    ),
    System(
        "lotka-volterra",
        "Prey and predators in cycles of some ten years.",
        lotka_volterra,
        {"alpha": 0.55, "beta": 0.028, "gamma": 0.84, "delta": 0.026},
        (33.0, 6.0),
        20.0,
        ("u", "v"),
        "simulated after Lotka (1925) and Volterra (1926)",
        {"full": "lotka-volterra", "none": "blackbox"},
        unit="thousands",
        time_unit="yr",
    ),
    System(
        "pendulum",
        "A pendulum with friction of which only the angle is seen.",
        pendulum,
        {"length": 0.7, "friction": 0.1},
        (2.0, 0.0),
        5.0,
        ("theta",),
        "simulated, with the standard gravity 9.80665 m/s^2",
        {"full": "pendulum"},
        observe=lambda states: states[:, :1],
        unit="rad",
    ),
)
ENTRIES = tuple(entry(system) for system in SYSTEMS)
