"""RunRecorder: a running fit as a run directory, or as its origin alone where none is asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from physid.inference.options import FitPlan
from physid.inference.recorder import FitRecorder, Request
from physid.inference.result import FitResult
from physid.inference.search.monitor import Monitor
from physid.modelling.model import Model
from physid.runs.format import FORMATS
from physid.runs.models import identity
from physid.runs.optimizers import check_optimizer
from physid.runs.origin import Origin, check_integrator
from physid.runs.writer import RunWriter
from physid.store import check_vacant


class RunRecorder(FitRecorder):
    """Writes a running fit into the new folder `out`, if one is given; see `continued` for an unfinished run.

    Every result gets its origin, so that it can be saved later, and be replayed.
    """

    def __init__(self, out: Path | None = None) -> None:
        self.out = out
        self.origin: Origin | None = None
        self.writer: RunWriter | None = None

    @classmethod
    def continued(cls, folder: Path, origin: Origin) -> RunRecorder:
        """The recorder of an unfinished run. Errors: InputError when another process fits into its folder."""
        found = cls(folder)
        found.origin, found.writer = origin, RunWriter(folder, origin.files, resumed=True)
        return found

    def check(self, plan: FitPlan) -> None:
        """Errors: InputError where no run can be made, and for an integrator or an optimizer that none can hold."""
        if self.out is not None:
            check_vacant(self.out)
            check_integrator(plan.integrator)
            check_optimizer(plan.optimizer)

    def identity(self, model: Model) -> dict[str, Any]:
        """Address of the model's class, and the model's constants."""
        return identity(model)

    def start(self, request: Request) -> Origin:
        """Take up the request, and say how the fit began."""
        self.origin = Origin.of(request)
        self.writer = None if self.out is None else RunWriter(self.out, self.origin.files)
        return self.origin

    def keep(self, monitor: Monitor) -> None:
        """Write a checkpoint, if it is time to."""
        if self.writer is not None and self.origin is not None:
            self.writer(monitor.stage, partial(self.origin.checkpoint, monitor))

    def done(self, result: FitResult, monitor: Monitor) -> None:
        """Write the finished run."""
        if self.writer is not None:
            self.writer.finish(FORMATS["fit"].encode(result), result.held)

    def close(self) -> None:
        """Let others fit into the folder again."""
        if self.writer is not None:
            self.writer.close()
