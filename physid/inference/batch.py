"""Batched solves: many points and experiments as one batch, each with its own unknowns, initial state and times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from physid.data.inputs import Inputs
from physid.modelling.model import Model
from physid.modelling.modules import places
from physid.modelling.state_sizes import nested
from physid.ode import Integrator, Probes, Solution, sensitivities
from physid.ode.caching import Cache


@dataclass(frozen=True)
class BatchSolution:
    """States [T, L, *state] of L samples and their derivatives [T, L, N, P + N] by raw parameters and initial state.

    `ok` [L] says which samples reached their end; a state that was not reached is not-a-number. `by` are the
    derivatives, None where they were not asked for.
    """

    states: Tensor
    by: Tensor | None
    ok: list[bool]
    solution: Solution

    @property
    def slopes(self) -> Tensor:
        """The derivatives, where they were asked for. Errors: TypeError where they were not."""
        if self.by is None:
            raise TypeError("the batch was solved without derivatives")
        return self.by


def solve_batch(
    model: Model,
    raws: Sequence[nn.Parameter],
    thetas: Tensor,
    y0: Tensor,
    times: Tensor,
    integrator: Integrator,
    slopes: bool = True,
) -> BatchSolution:
    """Solve L samples from `y0` [L, *state] at `times` [T, L], with raw parameters `thetas` [L, P].

    Samples that share their parameters are one batch with these as parameters; else parameters travel with the state,
    as components that do not change, so that every sample has its own and the derivative by them is that by its start.
    """
    field: Any = model
    start, grid, batched, own = y0, times, len(y0) > 1, len(thetas) > 1 and not bool((thetas == thetas[0]).all())
    if own:
        field, start, integrator = carried(model, raws, thetas, y0, integrator)
    else:
        fill(raws, thetas[0])
        start, grid = (y0, times) if batched else (y0[0], times[:, 0])
    if not slopes:
        with torch.no_grad():
            solution = integrator.solve(field, start, grid, batched=batched, throw=False)
        return _batch_solution(solution, None, len(times), y0)
    params = () if own else raws
    found = sensitivities(field, start, grid, params=params, integrator=integrator, batched=batched, throw=False)
    count, n = start.numel() // len(y0), y0[0].numel()
    parts = [part.reshape(len(times), len(y0), count, -1) for part in (*found.params, found.y0)]
    by = torch.cat(parts, -1)
    by = torch.cat([by[..., :n, n:], by[..., :n, :n]], -1) if own else by
    return _batch_solution(found.solution, by, len(times), y0)


def _batch_solution(solution: Solution, by: Tensor | None, count: int, y0: Tensor) -> BatchSolution:
    """The samples of a solution, whose states may have the parameters after them."""
    if not isinstance(solution.y, Tensor):
        raise TypeError("a fit takes one state tensor")  # sensitivities refused it before
    states = solution.y.reshape(count, len(y0), -1)[..., : y0[0].numel()].reshape(count, *y0.shape)
    return BatchSolution(states, by, [one.ok for one in solution.statuses] or [solution.ok], solution)


def carried(
    model: Model, raws: Sequence[nn.Parameter], thetas: Tensor, y0: Tensor, integrator: Integrator
) -> tuple[Carried, Tensor, Integrator]:
    """The field of samples whose parameters travel with the state, where it starts [L, N + P], and its integrator.

    Parameters have no error, and the rms of the error is to be over the state alone: tolerances shrink by their share.
    """
    samples, n, count = len(y0), y0[0].numel(), thetas.shape[1]
    share = (n / (n + count)) ** 0.5
    rtol, atol = (_scaled(value, share, y0[0], count) for value in (integrator.rtol, integrator.absolute))
    integrator = replace(integrator, rtol=rtol, atol=atol)
    if isinstance(integrator.probes, Probes) and integrator.probes.initial is not None:
        sizes = (*integrator.probes.initial, *(integrator.probes.sizes or ()))  # parameters are states here
        integrator = replace(integrator, probes=replace(integrator.probes, initial=sizes, sizes=None))
    start = torch.cat([y0.reshape(samples, n), thetas.to(y0)], 1)
    key = id(model), tuple(map(id, raws)), y0.shape[1:]
    return FIELDS.made(key, lambda: Carried(model, raws, y0.shape[1:])), start, integrator


class Carried:
    """dy/dt of states [L, N + P] whose last P components are the raw parameters of their sample."""

    def __init__(self, model: Model, raws: Sequence[nn.Parameter], shape: torch.Size) -> None:
        self.model, self.raws, self.shape, self.n = model, raws, shape, shape.numel()
        self.slots = [(held, raw.shape) for held, raw in zip(places(model, raws), raws, strict=True)]
        self.sizes = [raw.numel() for raw in raws]
        self.one = torch.vmap(self._one)
        self._apart = False  # sample by sample, for who looks at what each reads

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
        """In here a sample's inputs at t are `reader(t)` [*t.shape, inputs], the samples one after the other."""
        before, self._apart = self._apart, True
        try:
            with self.model.reading(reader):
                yield
        finally:
            self._apart = before

    def reads(self, t: Tensor, y: Tensor) -> Tensor | None:
        """The times [L, R] at which the samples read their inputs at the times t; None where they read at t alone."""
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
            rate = torch.stack([self._one(*sample) for sample in zip(at, state, theta, strict=True)])
        else:
            rate = self.one(at, state, theta)
        return torch.cat([rate.reshape(len(y), self.n), torch.zeros_like(theta)], 1)

    def _one(self, t: Tensor, y: Tensor, theta: Tensor) -> Tensor:
        """The rate of one sample, with its parameters in the model's place."""
        kept = [table[key] for held, _ in self.slots for table, key in held]
        try:
            for (held, shape), piece in zip(self.slots, theta.split(self.sizes), strict=True):
                for table, key in held:
                    table[key] = piece.view(shape)
            return self.model.field(t, y.view(self.shape)).reshape(-1)
        finally:
            for (table, key), one in zip((place for held, _ in self.slots for place in held), kept, strict=True):
                table[key] = one


# of models that were last solved so: an engine knows a field again that it has recorded
FIELDS: Cache[tuple[int, tuple[int, ...], torch.Size], Carried] = Cache(8)


def fill(raws: Sequence[nn.Parameter], theta: Tensor) -> None:
    """Give the raw parameters the values `theta` [P]."""
    with torch.no_grad():
        for raw, part in zip(raws, theta.split([raw.numel() for raw in raws]), strict=True):
            raw.copy_(part.view_as(raw))


def _scaled(tolerance: Any, factor: float, state: Tensor, count: int) -> Any:
    """The tolerance times a factor, and any for the parameters."""
    if isinstance(tolerance, float | int):
        return float(tolerance) * factor
    flat = torch.as_tensor(tolerance, dtype=torch.float64).expand(state.shape).reshape(-1)
    return nested(torch.cat([flat * factor, flat.new_ones(count)]))
