"""The three-body problem of the paper, fitted by a model under a protocol: the cells of table 5 and its figures.

Source: Zhuang et al. (2020), section 4.4, table 5, appendix D.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from physid.reproduce.exhibit import Cell, Work

if TYPE_CHECKING:
    from physid.api.fit import Fit
    from physid.api.networks import FreeRun
    from physid.api.train import Trained

SEEDS = (0, 1, 2)
GRADIENTS = ("adjoint", "naive", "aca")  # in the order of the paper's columns
PROTOCOLS = ("paper-text", "paper-code")
POINTS = 201  # of a path that is drawn
PARTS = ("train", "test", "forecast")


def by_fit(
    work: Work, model: str, seed: int, protocol: str = "default", gradient: str | None = None, system: int | None = None
) -> dict[str, Any]:
    """Fit a model of the catalogue to the orbits by a protocol and a gradient method; scores, masses, and the path.

    `system` is the seed of a random one in place of the paper's; `seed` that of the protocol's start.
    """
    import torch

    from physid.api.fit import fit
    from physid.datasets import load
    from physid.models import build

    experiment = load("threebody", protocol=protocol, seed=seed, random_masses=system)

    def begin(**how: Any) -> Fit:
        torch.manual_seed(seed)
        made = build(experiment, model=model)
        return fit(made, experiment, gradient=gradient, protocol=protocol, seed=seed, **how)

    return described(work.run(begin))


def by_training(work: Work, model: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train an LSTM by the paper's recipe for so many epochs; scores of its free runs, and the path."""
    from dataclasses import replace

    import torch

    from physid.api.networks import FreeRun
    from physid.api.train import train
    from physid.datasets import load
    from physid.models import NETWORKS, network

    entry = NETWORKS[model]

    def begin(**how: Any) -> Trained:
        if entry.collect is None:
            raise ValueError(f"{model} makes no collection of an experiment")
        collection = entry.collect(load("threebody", protocol="paper-text", seed=seed))
        recipe = replace(entry.choose("paper-text"), epochs=epochs, seed=seed)
        torch.manual_seed(seed)
        return train(network(model, collection), collection, recipe, **how)

    trained = work.run(begin)
    found = FreeRun.of_training(trained)
    if found is None:
        raise ValueError(f"{model} does not run on")
    return {**described(found), "weights": trained.size, "loss": trained.history[-1]["loss"]}


def described(found: Fit | FreeRun) -> dict[str, Any]:
    """Results of a run as data: scores by both readings of the metric, masses, cost, and the path at a few times."""
    import numpy as np

    data = found.experiment
    path = found.predict(np.linspace(0.0, 2.0, POINTS))
    scores = {part: None if found.scores[part] is None else found.scores[part]["mse"] for part in PARTS}  # type: ignore[index]
    return {
        **both_readings(scores, len(data.channels)),
        "status": found.status,
        "recovered": getattr(found, "recovered", None),
        "masses": {one.name: one.value for one in found.estimates if one.name.startswith("mass")},
        "evaluations": found.evaluations,
        "seconds": found.seconds,
        "engine": getattr(found, "engine", None),
        "times": path.times,
        "path": path.mean,
    }


def both_readings(sums: Mapping[str, float | None], channels: int) -> dict[str, Any]:
    """The mean squared errors, summed over the channels, by that reading and by that of their mean."""
    return {part: {"sum": value, "mean": None if value is None else value / channels} for part, value in sums.items()}


