"""FITS: fits of unknowns as run directories; what a fit found, and where its search stands."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch

import physid.door as door
from physid.arrays import Array
from physid.data.holdout import split
from physid.errors import InputError
from physid.formats import Folder, archive_bytes, json_bytes, read_archive, rows_bytes, rows_of, sound, table_bytes
from physid.inference.identify import run as fit_by_plan
from physid.inference.marginal import part as part_of
from physid.inference.options import resolve
from physid.inference.result import FitResult
from physid.inference.search.monitor import Monitor, Progress
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.profile_curve import Profile
from physid.inference.uncertainty.statistics import FitStatistics
from physid.machine import environment
from physid.ode import Integrator
from physid.predict.forecast import Forecast, forecast
from physid.predict.residuals import residual_table
from physid.records import fields_of, record_data, record_of
from physid.report.text import Report
from physid.runs import writer
from physid.runs.codec import integrator_data, integrator_of
from physid.runs.experiments import experiment_files, experiments_of
from physid.runs.format import LAYOUT, SETTINGS, CheckpointFormat, Run, checked
from physid.runs.models import restored, state_of
from physid.runs.origin import Origin, beginning, check_integrator
from physid.runs.recorder import RunRecorder
from physid.runs.writer import RunWriter
from physid.store import check_vacant

T = TypeVar("T")
DERIVED, PROFILES = "derived.json", "profiles.json"
MATRICES = ("covariance", "robust", "identifiable")  # of the statistics, kept as arrays
# the fields of a result that have files or forms of their own; all others are in settings.json by their names
APART = {
    *("model", "experiment", "experiments", "integrator", "settings", "history", "x", "estimates", "statistics"),
    *("derived", "shares", "combinations", "members", "origin", "held", "profiles"),
}
PLAIN = [one.name for one in fields(FitResult) if one.name not in APART]


class FitFormat(CheckpointFormat[FitResult, Monitor]):
    """Fits of unknowns: data and settings, estimates and statistics, history, reports; the search as plain arrays."""

    kind = "fit"
    noun = "a fit of unknowns"
    checkpoint = writer.CHECKPOINT
    ended = ("converged", "diverged")

    def encode(self, result: FitResult) -> dict[str, bytes]:
        """Every file of the finished run but those it began with, and the sums."""
        report = Report(result)
        about = {
            "format": LAYOUT,
            **{name: getattr(result, name) for name in PLAIN},
            "free": list(result.model.free()),
            "settings": result.settings,
            "integrator": integrator_data(result.integrator),
        }
        derived = {"derived": result.derived, "shares": result.shares, "combinations": result.combinations}
        found = {
            SETTINGS: json_bytes(record_data(about)),
            "environment.json": json_bytes(environment()),
            "history.csv": rows_bytes(result.history),
            "model.safetensors": safetensors.torch.save(state_of(result.model)),
            "unknowns.json": json_bytes(record_data(result.estimates)),
            DERIVED: json_bytes(record_data(derived)),
            "report.txt": (str(report) + "\n").encode(),
            "report.json": json_bytes(report.json()),
            **(experiment_files(result.experiments) if result.origin is None else {}),
            **_statistics_files(result),
        }
        if result.profiles:
            found[PROFILES] = json_bytes(record_data(result.profiles))
        if result.status != "diverged":
            found |= _forecast_files(result)
            found["residuals.csv"] = _joined(result, ["time", *result.experiment.channels], _residuals)
        return found

    def decode(self, run: Run) -> FitResult:
        """The result of a finished run."""
        files = run.files
        about = checked(files.json(SETTINGS), run.path)
        with sound(run.path):
            settings, origin = about["settings"], Origin.read(files) if writer.REQUEST in files.sums else None
            given = experiments_of(files.json("data.json"), files.archive("data.npz"))
            experiments, _ = split(given, settings.get("holdout") if origin is not None else None)
            statistics, arrays = _read_statistics(files)
            derived = files.json(DERIVED) if DERIVED in files.sums else {"derived": [], "shares": {}}
            fit = FitResult(
                model=restored(files, "model.safetensors", settings, about["free"], run.part, run.trust),
                experiment=experiments[0],
                experiments=experiments,
                integrator=read_integrator(about),
                settings=settings,
                history=rows_of(files.read("history.csv")),
                x=arrays["x"],
                members=list(arrays.get("members", ())),
                estimates=_records(Estimate, files.json("unknowns.json")),
                statistics=statistics,
                derived=_records(Estimate, derived["derived"]),
                combinations=_records(Estimate, derived.get("combinations", [])),
                shares=derived["shares"],
                origin=origin,
                held=_held(run.path),
                profiles=_records(Profile, files.json(PROFILES) if PROFILES in files.sums else []),
                **fields_of(FitResult, _with_costs(about), PLAIN),
            )
            fit.exit_code, fit.vector.put(fit.x)  # a status or a vector that cannot be
            report = Report(fit)  # made of every field: one of another kind than it was written with cannot be reported
            str(report), report.json()
            before = arrays["rate"], arrays["seen"]
        _compare(before, fit)
        return fit

    def state(self, live: Monitor, request: str) -> bytes:
        """State of a search, as an archive of plain arrays."""
        return writer.checkpoint(live, request)

    def restore(self, live: Monitor, data: bytes, request: str) -> None:
        """Put the monitor where the search stood; its evaluations are those until then."""
        before = writer.recall(live, read_archive(data), request)
        live.evaluations = lambda: before

    def resume(self, run: Run, progress: Progress | None, limit: float | None) -> FitResult:
        """Continue the search from its checkpoint, and finish the run."""
        asked, origin = beginning(run.path, run.part, run.trust)
        with sound(run.path):
            plan = resolve(dataclasses.replace(asked.options, time_limit=limit))
        recorder, monitor = RunRecorder.continued(run.path, origin), Monitor(progress, limit)
        try:
            self.restored(run, monitor, origin.request)
        except BaseException:
            recorder.close()
            raise
        return fit_by_plan(asked.model, asked.experiments, plan, origin, monitor, asked.labels, recorder)


FITS = FitFormat()


def save(fit: FitResult, folder: Path) -> Path:
    """Write the run directory `folder`, in one step. Errors: InputError where that cannot be."""
    check_vacant(folder)
    check_integrator(fit.integrator)
    _write(fit, RunWriter(folder, {} if fit.origin is None else fit.origin.files))
    return folder


def replace(fit: FitResult, folder: Path) -> None:
    """Write a fit over the run of the same request in `folder`; what is there is continued if that fails midway.

    Errors: InputError for a run of another request, one that another process fits into, or that cannot be written.
    """
    if fit.origin is None:
        raise InputError(f"{folder} does not say how it began, so nothing can be added to it. Fit again.")
    _write(fit, RunWriter(folder, fit.origin.files, resumed=True))


def _write(fit: FitResult, writer: RunWriter) -> None:
    try:
        writer.finish(FITS.encode(fit), fit.held)
    finally:
        writer.close()


def read_integrator(about: Mapping[str, Any]) -> Integrator:
    """The integrator of a run, from its settings.json."""
    if "integrator" in about:
        return integrator_of(about["integrator"])
    settings = about["settings"]  # an older run, which kept a part of it
    names = ("solver", "rtol", "atol", "control", "gradient", "exact", "max_steps")
    return integrator_of({name: settings[name] for name in names})


def _records(kind: type[T], rows: list[Any]) -> list[T]:
    return [record_of(kind, row) for row in rows]


def _with_costs(about: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of settings.json, with the infinite costs of starts that older runs left out."""
    rows = about.get("starts", ())
    return {**about, "starts": [{**row, "cost": row["cost"] if row["cost"] is not None else math.inf} for row in rows]}


