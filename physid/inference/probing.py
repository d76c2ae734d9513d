"""Probe scales: the size of each unknown and initial value in the error norm, from how far it may move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.errors import PhysidError
from physid.inference.parameters import ParameterVector
from physid.modelling.model import Model
from physid.modelling.prior import Normal, Ridge
from physid.ode import Integrator, Probes
from physid.ode.dispatch import choose, memory
from physid.ode.probes import read

ABSURD = 1e100  # a size of a state that means none
POINTS = 8  # at which the rates of a model are asked how far an unknown moves them


def worth_probing(model: Model, experiment: Experiment, changes: Mapping[str, Any]) -> bool:
    """Whether a fit has its columns in the error norm by default.

    Not with weights of a network, which are many and of which none means anything; nor by torch, where the columns
    take four times as long: there the derivatives are only judged at the end (`slope_error`).
    """
    if any(not model.unknowns[name].listed for name in model.free()):
        return False
    vector = _vector(model, experiment)
    if vector is None:
        return True
    before: Any = model.driver
    integrator = replace(Integrator(gradient="forward"), **{k: v for k, v in changes.items() if k != "probes"})
    try:
        y0, times = vector.put(vector.get()), [float(experiment.initial_time or 0.0), float(experiment.train.times[-1])]
        recall = memory(integrator.engine)
        problem = integrator.pose(model, y0, times, vector.raws, False, recall)
        return choose(problem, integrator.engine, forward=True).engine.name == "native"
    except Exception:  # a fault of a model is reported by the fit itself
        return True
    finally:
        if before is not None or not model.input_names:
            model.drive(before)


def _vector(model: Model, experiment: Experiment) -> ParameterVector | None:
    """The unknowns of a fit, None where there are none: the fit itself refuses that."""
    try:
        return ParameterVector(model, experiment)
    except PhysidError:
        return None


def held(
    integrator: Integrator, vectors: Sequence[ParameterVector], initial: Sequence[Array] | None = None
) -> Integrator:
    """The integrator with the sizes of the columns of experiments that are solved together; itself without probes.

    `initial` [N] of each experiment: the sizes of all components of the start; without it those of the free ones.
    """
    probes = read(integrator.probes)
    if probes is None or not vectors:
        return integrator
    starts = [_starts(one) for one in vectors] if initial is None else initial
    least = _least(integrator, vectors[0].experiment)
    sizes = np.max([sizes_of(one, least) for one in vectors], axis=0)
    found = Probes(probes.count, tuple(sizes.tolist()), tuple(np.max(starts, axis=0).tolist()), probes.seed)
    return replace(integrator, probes=found)


def _least(integrator: Integrator, experiment: Experiment) -> Array:
    """The sizes [N] of states below which the tolerance is absolute."""
    rtol, atol = (torch.as_tensor(x, dtype=torch.float64) for x in (integrator.rtol, integrator.absolute))
    shape = experiment.initial.shape
    least = torch.where(rtol > 0, atol / rtol, 0.0).expand(shape).reshape(-1).numpy()
    return np.where(np.isfinite(least) & (least < ABSURD), least, 0.0)


def sizes_of(vector: ParameterVector, least: Array) -> Array:
    """Typical changes of the raw parameters [P]; below `least` [N] states have no relative tolerance.

    1 where a domain has a bound, since raw is a logarithm or a logistic there; on the whole line the width of the
    prior, else the guess; where that is zero, as far as it takes to move the states by their size within the record.
    """
    kept: dict[bytes, Array] = vector.__dict__.setdefault("_probed", {})
    found = kept.get(least.tobytes())
    if found is None:
        found = kept[least.tobytes()] = _sizes(vector, least)
    return found


def _sizes(vector: ParameterVector, least: Array) -> Array:
    sizes = np.ones(vector.parameters)
    begin, unknown = 0, []
    for name, raw in zip(vector.names, vector.raws, strict=True):
        about, count = vector.model.unknowns[name], raw.numel()
        part = slice(begin, begin + count)
        begin += count
        if not about.domain.contains(torch.tensor([-1e300, 1e300], dtype=torch.float64)):
            continue
        prior = about.prior
        if isinstance(prior, Normal | Ridge):
            sizes[part] = prior.sd
            continue
        guess = about.guess.abs().reshape(-1).numpy()
        rms = float(np.sqrt((guess**2).mean())) if count else 0.0
        guess = guess if len(guess) == count else np.full(count, rms)  # a model may be made with more elements
        sizes[part] = np.where(guess > 0, guess, rms)
        unknown += [begin - count + i for i in np.flatnonzero(sizes[part] == 0)]
    if unknown:
        sizes[unknown] = _reach(vector, least)[unknown]
    return sizes


def _starts(vector: ParameterVector) -> Array:
    """The sizes [N] of the free components of the initial state, 0 for the others."""
    experiment = vector.experiment
    free = experiment.initial_free.reshape(-1).numpy()
    return np.where(free, experiment.initial_scale.reshape(-1).numpy(), 0.0)


def _reach(vector: ParameterVector, least: Array) -> Array:
    """The change [P] of every raw parameter that moves a state by its size within the record; 1 where none does.

    The size is that of its start, or `least` [N] where that is more.

    By the largest of df/dp at some times of the record, at the initial state and at states moved by their size.
    """
    experiment: Experiment = vector.experiment
    model, scale = vector.model, torch.maximum(experiment.initial_scale.reshape(-1), torch.from_numpy(least))
    scale = scale.view(experiment.initial.shape)
    model.drive(experiment.inputs)
    first, last = float(experiment.initial_time or 0.0), float(experiment.train.times[-1])
    random = torch.Generator().manual_seed(0)
    rate = torch.zeros(vector.parameters, dtype=torch.float64)
    for share in np.linspace(0.0, 1.0, POINTS):
        move = 2 * torch.rand(scale.shape, generator=random, dtype=torch.float64) - 1
        y = (experiment.initial + (0.0 if share == 0 else 1.0) * move * scale).to(vector.like)
        t = torch.tensor(first + share * (last - first)).to(y)
        with torch.enable_grad():
            k = model.field(t, y).reshape(-1)
        for n in range(len(k) if k.requires_grad else 0):
            found = torch.autograd.grad(k[n], vector.raws, allow_unused=True, retain_graph=True)
            row = torch.cat([_flat(g, raw) for g, raw in zip(found, vector.raws, strict=True)])
            rate = torch.maximum(rate, torch.nan_to_num(row.abs()) / scale.reshape(-1)[n])
    span = abs(last - first) or 1.0
    return np.where(rate > 0, 1.0 / (rate.clamp(min=1e-300) * span), 1.0)


def _flat(gradient: Tensor | None, raw: Tensor) -> Tensor:
    return (torch.zeros_like(raw) if gradient is None else gradient).detach().reshape(-1).double().cpu()
