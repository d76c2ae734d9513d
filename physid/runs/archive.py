"""Parts of a run as files and back: the experiment, the statistics, the estimates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.formats import Folder, archive_bytes, json_bytes, of_kind, table_bytes
from physid.inference.marginal import part
from physid.inference.problem import predict
from physid.inference.result import FitResult
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.statistics import Statistics
from physid.ode import Integrator
from physid.runs.codec import decode, encode, integrator_of

# the fields of an experiment that are arrays or have parts of their own; all others are kept as they are
ARRAYS = ("initial", "initial_free", "initial_scale")
APART = (*ARRAYS, "train", "test", "inputs", "validation")
INPUTS = ("breaks", "coefficients", "switches")
MATRICES = ("covariance", "robust", "identifiable")


def experiment_files(experiments: Sequence[Experiment]) -> dict[str, bytes]:
    """data.json and data.npz: the experiments, so that a run can be read where its data are not."""
    about, arrays = _pack(experiments[0])
    for i, one in enumerate(experiments[1:], 1):
        more, parts = _pack(one)
        about.setdefault("others", []).append(more)
        arrays |= {f"other{i}_{name}": array for name, array in parts.items()}
    return {"data.json": json_bytes(about), "data.npz": archive_bytes(**arrays)}


def read_experiments(run: Folder) -> list[Experiment]:
    """The experiments of a run."""
    return experiments_of(run.json("data.json"), run.archive("data.npz"))


def experiments_of(about: dict[str, Any], arrays: dict[str, Any]) -> list[Experiment]:
    """The experiments in the contents of data.json and data.npz."""
    others = enumerate(about.get("others", ()), 1)
    return [_unpack(about, arrays, ""), *(_unpack(one, arrays, f"other{i}_") for i, one in others)]


def _pack(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Array]]:
    """What an experiment says, and its arrays; those of its validation under names of their own."""
    names = [field.name for field in fields(Experiment) if field.name not in APART]
    about: dict[str, Any] = {name: encode(getattr(experiment, name)) for name in names}
    arrays = {name: getattr(experiment, name).numpy() for name in ARRAYS}
    for name in ("train", "test"):
        part: Trajectory | None = getattr(experiment, name)
        if part is not None:
            arrays |= {f"{name}_{key}": getattr(part, key).numpy() for key in ("times", "observations", "mask")}
    if experiment.inputs is not None:
        about["inputs"] = {"names": experiment.inputs.names, "kinds": experiment.inputs.kinds}
        arrays |= {f"inputs_{key}": getattr(experiment.inputs, key).numpy() for key in INPUTS}
    if experiment.validation is not None:
        about["validation"], more = _pack(experiment.validation)
        arrays |= {f"validation_{name}": array for name, array in more.items()}
    return about, arrays


def _unpack(about: dict[str, Any], arrays: dict[str, Any], prefix: str) -> Experiment:
    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[f"{prefix}{name}"])

    names = [field.name for field in fields(Experiment) if field.name not in APART and field.name in about]
    found: dict[str, Any] = {name: decode(about[name]) for name in names}
    found["channels"] = tuple(found["channels"])
    for name in ("train", "test"):
        if f"{prefix}{name}_times" in arrays:
            if arrays[f"{prefix}{name}_mask"].dtype != np.bool_:
                raise TypeError(f"{name}_mask holds {arrays[f'{prefix}{name}_mask'].dtype}, not truth values")
            found[name] = Trajectory(*(tensor(f"{name}_{key}") for key in ("times", "observations", "mask")))
    found |= {name: tensor(name) for name in ARRAYS}
    if about.get("inputs"):
        called, kinds = (tuple(about["inputs"][key]) for key in ("names", "kinds"))
        found["inputs"] = Inputs(called, kinds, *(tensor(f"inputs_{key}") for key in INPUTS))
    if about.get("validation"):
        found["validation"] = _unpack(about["validation"], arrays, f"{prefix}validation_")
    return Experiment(**found)


def statistics_files(fit: FitResult) -> dict[str, bytes]:
    """covariance.npz, statistics.json and residuals.csv."""
    rate, seen = probe(fit)
    arrays = {"x": fit.x, "rate": rate, "seen": seen}
    arrays |= {"members": np.stack(fit.members)} if fit.members else {}
    about: dict[str, Any] = {"there": fit.statistics is not None}
    if fit.statistics is not None:
        arrays |= {name: getattr(fit.statistics, name) for name in MATRICES}
        about |= {key: value for key, value in asdict(fit.statistics).items() if key not in MATRICES}
    found = {"covariance.npz": archive_bytes(**arrays), "statistics.json": json_bytes(about)}
    if fit.status != "diverged":
        found["residuals.csv"] = joined(fit, ["time", *fit.experiment.channels], _residuals)
    return found


def joined(fit: FitResult, columns: Sequence[str], rows: Callable[[FitResult], Array]) -> bytes:
    """A table of every experiment as CSV; that of several says in its first column which one a row is of."""
    if len(fit.experiments) == 1:
        return table_bytes(columns, rows(fit).tolist())
    tables = [(one.name, rows(part(fit, one.name)).tolist()) for one in fit.experiments]
    return table_bytes(["experiment", *columns], [[name, *row] for name, table in tables for row in table])


def _residuals(fit: FitResult) -> Array:
    """Times of training, and what is predicted less what was measured there [T, 1 + M]."""
    train = fit.experiment.train
    mean = predict(fit.vector, fit.x, train.times, fit.integrator).mean
    mask = train.mask.reshape(len(train), -1).numpy()
    residual = np.where(mask, mean - np.nan_to_num(train.observations.reshape(len(train), -1).numpy()), np.nan)
    return np.column_stack([train.times.numpy(), residual])


def read_statistics(run: Folder) -> tuple[Statistics | None, Array]:
    """The statistics of a run, and its vector x."""
    about: dict[str, Any] = run.json("statistics.json")
    arrays = run.archive("covariance.npz")
    if not about.pop("there"):
        return None, arrays["x"]
    about |= {name: arrays[name] for name in MATRICES}
    size = arrays["x"].shape[0]
    shapes = [arrays[name].shape for name in MATRICES]
    if arrays["x"].ndim != 1 or shapes != [(size, size), (size, size), (size,)]:
        raise TypeError(f"the covariances have the shapes {shapes} for {size} numbers")
    return of_kind(Statistics, about), arrays["x"]


def read_estimates(run: Folder) -> list[Estimate]:
    """The estimates of a run."""
    return _estimates(run.json("unknowns.json"))


def read_derived(run: Folder) -> tuple[list[Estimate], dict[str, dict[str, float]], list[Estimate]]:
    """What was read out of a run's unknowns, the shares of the model's parts, the identifiable combinations."""
    about = run.json("derived.json") if "derived.json" in run.sums else {"derived": [], "shares": {}}
    return _estimates(about["derived"]), about["shares"], _estimates(about.get("combinations", []))


def _estimates(rows: list[dict[str, Any]]) -> list[Estimate]:
    return [of_kind(Estimate, row) for row in rows]


def read_integrator(about: dict[str, Any]) -> Integrator:
    """The integrator of a run, from its settings.json."""
    if "integrator" in about:
        return integrator_of(about["integrator"])
    settings = about["settings"]  # an older run, which kept a part of it
    names = ("solver", "rtol", "atol", "control", "gradient", "exact", "max_steps")
    return integrator_of({name: settings[name] for name in names})


def probe(fit: FitResult) -> tuple[Array, Array]:
    """dy/dt and the observations at the initial state: the fingerprint by which a reader knows the model again."""
    y0 = fit.vector.put(fit.x)
    with torch.no_grad():
        rate = fit.model.field(torch.tensor(float(fit.experiment.initial_time or 0.0)).to(y0), y0)
        return rate.double().cpu().numpy(), fit.model.observe(y0[None])[0].double().cpu().numpy()


def _same(before: Array, now: Array) -> bool:
    """Whether these are the same numbers to round-off, by the size of each."""
    size = np.nanmax(np.abs(before), initial=0.0)
    return np.allclose(before, now, rtol=1e-9, atol=1e-15 * size, equal_nan=True)


def compare(saved: tuple[Array, Array], fit: FitResult) -> None:
    """Errors: InputError when the model is not the one that was fitted, by the `probe` that was saved with it."""
    for before, now in zip(saved, probe(fit), strict=True):
        if before.shape != now.shape or not _same(before, now):
            raise InputError(
                f"{type(fit.model).__name__} is not the model that was fitted: at the initial state it gives other "
                "numbers. Give the model as it was made, Fit.load(folder, model=...)."
            )