def _held(folder: Path) -> bytes:
    """The last checkpoint, none if there is none."""
    try:
        return door.inside(folder, writer.CHECKPOINT)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"{folder / writer.CHECKPOINT} cannot be read: {error.strerror}. Use a copy.") from None


def _statistics_files(fit: FitResult) -> dict[str, bytes]:
    """covariance.npz and statistics.json."""
    rate, seen = _probe(fit)
    arrays = {"x": fit.x, "rate": rate, "seen": seen, **({"members": np.stack(fit.members)} if fit.members else {})}
    about: dict[str, Any] = {"there": fit.statistics is not None}
    if fit.statistics is not None:
        arrays |= {name: getattr(fit.statistics, name) for name in MATRICES}
        names = [one.name for one in fields(FitStatistics) if one.name not in MATRICES]
        about |= {name: record_data(getattr(fit.statistics, name)) for name in names}
    return {"covariance.npz": archive_bytes(**arrays), "statistics.json": json_bytes(about)}


def _read_statistics(run: Folder) -> tuple[FitStatistics | None, dict[str, Array]]:
    """The statistics of a run, and the arrays that are kept beside them."""
    about, arrays = run.json("statistics.json"), run.archive("covariance.npz")
    size = arrays["x"].shape[0]
    if arrays["x"].ndim != 1:
        raise TypeError(f"x has the shape {arrays['x'].shape}")
    if not about["there"]:
        return None, arrays
    shapes = [arrays[name].shape for name in MATRICES]
    if shapes != [(size, size), (size, size), (size,)]:
        raise TypeError(f"the covariances have the shapes {shapes} for {size} numbers")
    return record_of(FitStatistics, {**about, **{name: arrays[name] for name in MATRICES}}), arrays


