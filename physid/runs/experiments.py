"""Experiments as the files data.json and data.npz of a run, and back with every field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.formats import archive_bytes, json_bytes
from physid.runs.codec import decode, encode

DATA = ("data.json", "data.npz")
# the fields of an experiment that are arrays or have parts of their own; all others are kept as they are
ARRAYS = ("initial", "initial_free", "initial_scale")
APART = (*ARRAYS, "train", "test", "inputs", "validation")
INPUTS = ("breaks", "coefficients", "switches")


def experiment_files(experiments: Sequence[Experiment]) -> dict[str, bytes]:
    """The experiments as files, so that a run can be read where its data are not."""
    about, arrays = _pack(experiments[0])
    for i, one in enumerate(experiments[1:], 1):
        more, parts = _pack(one)
        about.setdefault("others", []).append(more)
        arrays |= {f"other{i}_{name}": array for name, array in parts.items()}
    return dict(zip(DATA, (json_bytes(about), archive_bytes(**arrays)), strict=True))


def experiments_of(about: dict[str, Any], arrays: dict[str, Any]) -> list[Experiment]:
    """The experiments in the contents of those files."""
    others = enumerate(about.get("others", ()), 1)
    return [_unpack(about, arrays, ""), *(_unpack(one, arrays, f"other{i}_") for i, one in others)]


def _pack(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Array]]:
    """Data of an experiment, and its arrays; those of its validation under names of their own."""
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
