"""Many solves as one batch, each lane with unknowns, initial state and times of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from physid.arrays import Array
from physid.data.inputs import Inputs
from physid.inference.parameters import Vector
from physid.modelling.model import Model
from physid.modelling.modules import places
from physid.modelling.observation import observe
from physid.modelling.state_sizes import nested
from physid.ode import Integrator, Probes, Solution, sensitivities


@dataclass(frozen=True)
class Lanes:
    """States [T, L, *state] of L lanes and their derivatives [T, L, N, P + N] by raw parameters and initial state.

    `ok` [L] says which lanes reached their end.
    """

    states: Tensor
    slopes: Tensor
    ok: list[bool]
    solution: Solution


def solve_lanes(
    model: Model, raws: Sequence[nn.Parameter], thetas: Tensor, y0: Tensor, times: Tensor, integrator: Integrator
) -> Lanes:
    """Solve L lanes from `y0` [L, *state] at `times` [T, L], with raw parameters `thetas` [L, P].

    Lanes that share their parameters are one batch with these as parameters; else parameters travel with the state, as
    components that do not change, so that every lane has its own and the derivative by them is that by its start.
    """
    if len(thetas) == 1 or bool((thetas == thetas[0]).all()):
        fill(raws, thetas[0])
        batched = len(y0) > 1
        start, grid = (y0, times) if batched else (y0[0], times[:, 0])
        found = sensitivities(model, start, grid, params=raws, integrator=integrator, batched=batched, throw=False)
        lead, n = (len(times), len(y0)), y0[0].numel()
        parts = [part.reshape(*lead, n, -1) for part in (*found.params, found.y0)]
        return Lanes(_states(found.solution).reshape(*lead, *y0.shape[1:]), torch.cat(parts, -1), *_end(found.solution))
    return _own(model, raws, thetas, y0, times, integrator)


def _own(
    model: Model, raws: Sequence[nn.Parameter], thetas: Tensor, y0: Tensor, times: Tensor, integrator: Integrator
) -> Lanes:
    """The lanes with parameters of their own."""
    n = y0[0].numel()
    field, start, tight = carried(model, raws, thetas, y0, integrator)
    if isinstance(tight.probes, Probes) and tight.probes.initial is not None:
        sizes = (*tight.probes.initial, *(tight.probes.sizes or ()))  # parameters are states here
        tight = replace(tight, probes=replace(tight.probes, initial=sizes, sizes=None))
    found = sensitivities(field, start, times, params=(), integrator=tight, batched=True, throw=False)
    states = _states(found.solution)[..., :n].reshape(len(times), *y0.shape)
    by = found.y0[:, :, :n]
    return Lanes(states, torch.cat([by[..., n:], by[..., :n]], -1), *_end(found.solution))


def solve_alone(
    model: Model, raws: Sequence[nn.Parameter], thetas: Tensor, y0: Tensor, times: Tensor, integrator: Integrator
) -> tuple[Tensor, Solution]:
    """The states [T, L, *state] of L lanes at `times` [T] without derivatives, and the solution they come from.

    T is smaller where the solve ends early. Parameters `thetas` [L, P] travel with the states, as in `solve_lanes`.
    """
    field, start, tight = carried(model, raws, thetas, y0, replace(integrator, gradient="aca", probes=0))
    with torch.no_grad():
        solution = tight.solve(field, start, times, batched=True, throw=False)
    states = _states(solution)
    return states[..., : y0[0].numel()].reshape(len(states), *y0.shape), solution


def carried(
    model: Model, raws: Sequence[nn.Parameter], thetas: Tensor, y0: Tensor, integrator: Integrator
) -> tuple[Carried, Tensor, Integrator]:
    """The field of lanes whose parameters travel with the state, where it starts [L, N + P], and its integrator.

    Parameters have no error, and the rms of the error is to be over the state alone: tolerances shrink by their share.
    """
    lanes, n, count = len(y0), y0[0].numel(), thetas.shape[1]
    share = (n / (n + count)) ** 0.5
    rtol, atol = (_scaled(value, share, y0[0], count) for value in (integrator.rtol, integrator.absolute))
    start = torch.cat([y0.reshape(lanes, n), thetas.to(y0)], 1)
    return Carried(model, raws, y0.shape[1:]), start, replace(integrator, rtol=rtol, atol=atol)


class Carried:
    """dy/dt of states [L, N + P] whose last P components are the raw parameters of their lane."""

    def __init__(self, model: Model, raws: Sequence[nn.Parameter], shape: torch.Size) -> None:
        self.model, self.shape, self.n = model, shape, shape.numel()
        self.slots = [(held, raw.shape) for held, raw in zip(places(model, raws), raws, strict=True)]
        self.sizes = [raw.numel() for raw in raws]
        self.one = torch.vmap(self._one)
        self._apart = False  # lane by lane, for who looks at what a lane reads

    @property
    def switches(self) -> Any:
        """The times at which an input of the model jumps."""
        return getattr(self.model, "switches", None)

    @property
    def driver(self) -> Inputs | None:
        """The inputs that drive the model, which the native engine reads by itself."""
        return self.model.driver

    @contextmanager
    def reading(self, reader: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """In here a lane's inputs at t are `reader(t)` [*t.shape, inputs], the lanes one after the other."""
        before, self._apart = self._apart, True
        try:
            with self.model.reading(reader):
                yield
        finally:
            self._apart = before

    def reads(self, t: Tensor, y: Tensor) -> Tensor | None:
        """The times [L, R] at which the lanes read their inputs at the times t; None where they read at t alone."""
        plain = True

        def one(t: Tensor, y: Tensor, theta: Tensor) -> Tensor:
            found: list[Tensor] = []

            def reader(times: Tensor) -> Tensor:
                nonlocal plain
                plain = plain and times is t
                found.append(times.reshape(-1))
                values: Tensor = self.driver(times)  # type: ignore[misc]
                return values

            with self.model.reading(reader):
                self._one(t, y, theta)
            return torch.cat(found or [t[None]])

        table = torch.vmap(one)(t.expand(len(y)).contiguous(), y[:, : self.n], y[:, self.n :])
        return None if plain else table

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """The rates [L, N + P]."""
        state, theta, at = y[:, : self.n], y[:, self.n :], t.expand(len(y)).contiguous()
        if self._apart:
            rate = torch.stack([self._one(*lane) for lane in zip(at, state, theta, strict=True)])
        else:
            rate = self.one(at, state, theta)
        return torch.cat([rate.reshape(len(y), self.n), torch.zeros_like(theta)], 1)

    def _one(self, t: Tensor, y: Tensor, theta: Tensor) -> Tensor:
        """The rate of one lane, with its parameters in the model's place."""
        kept = [table[key] for held, _ in self.slots for table, key in held]
        try:
            for (held, shape), piece in zip(self.slots, theta.split(self.sizes), strict=True):
                for table, key in held:
                    table[key] = piece.view(shape)
            return self.model.field(t, y.view(self.shape)).reshape(-1)
        finally:
            for (table, key), one in zip((place for held, _ in self.slots for place in held), kept, strict=True):
                table[key] = one


