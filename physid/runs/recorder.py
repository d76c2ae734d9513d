"""RunRecorder: a running fit as a run directory, or as its origin alone where none is asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from physid.inference.recorder import Request
from physid.inference.result import FitResult
from physid.inference.search.monitor import Monitor
from physid.modelling.model import Model
from physid.ode import Integrator
from physid.runs import fits
from physid.runs.origin import Origin
from physid.runs.writer import Keeper


class RunRecorder:
    """Writes a running fit into the new folder `out`, if one is given; see `continued` for an unfinished run.

    Every result gets its origin, so that it can be saved later, and be replayed.
    """

    def __init__(self, out: Path | None = None) -> None:
        self.out = out
        self.origin: Origin | None = None
        self.keeper: Keeper | None = None

    @classmethod
    def continued(cls, folder: Path, origin: Origin) -> RunRecorder:
        """The recorder of an unfinished run. Errors: InputError when another process fits into its folder."""
        found = cls(folder)
        found.origin, found.keeper = origin, Keeper(folder, origin.files, resumed=True)
        return found

    def check(self, integrator: Integrator) -> None:
        """Errors: InputError where no run can be made, and for an integrator that none can hold."""
        if self.out is not None:
            fits.check(self.out)
            fits.check_integrator(integrator)

    def identity(self, model: Model) -> dict[str, Any]:
        """Where the model's class is found again, and its constants."""
        return fits.identity(model)

    def start(self, request: Request) -> Origin:
        """Take up the request, and say how the fit began."""
        about = fits.request(request.model, request.options, request.labels)
        self.origin = Origin.of(request.model, request.experiments, about)
        self.keeper = None if self.out is None else Keeper(self.out, self.origin.files)
        return self.origin

    def keep(self, monitor: Monitor) -> None:
        """Write a checkpoint, if it is time to."""
        if self.keeper is not None and self.origin is not None:
            self.keeper(monitor.stage, partial(self.origin.checkpoint, monitor))

    def done(self, result: FitResult, monitor: Monitor) -> None:
        """Write the finished run."""
        if self.keeper is not None and self.keeper.there:
            self.keeper.keep(monitor.stage, lambda: result.held)
            self.keeper.finish(fits.contents(result))
        elif self.keeper is not None:
            fits.save(result, self.keeper.folder)

    def close(self) -> None:
        """Let others fit into the folder again."""
        if self.keeper is not None:
            self.keeper.close()
