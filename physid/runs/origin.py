"""Origin: how a fit began, as files of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import safetensors.torch

from physid.data.experiment import Experiment
from physid.formats import json_bytes, read_archive, sha256
from physid.inference.fit_options import FitOptions
from physid.inference.search.monitor import Monitor
from physid.modelling.model import Model
from physid.ode import Integrator
from physid.runs.archive import experiment_files, experiments_of
from physid.runs.codec import decode, encode, integrator_data, integrator_of
from physid.runs.writer import REQUEST, START, checkpoint

BEFORE = Integrator("dopri8", 1e-10, 1e-10, gradient="forward")  # of least squares, when runs did not say it


@dataclass(frozen=True)
class Origin:
    """How a fit began, as the files of a run: request.json, start.safetensors, data.json and data.npz."""

    files: Mapping[str, bytes]

    @staticmethod
    def of(model: Model, experiments: Sequence[Experiment], about: Mapping[str, Any]) -> Origin:
        """The origin of a fit of `model` as it is now; `about` holds what was asked, and what the model is."""
        state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
        files = {START: safetensors.torch.save(state), **experiment_files(experiments)}
        sums = {name: sha256(data) for name, data in files.items()}
        return Origin({REQUEST: json_bytes({**about, "free": list(model.free()), "sums": sums}), **files})

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
        return experiments_of(json.loads(self.files["data.json"]), read_archive(self.files["data.npz"]))

    def checkpoint(self, monitor: Monitor) -> bytes:
        """Where a search for this request stands, as an archive of plain arrays."""
        return checkpoint(monitor, self.request)


def options_data(options: FitOptions, ties: Mapping[str, str | None]) -> dict[str, Any]:
    """The options of a fit as data; `ties` are the texts of its ties, None for a function."""
    how, tie = options.integrator, options.tie and {name: ties.get(name) or "a function" for name in options.tie}
    found = {one.name: encode(getattr(options, one.name)) for one in fields(options)}
    return found | {"integrator": None if how is None else integrator_data(how), "tie": encode(tie)}


def options_of(data: Mapping[str, Any]) -> FitOptions:
    """The options of `options_data`; one that an older run does not have is as by default."""
    how = data["integrator"]
    given = {name: decode(value) for name, value in data.items() if name != "integrator"}
    before = how is None and (given["optimizer"] or "lm") == "lm" and given["protocol"] in (None, "default")
    integrator = BEFORE if before else None if how is None else integrator_of(how)
    return FitOptions.of(FitOptions(integrator=integrator), given)
