"""State sizes: the magnitude of each state, by which a fit sets its absolute tolerances before the first step.

An absolute tolerance of 1e-10 is nothing for a pressure in pascal and everything for a concentration in mol/l. In a fit
the error that a step may make is atol_i + rtol |y_i| with atol_i = rtol times the size of state i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.modelling.model import Model
from physid.modelling.observation import observe
from physid.ode import Integrator

LINEAR = 1e-9  # by which the slope of an observation may differ between two states and still count as constant
ROUGH = 1e-4  # the relative tolerance of a pilot solve
PILOT_ROWS, PILOT_STEPS = 200, 5000  # how much of a record a pilot solve goes through
WILD = 10.0  # times the largest that was measured: beyond it a pilot solve says nothing of sizes
UNSEEN = 1e300  # an absolute tolerance that leaves a state out of the error
STEPS = 100_000  # steps of a fit's solve, and of each interval of the record on top
STEPS_PER_INTERVAL = 100


def fitted(
    integrator: Integrator, model: Model, experiments: Sequence[Experiment], logarithms: bool = False
) -> Integrator:
    """The integrator of a fit: absolute tolerances by the sizes of the states, steps by the length of the record.

    What was asked for stays: an `atol`, a number of `max_steps`. Of several experiments the smallest size of a state
    counts. With `logarithms`, of data over decades, the smallest value of a state does.
    """
    if integrator.max_steps is None:
        longest = max(map(intervals, experiments))
        integrator = replace(integrator, max_steps=STEPS + STEPS_PER_INTERVAL * longest)
    if integrator.atol is not None:
        return integrator
    sizes = np.min([sizes_of(model, one, logarithms) for one in experiments], axis=0)
    like = next(iter(model.parameters()), experiments[0].initial)
    smallest = float(torch.finfo(like.dtype).tiny)
    share = np.broadcast_to(
        np.asarray(torch.as_tensor(integrator.rtol), dtype=np.float64), experiments[0].initial.shape
    )
    atol = np.maximum(share.reshape(-1) * sizes, smallest).reshape(experiments[0].initial.shape)
    return replace(integrator, atol=nested(atol))


def nested(tolerance: Array | Tensor) -> Any:
    """A tolerance as a number, or numbers nested in tuples as the state is, by which a plan can be found again."""

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else float(value)

    return tuples(tolerance.tolist())


def intervals(experiment: Experiment) -> int:
    """Number of intervals of a record in a solve: between observations and between jumps of inputs."""
    parts = [one for one in (experiment.train, experiment.test) if one is not None]
    jumps = 0 if experiment.inputs is None else len(experiment.inputs.switches)
    return sum(map(len, parts)) + jumps


def sizes_of(model: Model, experiment: Experiment, logarithms: bool = False) -> Array:
    """The size of every state [N]: of what was measured of it; else of its initial value and scale; else of a pilot.

    A state that starts at zero, that no channel shows and for which no scale was given has the size that it reaches in
    a rough solve at the starting values, as far as that stays near the data.
    """
    before: Any = model.driver
    model.drive(experiment.inputs)
    try:
        seen = seen_sizes(model, experiment.train, experiment.initial, logarithms)
        scale, start = (x.reshape(-1).numpy() for x in (experiment.initial_scale, experiment.initial.abs()))
        told = np.where(experiment.scale_given.reshape(-1).numpy(), np.maximum(scale, start), np.nan)
        told = np.where((start > 0) & np.isnan(told), start, told)
        size = np.where(np.isfinite(seen), seen, told)
        if np.isnan(size).any():
            size = np.where(np.isnan(size), pilot(model, experiment, size), size)
    finally:
        if before is not None or not model.input_names:
            model.drive(before)
    return np.where(np.isfinite(size) & (size > 0), size, scale)


def seen_sizes(model: Model, trajectory: Trajectory, near: Tensor, logarithms: bool = False) -> Array:
    """The sizes [N] of states that a channel shows as a y_i + b, by what was measured; not-a-number for others.

    `near` [*state] is a state at which the model can be observed. The size is the root mean square, or with
    `logarithms` the smallest positive value.
    """
    like = next(iter(model.parameters()), near)
    first = near.reshape(1, -1).to(like)
    moved = first + torch.where(first != 0, first.abs(), first.abs().amax().clamp(min=1e-3))
    states = torch.cat([first, moved]).view(2, *near.shape)
    values, slopes = _observed(model, states)
    mask = trajectory.mask.reshape(len(trajectory), -1).numpy()
    measured = trajectory.observations.reshape(len(trajectory), -1).numpy()
    found = np.full(first.numel(), np.nan)
    for channel, (one, other) in enumerate(zip(*slopes, strict=True)):
        places = np.nonzero(one)[0]
        if len(places) != 1 or not np.allclose(one, other, rtol=LINEAR, atol=0.0) or not mask[:, channel].any():
            continue
        (i,) = places
        offset = values[0, channel] - one[i] * float(first[0, i])
        if abs(offset) <= LINEAR * max(abs(values[0, channel]), abs(one[i] * float(first[0, i]))):
            offset = 0.0
        state = np.abs((measured[mask[:, channel], channel] - offset) / one[i])
        if (state > 0).any():
            size = float(state[state > 0].min() if logarithms else np.sqrt((state**2).mean()))
            found[i] = size if math.isnan(found[i]) else min(found[i], size)
    return found


def _observed(model: Model, states: Tensor) -> tuple[Array, Array]:
    """Observations [S, M] of states [S, *state] and their derivatives [S, M, N]."""
    with torch.enable_grad():
        leaf = states.detach().requires_grad_()
        seen = observe(model, leaf)
        rows = []
        for column in seen.sum(0):
            free = column.requires_grad
            rows.append(torch.autograd.grad(column, leaf, retain_graph=True, allow_unused=True)[0] if free else None)
    full = [torch.zeros_like(states) if row is None else row for row in rows]
    by = torch.stack([row.reshape(len(states), -1) for row in full], 1)
    return seen.detach().double().cpu().numpy(), by.double().cpu().numpy()


def pilot(model: Model, experiment: Experiment, sizes: Array) -> Array:
    """The largest values [N] of the states in a rough solve, near the data; not-a-number where it gives none.

    `sizes` [N] are known but for some that are not-a-number: these are first taken from the rates at the start, then
    from the solve.
    """
    like = next(iter(model.parameters()), experiment.initial)
    y0 = experiment.initial.to(like)
    rows = torch.linspace(0, len(experiment.train) - 1, min(PILOT_ROWS, len(experiment.train))).round().long()
    if intervals(experiment) > PILOT_ROWS:
        rows = torch.arange(min(PILOT_ROWS, len(experiment.train)))
    first = torch.tensor([float(experiment.initial_time)], dtype=torch.float64)
    times = torch.cat([first, experiment.train.times[rows]])
    guess = sizes.copy()
    unknown = np.isnan(sizes)
    with torch.no_grad():
        rate = model.field(times[0].to(like), y0).reshape(-1).double().cpu().numpy()
    guess[unknown] = np.abs(rate[unknown]) * float(times[-1] - times[0])
    found = np.full(len(sizes), np.nan)
    for _ in range(2):
        guess = np.where(np.isfinite(guess) & (guess > 0), guess, UNSEEN / ROUGH)
        atol = nested((ROUGH * guess).reshape(y0.shape))
        rough = Integrator("dopri5", ROUGH, atol, engine="eager", max_steps=PILOT_STEPS)
        with torch.no_grad():
            states = rough.solve(model, y0, times, throw=False).y
            if not isinstance(states, Tensor):
                return found
            reached = near_data(model, states, experiment)
        largest = reached.reshape(len(reached), -1).abs().amax(0).double().cpu().numpy()
        found = np.where(largest > 0, largest, np.nan)
        guess = np.where(unknown, found, sizes)
    return found


def near_data(model: Model, states: Tensor, experiment: Experiment) -> Tensor:
    """Those of the states [T, *state] before any is not finite, or observed far beyond all that was measured."""
    seen = observe(model, states).double().cpu()
    train = experiment.train
    most = torch.where(train.mask, train.observations, 0.0).reshape(len(train), -1).abs().amax(0)
    wild = (seen.abs() > WILD * most) & (most > 0)
    bad = wild.any(1) | ~torch.isfinite(states).reshape(len(states), -1).all(1).cpu()
    bad[0] = False
    count = int(torch.nonzero(bad)[0, 0]) if bool(bad.any()) else len(states)
    return states[:count]
