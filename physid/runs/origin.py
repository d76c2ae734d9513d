"""Origin: how a fit began, as files of a run: what was asked, the model's state and the experiments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from physid.data.experiment import Experiment
from physid.errors import InputError
from physid.formats import Folder, json_bytes, read_archive, sha256, sound
from physid.inference.fit_options import FitOptions
from physid.inference.recorder import Request
from physid.inference.search.monitor import Monitor
from physid.modelling.model import Model
from physid.ode import Integrator
from physid.runs.codec import decode, encode, integrator_data, integrator_of, unsaid
from physid.runs.experiments import DATA, experiment_files, experiments_of
from physid.runs.format import LAYOUT, checked
from physid.runs.models import identity, restored, state_of
from physid.runs.optimizers import check_trusted, file_sums, reference
from physid.runs.writer import REQUEST, checkpoint

START = "start.safetensors"
BEFORE = Integrator("dopri8", 1e-10, 1e-10, gradient="forward")  # of least squares, when runs did not say it


@dataclass(frozen=True)
class Origin:
    """Start of a fit as the files of a run: request.json, start.safetensors, data.json and data.npz."""

    files: Mapping[str, bytes]

    @staticmethod
    def of(asked: Request) -> Origin:
        """The origin of a fit that is about to begin."""
        model, ties = asked.model, {name: tie.text for name, tie in asked.model.ties.items()}
        files = {START: safetensors.torch.save(state_of(model)), **experiment_files(asked.experiments)}
        like = next(iter(model.parameters()), torch.empty(0, dtype=torch.float64))
        about = {
            "format": LAYOUT,
            "asked": options_data(asked.options, ties),
            "labels": dict(asked.labels),
            "identity": {
                **identity(model),
                "ties": ties,
                "dtype": str(like.dtype).removeprefix("torch."),
                **file_sums(asked.options.optimizer),
            },
            "free": list(model.free()),
            "sums": {name: sha256(data) for name, data in files.items()},
        }
        return Origin({REQUEST: json_bytes(about), **files})

    @staticmethod
    def read(run: Folder) -> Origin:
        """The origin in the files of a run."""
        return Origin({name: run.read(name) for name in (REQUEST, START, *DATA)})

    @property
    def request(self) -> str:
        """The sha256 of what was asked."""
        return sha256(self.files[REQUEST])

    @property
    def asked(self) -> dict[str, Any]:
        """The options of the fit, as data."""
        return dict(json.loads(self.files[REQUEST])["asked"])

    @property
    def options(self) -> FitOptions:
        """The options of the fit."""
        return options_of(self.asked)

    def experiments(self) -> list[Experiment]:
        """The experiments that were given."""
        about, arrays = (self.files[name] for name in DATA)
        return experiments_of(json.loads(about), read_archive(arrays))

    def checkpoint(self, monitor: Monitor) -> bytes:
        """State of a search for this request, as an archive of plain arrays."""
        return checkpoint(monitor, self.request)


def beginning(folder: Path, model: Model | None = None, trust: bool = False) -> tuple[Request, Origin]:
    """The request of the fit in `folder`, finished or not, with its model at the start, and its origin.

    Errors: InputError for what is no run, for damage, and for a model that is in no catalogue and no trusted file.
    """
    run, request = Folder.begun(folder)
    checked(request, folder)
    with sound(folder):
        check_trusted(request, trust)
        origin = Origin.read(run)
        model = restored(run, START, request["identity"], request["free"], model, trust)
        return Request(model, origin.experiments(), origin.options, dict(request["labels"])), origin


def options_data(options: FitOptions, ties: Mapping[str, str | None]) -> dict[str, Any]:
    """The options of a fit as data; `ties` are the texts of its ties, None for a function."""
    how, tie = options.integrator, options.tie and {name: ties.get(name) or "a function" for name in options.tie}
    found = {one.name: encode(getattr(options, one.name)) for one in fields(options)}
    if (name := reference(options.optimizer)) is not None:
        found["optimizer"] = name
    return found | {"integrator": None if how is None else integrator_data(how), "tie": encode(tie)}


def options_of(data: Mapping[str, Any]) -> FitOptions:
    """The options of `options_data`; one that an older run does not have is as by default."""
    how = data["integrator"]
    given = {name: decode(value) for name, value in data.items() if name != "integrator"}
    before = how is None and (given["optimizer"] or "lm") == "lm" and given["protocol"] in (None, "default")
    integrator = BEFORE if before else None if how is None else integrator_of(how)
    return FitOptions.of(FitOptions(integrator=integrator), given)


def check_integrator(integrator: Integrator) -> None:
    """Errors: InputError for an integrator with a function of the user's own in it, which no run directory can hold."""
    lost = [*unsaid(integrator_data(integrator))]
    if lost:
        raise InputError(
            f"the integrator's {', '.join(lost)} is code, which a run directory cannot keep: numbers and the parts of "
            "physid.ode are kept. Choose one of these, or fit without a run directory."
        )