def truth(work: Work, system: int | None = None) -> dict[str, Any]:
    """The true path at the times of the others, and what the three trivial forecasters score.

    They are the mean of the training data; a perfect fit of [0, 1] that then holds its last value; and the same with
    the centre of mass drifting on.
    """
    import numpy as np

    from physid.datasets import load

    data = load("threebody", protocol="paper-code", random_masses=system)
    if data.test is None:
        raise ValueError("the three-body problem has a test")
    times, positions = data.test.times.numpy(), data.test.observations.numpy().reshape(len(data.test), -1)
    trained = data.train.observations.numpy().reshape(len(data.train), -1)
    late = times > float(data.train.times[-1])
    masses, state = (np.asarray(data.truth[name]) for name in ("mass", "initial"))
    drift = float(data.constants["velocity_scale"]) * masses @ state[1] / masses.sum()
    held = np.where(late[:, None], trained[-1], positions)
    elapsed = np.where(late, times - float(data.train.times[-1]), 0.0)
    forecasts = {
        "mean of the training data": np.broadcast_to(trained.mean(0), positions.shape),
        "holds the last value": held,
        "drifts with the centre of mass": held + elapsed[:, None] * np.tile(drift, 3),
    }
    rows = {}
    for name, forecast in forecasts.items():
        error = ((forecast - positions) ** 2).sum(1)
        sums = {"train": None, "test": float(error.mean()), "forecast": float(error[late].mean())}
        rows[name] = both_readings(sums, positions.shape[1])
    few = np.linspace(0, len(times) - 1, POINTS).astype(int)
    return {"trivial": rows, "times": times[few], "path": positions[few], "masses": masses}


def gradient_errors(work: Work, tolerance: float, points: int) -> dict[str, Any]:
    """Relative errors of dL/dm by every gradient method, on the way from the first seed's start to the true masses.

    L sums over the coordinates and averages over the training times; the reference is ACA at 1e-12.
    """
    import numpy as np
    import torch

    from physid.datasets import load
    from physid.models import build
    from physid.ode import ACA, Integrator

    data = load("threebody", protocol="paper-text", seed=0)
    start, true = (np.asarray(masses["mass"]) for masses in (data.start, data.truth))
    ways: dict[str, Any] = {"aca": "aca", "aca, step-aware": ACA(step_aware=True)}
    ways |= {"naive": "naive", "adjoint": "adjoint"}
    found: dict[str, list[float]] = {name: [] for name in ways}

    def slope(model: Any, integrator: Integrator) -> torch.Tensor:
        states = torch.as_tensor(integrator.solve(model, data.initial, data.train.times).y)
        loss = (states[:, 0] - data.train.observations.view(-1, 3, 3)).square().sum((1, 2)).mean()
        (by,) = torch.autograd.grad(loss, [model.raw.mass])
        return torch.as_tensor(by)

    for share in np.linspace(0.0, 0.9, points):
        model = build(data, model="gravity")
        model.mass = start + share * (true - start)
        reference = slope(model, Integrator("dopri8", 1e-12, 1e-12))
        for name, gradient in ways.items():
            by = slope(model, Integrator("dopri5", tolerance, tolerance, control="paper", gradient=gradient))
            found[name].append(float((by - reference).norm() / reference.norm()))
            work.tell({"point": float(share), "method": name})
    return {"tolerance": tolerance, "errors": found, "median": {name: float(np.median(e)) for name, e in found.items()}}


def cells(seeds: tuple[int, ...], gradients: tuple[str, ...], lstm_epochs: int) -> list[Cell]:
    """The cells of table 5: trivial forecasters, ODE, NODE, the recipes that are physid's default, LSTMs."""
    found = [Cell("truth", truth)]
    for tolerance in (1e-5, 1e-7):
        found.append(Cell(f"gradient-error-{tolerance:.0e}", gradient_errors, {"tolerance": tolerance, "points": 10}))
    for name, model in (("ode", "gravity"), ("node", "augmented")):
        for gradient in reversed(gradients):
            for protocol in PROTOCOLS:
                for seed in seeds:
                    settings = {"model": model, "seed": seed, "protocol": protocol, "gradient": gradient}
                    found.append(Cell(f"{name}-{gradient}-{protocol}-{seed}", by_fit, settings))
        drawn = seeds if name == "node" else seeds[:1]  # the masses start at 1, whatever the seed
        found += [Cell(f"{name}-default-{seed}", by_fit, {"model": model, "seed": seed}) for seed in drawn]
    for name in ("lstm", "lstm-aug"):
        for seed in seeds:
            found.append(Cell(f"{name}-{seed}", by_training, {"model": name, "seed": seed, "epochs": lstm_epochs}))
    return found
