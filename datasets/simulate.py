"""Simulated truth: SciPy's integrators on numpy right-hand sides, sharing no code with the models they judge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import DOP853, LSODA, OdeSolver, solve_ivp

from physid.arrays import Array
from physid.data.experiment import Trajectory
from physid.errors import InputError

RightHandSide = Callable[[float, Array], Array]

# name -> (SciPy's method, its relative and absolute tolerance)
SIMULATORS: dict[str, tuple[type[OdeSolver], float]] = {"dop853": (DOP853, 1e-12), "lsoda": (LSODA, 1e-7)}


def simulate(f: RightHandSide, initial: Array, times: Array, simulator: str = "dop853") -> Array:
    """The states [T, *state] at `times` [T] of dy/dt = f(t, y), y [*state], from y(0) = `initial`.

    Errors: InputError when the simulator cannot finish, as in a collision.
    """
    method, tolerance = SIMULATORS[simulator]
    shape = initial.shape

    def flat(t: float, y: Array) -> Array:
        return f(t, y.reshape(shape)).ravel()

    solution = solve_ivp(
        flat, (0.0, float(times[-1])), initial.ravel(), method=method, t_eval=times, rtol=tolerance, atol=tolerance
    )
    if not solution.success:
        raise InputError(f"the simulation stopped at t = {solution.t[-1] if len(solution.t) else 0.0:g}: shorten it.")
    return np.asarray(solution.y.T.reshape(-1, *shape), dtype=np.float64)


def grids(horizon: float, points: int) -> tuple[Array, Array]:
    """Times to fit, `points` equally spaced on [0, horizon], and to test: twice as many on [0, 2 horizon].

    The times of the test lie half a step off the ends, so that none of them is fitted if `points` is even.
    """
    train = np.linspace(0.0, horizon, points, dtype=np.float64)
    test = (np.arange(2 * points, dtype=np.float64) + 0.5) * (horizon / points)
    return train, test


def with_noise(observations: Array, sigma: float, seed: int) -> Array:
    """The observations with independent normal errors of standard deviation `sigma`."""
    return observations + sigma * np.random.default_rng(seed).standard_normal(observations.shape)


def tensor(values: Array) -> torch.Tensor:
    """The values as a float64 tensor of their own."""
    return torch.tensor(values, dtype=torch.float64)


def trajectory(times: Array, observations: Array) -> Trajectory:
    """A trajectory of arrays."""
    return Trajectory(tensor(times), tensor(observations))