def fill(raws: Sequence[nn.Parameter], theta: Tensor) -> None:
    """Give the raw parameters the values `theta` [P]."""
    with torch.no_grad():
        for raw, part in zip(raws, theta.split([raw.numel() for raw in raws]), strict=True):
            raw.copy_(part.view_as(raw))


def _states(solution: Solution) -> Tensor:
    if not isinstance(solution.y, Tensor):
        raise TypeError("a fit takes one state tensor")  # sensitivities refused it before
    return solution.y


def _end(solution: Solution) -> tuple[list[bool], Solution]:
    return ([one.ok for one in solution.statuses] or [solution.ok]), solution


def _scaled(tolerance: Any, factor: float, state: Tensor, count: int) -> Any:
    """The tolerance times a factor, and any for the parameters."""
    if isinstance(tolerance, float | int):
        return float(tolerance) * factor
    flat = torch.as_tensor(tolerance, dtype=torch.float64).expand(state.shape).reshape(-1)
    return nested(torch.cat([flat * factor, flat.new_ones(count)]))


def ensemble(vector: Vector, xs: Array, times: Tensor, integrator: Integrator) -> Array:
    """Observations [S, T, M] at `times` [T] for the unknowns `xs` [S, Q]; not-a-number where a solve does not reach."""
    y0 = torch.stack([vector.put(x) for x in xs])
    thetas = torch.stack([vector.theta(x) for x in xs])
    first = torch.tensor([float(vector.experiment.initial_time or 0.0)], dtype=torch.float64)
    states, _ = solve_alone(vector.model, vector.raws, thetas, y0, torch.cat([first, times]), integrator)
    found = np.full((len(xs), len(times), len(vector.experiment.channels)), np.nan)
    with torch.no_grad():
        for i, x in enumerate(xs):
            vector.put(x)  # what is observed may depend on the unknowns too
            lane = states[1:, i]
            found[i, : len(lane)] = observe(vector.model, lane).double().cpu().numpy()
    return found
