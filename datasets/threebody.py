"""Three bodies under gravity, as in Zhuang et al. (2020), section 4.4, and random systems like it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.catalog import Option, number, numbers_list, one_of, whole
from physid.data.catalogue import DataSet
from physid.data.experiment import Experiment
from physid.datasets.simulate import SIMULATORS, grids, simulate, tensor, trajectory, with_noise
from physid.errors import InputError

# Reference mass 1.989e30 kg, length 5.326e12 m, velocity 30 km/s, time 0.51 x 79.91 years.
COUPLING, VELOCITY_SCALE = 0.2004844, 7.2393239
MASSES = np.array([1.1, 1.1, 0.9])
INITIAL = np.array(
    [
        [[0.0, 0.2, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 0.5]],
        [[0.0, 0.1, 0.0], [0.0, 0.0, 0.1], [0.1, 0.0, 0.0]],
    ]
)
CHANNELS = tuple(f"{axis}{body}" for body in (1, 2, 3) for axis in "xyz")
PROTOCOLS = ("default", "paper-text", "paper-code")

OPTIONS = {
    "random_masses": Option("Seed of a random system: unequal masses and another initial state.", whole(0, 2**32 - 1)),
    "drag": Option("Coefficient of a drag on every body, drag |v|^(power - 1) v.", number(0.0), 0.0),
    "drag_power": Option("Power of the speed with which the drag grows.", number(0.0, above=True), 1.0),
    "noise": Option("Standard deviation of normal errors added to the positions that are fitted.", number(0.0), 0.0),
    "seed": Option("Seed of the noise, and of the starting masses of a paper protocol.", whole(0, 2**32 - 1), 0),
    "horizon": Option("End of the time that is fitted; the test is twice as long.", number(0.0, above=True), 1.0),
    "points": Option("Number of times that are fitted; the test has twice as many.", whole(8), 1000),
    "initial": Option("Whether the initial state is known or free.", one_of("known", "free"), "known"),
    "start": Option("Starting masses, one or three. Default: 1.", numbers_list),
    "simulator": Option("dop853 at 1e-12 or lsoda at 1e-7. Default: lsoda for a paper protocol.", one_of(*SIMULATORS)),
    "protocol": Option("Whose settings decide simulator and starting masses.", one_of(*PROTOCOLS), "default"),
}


def attraction(masses: Array, state: Array, drag: float = 0.0, power: float = 1.0) -> Array:
    """dy/dt [2, n, 3] of n bodies: r' = K2 v, v_i' = K1 sum_j m_j (r_j - r_i) / |r_j - r_i|^3 - drag |v|^(p - 1) v."""
    positions, velocities = state
    friction = drag * np.linalg.norm(velocities, axis=-1, keepdims=True) ** (power - 1.0) * velocities if drag else 0.0
    difference = positions[None, :] - positions[:, None]  # from i (first axis) to j (second)
    squared = (difference**2).sum(axis=-1)
    np.fill_diagonal(squared, 1.0)  # a body does not pull itself: its difference is zero
    acceleration = (masses[None, :, None] * difference / squared[..., None] ** 1.5).sum(axis=1)
    return np.stack((VELOCITY_SCALE * velocities, COUPLING * acceleration - friction))


def energy(masses: Array, state: Array) -> float:
    """The conserved K2 sum m v^2 / 2 - K1 sum m_i m_j / |r_i - r_j|; below zero, not all bodies can part."""
    positions, velocities = state
    kinetic = 0.5 * VELOCITY_SCALE * float((masses[:, None] * velocities**2).sum())
    i, j = np.triu_indices(len(masses), 1)
    distance = np.linalg.norm(positions[i] - positions[j], axis=-1)
    return kinetic - COUPLING * float((masses[i] * masses[j] / distance).sum())


def distances(states: Array) -> Array:
    """The distances [T, 3] of the pairs (1, 2), (1, 3), (2, 3)."""
    i, j = np.triu_indices(3, 1)
    return np.asarray(np.linalg.norm(states[:, 0, i] - states[:, 0, j], axis=-1))


def random_system(seed: int) -> tuple[Array, Array]:
    """Masses [3] and initial state [2, 3, 3] of a random system.

    Masses uniform on [0.5, 1.5]; positions uniform in a cube of side 1, no two closer than 0.4, then centred;
    velocities of a rigid rotation about a random axis plus normal ones half as large, without momentum, scaled so that
    twice the kinetic energy is 0.6 to 1.2 times the potential one: the system is bound. Drawn again until no two bodies
    come closer than 0.1 on [0, 2].
    """
    rng = np.random.default_rng(seed)
    while True:
        masses = rng.uniform(0.5, 1.5, 3)
        positions = rng.uniform(-0.5, 0.5, (3, 3))
        rotation = np.cross(rng.standard_normal(3), positions)
        velocities = rotation + 0.5 * np.sqrt((rotation**2).mean()) * rng.standard_normal((3, 3))
        ratio = rng.uniform(0.6, 1.2)
        positions -= masses @ positions / masses.sum()
        velocities -= masses @ velocities / masses.sum()
        potential = energy(masses, np.stack((positions, 0.0 * velocities)))
        kinetic = energy(masses, np.stack((positions, velocities))) - potential
        state = np.stack((positions, velocities * np.sqrt(-0.5 * ratio * potential / kinetic)))
        if distances(state[None]).min() >= 0.4 and closest(masses, state, 2.0) >= 0.1:
            return masses, state


def closest(masses: Array, state: Array, horizon: float) -> float:
    """The smallest distance of two bodies on [0, horizon]."""
    times = np.linspace(0.0, horizon, 2001)
    return float(distances(simulate(lambda t, y: attraction(masses, y), state, times, "lsoda")).min())


def starting_masses(protocol: str, seed: int, start: list[float] | None) -> Array:
    """The masses a fit starts from: `start`, or 1 + U(-0.1, 0.1) under a paper protocol, or 1."""
    if start is not None:
        if len(start) not in (1, 3) or min(start) <= 0.0:
            raise InputError(f"start of threebody is {start}: expected one or three positive masses.")
        return np.broadcast_to(np.array(start), 3).copy()
    if protocol == "default":
        return np.ones(3)
    return 1.0 + np.random.default_rng(seed).uniform(-0.1, 0.1, 3)


def guess_initial(times: Array, observations: Array) -> Array:
    """A start for a free initial state from the first positions: a parabola through the first tenth of them."""
    rows = max(6, len(times) // 10)
    t, r = times[:rows] - times[0], observations[:rows].reshape(rows, -1)
    coefficients = np.polynomial.polynomial.polyfit(t, r, 2)
    return np.stack((coefficients[0], coefficients[1] / VELOCITY_SCALE)).reshape(2, 3, 3)


def load(
    *,
    random_masses: int | None,
    drag: float,
    drag_power: float,
    noise: float,
    seed: int,
    horizon: float,
    points: int,
    initial: str,
    start: list[float] | None,
    simulator: str | None,
    protocol: str,
) -> Experiment:
    """Positions of three bodies, fitted on [0, horizon] and tested without noise on [0, 2 horizon].

    Errors: InputError for starting masses that are not one or three positive numbers, or a simulation that fails.

    Source: Zhuang et al. (2020), section 4.4 and table 5; constants from the authors' code.
    """
    simulator = simulator or ("dop853" if protocol == "default" else "lsoda")
    masses, state = (MASSES, INITIAL) if random_masses is None else random_system(random_masses)
    train, test = grids(horizon, points)
    times = np.union1d(train, test)
    states = simulate(lambda t, y: attraction(masses, y, drag, drag_power), state, times, simulator)
    positions = {name: states[np.searchsorted(times, grid), 0] for name, grid in (("train", train), ("test", test))}
    observed = with_noise(positions["train"], noise, seed) if noise else positions["train"]
    known = initial == "known"
    scale = np.sqrt((state**2).mean(axis=(1, 2), keepdims=True)) * np.ones_like(state)
    options: dict[str, Any] = {
        "random_masses": random_masses,
        "drag": drag,
        "drag_power": drag_power,
        "noise": noise,
        "seed": seed,
        "horizon": horizon,
    }
    options |= {"points": points, "initial": initial, "start": start, "simulator": simulator, "protocol": protocol}
    return Experiment(
        name="threebody",
        train=trajectory(train, observed),
        test=trajectory(test, positions["test"]),
        initial=tensor(state if known else guess_initial(train, observed)),
        initial_free=torch.full(state.shape, not known),
        initial_scale=tensor(scale),
        channels=CHANNELS,
        start={"mass": starting_masses(protocol, seed, start)},
        constants={"coupling": COUPLING, "velocity_scale": VELOCITY_SCALE},
        truth={"mass": masses, "initial": state, **({"drag": drag} if drag else {})},
        sigma=noise or None,
        source="simulated after Zhuang et al. (2020), section 4.4",
        metric="sum",
        options=options,
    )


ENTRY = DataSet(
    "threebody",
    "Three bodies under gravity (Zhuang et al., 2020), simulated.",
    OPTIONS,
    load,
    {"full": "gravity", "none": "blackbox-motion", "partial": "augmented"},
)