def _forecast_files(fit: FitResult) -> dict[str, bytes]:
    """forecast.csv and forecast.json, up to the last time at which anything was measured."""

    def ahead(one: FitResult) -> Forecast:
        return forecast(one, float((one.experiment.test or one.experiment.train).times[-1]))

    found = ahead(fit)
    table = _joined(fit, found.columns, lambda one: (found if one is fit else ahead(one)).rows())
    about = {name: value for name, value in found.json().items() if name not in ("times", "channels")}
    return {"forecast.csv": table, "forecast.json": json_bytes(about)}


def _joined(fit: FitResult, columns: Sequence[str], rows: Callable[[FitResult], Array]) -> bytes:
    """A table of every experiment as CSV; that of several says in its first column which one a row is of."""
    if len(fit.experiments) == 1:
        return table_bytes(columns, rows(fit).tolist())
    tables = [(one.name, rows(part_of(fit, one.name)).tolist()) for one in fit.experiments]
    return table_bytes(["experiment", *columns], [[name, *row] for name, table in tables for row in table])


def _residuals(fit: FitResult) -> Array:
    """Times of training, and what is predicted less what was measured there [T, 1 + M]."""
    return np.column_stack([fit.experiment.train.times.numpy(), residual_table(fit)])


def _probe(fit: FitResult) -> tuple[Array, Array]:
    """dy/dt and the observations at the initial state: the fingerprint by which a reader knows the model again."""
    y0 = fit.vector.put(fit.x)
    with torch.no_grad():
        rate = fit.model.field(torch.tensor(float(fit.experiment.initial_time or 0.0)).to(y0), y0)
        return rate.double().cpu().numpy(), fit.model.observe(y0[None])[0].double().cpu().numpy()


def _same(before: Array, now: Array) -> bool:
    """Whether these are the same numbers to round-off, by the size of each."""
    size = np.nanmax(np.abs(before), initial=0.0)
    return np.allclose(before, now, rtol=1e-9, atol=1e-15 * size, equal_nan=True)


def _compare(saved: tuple[Array, Array], fit: FitResult) -> None:
    """Errors: InputError when the model is not the one that was fitted, by the `_probe` that was saved with it."""
    for before, now in zip(saved, _probe(fit), strict=True):
        if before.shape != now.shape or not _same(before, now):
            raise InputError(
                f"{type(fit.model).__name__} is not the model that was fitted: at the initial state it gives other "
                "numbers. Give the model as it was made, Fit.load(folder, model=...)."
            )
