"""FitRecorder: the interface through which `identify` records a running fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from physid.data.experiment import Experiment
from physid.inference.fit_options import FitOptions
from physid.inference.options import FitPlan
from physid.inference.result import FitResult, Provenance
from physid.inference.search.monitor import Monitor
from physid.modelling.model import Model


@dataclass(frozen=True)
class Request:
    """Request of a fit: the model as it begins, the experiments as given, the options, and the user's labels."""

    model: Model
    experiments: Sequence[Experiment]
    options: FitOptions
    labels: Mapping[str, Any]


class FitRecorder:
    """Checkpoints a running fit: its request and starting point once, its search state periodically, then its result.

    `identify` calls `check` before anything is changed, `identity`, one `start`, a `keep` at every state from which the
    search could continue, `done` with the result, and `close` however the fit ends. This one records nothing.
    """

    def check(self, plan: FitPlan) -> None:
        """Errors: InputError for an integrator or an optimizer that cannot be written down."""

    def identity(self, model: Model) -> dict[str, Any]:
        """Address of the model's class: settings, "model" among them."""
        return {"model": type(model).__name__}

    def start(self, request: Request) -> Provenance | None:
        """Record the request; the provenance of the fit, None where nothing is kept."""
        return None

    def keep(self, monitor: Monitor) -> None:
        """Record the state of the search, if it is time to."""

    def done(self, result: FitResult, monitor: Monitor) -> None:
        """Record the result."""

    def close(self) -> None:
        """Nothing follows."""
