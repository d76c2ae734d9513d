"""Simulation of a fitted model at its identified unknowns, with inputs, initial states or unknowns changed by name."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Trajectory
from physid.data.inputs import Inputs
from physid.errors import Diverged, InputError, unknown_name
from physid.inference.marginal import part
from physid.inference.parameters import labels
from physid.inference.result import FitResult
from physid.modelling.model import Model
from physid.modelling.observation import observe
from physid.predict.forecast import driven, times_of


def simulate_fit(fit: FitResult, times: Array, changes: Mapping[str, float | Inputs] | None = None) -> Trajectory:
    """The observations [T, *observation] of a fitted model at `times` [T], without noise.

    It is solved from the identified initial state with the inputs that were measured; `changes` are other values by
    name: of an input, a number that it keeps or Inputs of its own, of an element of the initial state ("x" or
    "initial[0]"), or of an unknown ("k" or "mass[0]"). The fit is left as it was.

    Errors: InputError for a name that is none of these, values outside a domain, times that do not increase from the
    initial time, and fits of several seeds; Diverged where the solve does not reach the last time.
    """
    if fit.members:
        raise InputError(
            f"a fit of {len(fit.members)} seeds is no single model. Use its forecast, which is their mean, or one seed."
        )
    changes, times = dict(changes or {}), times_of(fit.experiment, times)
    begin = float(fit.experiment.initial_time)
    given = fit.experiment.inputs
    names = () if given is None else given.names
    for name in [name for name in changes if name in names]:
        given = _with(given, name, changes.pop(name), begin)  # type: ignore[arg-type]  # it has inputs
    if given is None:
        fit = part(fit, fit.experiment.name) if len(fit.experiments) > 1 else fit
        fit = replace(fit, model=deepcopy(fit.model))
    else:
        given.need(begin, float(times[-1]))
        fit = driven(fit, given)
    y0 = fit.vector.put(fit.x).clone()
    for name, value in changes.items():
        if isinstance(value, Inputs):
            raise unknown_name(f"input of {type(fit.model).__name__}", name, names)
        _set(fit.model, y0, name, value, names)
    grid = torch.cat([torch.tensor([begin], dtype=torch.float64), torch.from_numpy(times)])
    with torch.no_grad():
        found = replace(fit.integrator, gradient="aca", probes=0).solve(fit.model, y0, grid, throw=False)
        if not found.ok or not isinstance(found.y, Tensor):
            raise Diverged(f"the simulation stopped: {found.message}")
        seen = observe(fit.model, found.y[1:]).double().cpu()
    return Trajectory(torch.from_numpy(times), seen.reshape(len(times), *fit.experiment.train.observations.shape[1:]))


def _with(inputs: Inputs, name: str, value: float | Inputs, begin: float) -> Inputs:
    """The inputs with another in the place of one of them."""
    if not isinstance(value, Inputs):
        value = Inputs.through([min(begin, float(inputs.breaks[0]))], [[value]], (name,))
    others = [inputs.select([one]) for one in inputs.names if one != name]
    return Inputs.join([*others, value]) if others else value


def _set(model: Model, y0: Tensor, name: str, value: float, inputs: tuple[str, ...]) -> None:
    """Give an element of the initial state, or of an unknown of the model, another value."""
    elements = labels("initial", y0.shape)
    states = {label: i for i, label in enumerate(elements)}
    if len(model.state_names) == len(elements):
        states |= {state: i for i, state in enumerate(model.state_names)}
    if name in states:
        y0.view(-1)[states[name]] = value
        return
    values = model.values()
    places = {label: (key, i) for key, one in values.items() for i, label in enumerate(labels(key, one.shape))}
    if name not in places:
        what = f"input, state or unknown of {type(model).__name__}"
        raise unknown_name(what, name, [*inputs, *(model.state_names or elements), *places])
    key, place = places[name]
    values[key].view(-1)[place] = value
    setattr(model, key, values[key])


def noisy(trajectory: Trajectory, sigma: float, seed: int) -> Trajectory:
    """A trajectory with normal noise of the standard deviation `sigma` added. Errors: InputError for a negative one."""
    if not 0.0 <= sigma < np.inf:
        raise InputError(f"the noise to add is {sigma:g}: expected a standard deviation of 0 or more.")
    drawn = np.random.default_rng(seed).normal(0.0, sigma, trajectory.observations.shape)
    return replace(trajectory, observations=trajectory.observations + torch.from_numpy(drawn))
