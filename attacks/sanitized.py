"""What is run under the sanitizers, in a process of its own: `python -m attacks.sanitized`, told by lines on stdin."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from physid import datasets, models
from physid.data.inputs import Inputs
from physid.errors import InputError, PhysidError
from physid.ode import ACA, Integrator, solve
from physid.ode.methods.catalogue import METHODS
from physid.ode.sensitivities import sensitivities

Field = Callable[[Tensor, Tensor], Tensor]
LOOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5, "max_steps": 3000}
ROUGH = 1e-3  # of samples around a state, by its size


def catalogue() -> Iterator[tuple[str, str]]:
    """Every experiment that is at hand with every model of it."""
    for name in datasets.CATALOG:
        with contextlib.suppress(PhysidError):  # measured, and not on this machine
            experiment = datasets.load(name)
            for model in models.MODELS:
                with contextlib.suppress(InputError):  # of something else
                    models.build(experiment, model=model)
                    yield name, model


def of_catalogue(name: str, word: str) -> int:
    """A model of the catalogue by every method, and by one method in every way of solving; the solves that ran."""
    experiment = datasets.load(name)
    model = models.build(experiment, model=word)
    if model.input_names:
        values = torch.arange(8.0).view(-1, 1).expand(-1, len(model.input_names))
        through = float(experiment.train.times[7]) / 7 * torch.arange(8.0)
        model.drive(experiment.inputs or Inputs.through(through, values, model.input_names, "linear"))
    torch.manual_seed(0)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.01 * torch.randn_like(parameter))
    start = experiment.initial.double()
    start, times = torch.where(start.isfinite(), start, 0.5), experiment.train.times[:8].double()
    return by_methods(model, start, times) + in_every_way(model, start, times)


def by_methods(f: Field, y0: Tensor, times: Tensor) -> int:
    """Solve and pull back by every method, steps fixed and adapted."""
    ran = 0
    for name, tableau in METHODS.items():
        how = LOOSE if tableau.adaptive else {"control": "fixed", "first_step": float(times[-1] - times[0]) / 23}
        ran += backward(f, y0, times, solver=name, **how)
    return ran


def in_every_way(f: Field, y0: Tensor, times: Tensor) -> int:
    """Batches, checkpoints, step-aware gradients, probes, forward sensitivities, single precision, events."""
    many = y0 + ROUGH * (1 + y0.abs()) * torch.rand(5, *y0.shape, dtype=y0.dtype)
    params = [p for p in getattr(f, "parameters", list)() if p.requires_grad]
    ran = backward(f, many, times, batched=True, **LOOSE)
    ran += backward(
        f, many, times, batched=True, solver="rk4", control="fixed", first_step=float(times[-1] - times[0]) / 11
    )
    ran += backward(f, y0, times, gradient=ACA(checkpoints=2), **LOOSE)
    ran += backward(f, y0, times, gradient=ACA(step_aware=True), **LOOSE)
    ran += backward(f, y0, times, gradient="adjoint", **LOOSE)
    ran += backward(f, y0, times, probes=2, **LOOSE)
    single = copy.deepcopy(f).float() if isinstance(f, torch.nn.Module) else f
    ran += backward(single, y0.float(), times, **LOOSE)
    ran += backward(single, many.float(), times, batched=True, **LOOSE)
    ran += backward(f, y0, times.flip(0), solver="tsit5", **LOOSE)
    integrator = Integrator(engine="native", **LOOSE)
    with contextlib.suppress(PhysidError):
        sensitivities(f, y0, times, params=params, integrator=integrator)
        ran += 1
    with contextlib.suppress(PhysidError):
        level = float(y0.reshape(-1)[0]) + 1e-3
        solve(f, y0, times, event_fn=lambda t, y: y.reshape(-1)[0] - level, engine="native", **LOOSE)
        ran += 1
    return ran


def backward(f: Field, y0: Tensor, times: Tensor, **how: Any) -> int:
    """1 when a solve ran in C and was pulled back; 0 when it was refused in words."""
    start = y0.clone().requires_grad_()
    try:
        y = solve(f, start, times, engine="native", **how).y
    except PhysidError:
        return 0
    assert isinstance(y, Tensor)
    y.square().sum().backward()
    return 1


def of_program(size: int, source: str) -> int:
    """A random right-hand side, alone and in a batch."""
    space: dict[str, Any] = {"torch": torch, "N": size}
    torch.manual_seed(0)
    exec(source, space)
    y0, times = torch.rand(size, dtype=torch.float64), torch.linspace(0.0, 0.5, 5, dtype=torch.float64)
    return in_every_way(space["f"], y0, times)


def main() -> None:
    """Do the pieces of work that stand on stdin, a line of JSON each, and say of each how many solves ran in C."""
    torch.set_num_threads(2)
    work: dict[str, Callable[..., int]] = {"catalogue": of_catalogue, "program": of_program}
    for line in sys.stdin:
        kind, *words = json.loads(line)
        print("ran", work[kind](*words), flush=True)


if __name__ == "__main__":
    main()
