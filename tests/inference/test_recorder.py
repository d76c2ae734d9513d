"""What `identify` tells its recorder, and that results below are plain data with the facades' fields."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from physid import Fit, fit
from physid.api.forecast import ViewableForecast
from physid.api.train import Trained
from physid.datasets import load
from physid.errors import InputError
from physid.inference.fit_options import FitOptions
from physid.inference.identify import identify
from physid.inference.options import FitPlan
from physid.inference.recorder import FitRecorder, Request
from physid.inference.result import FitResult, Provenance
from physid.inference.search.monitor import Monitor
from physid.models import Exponential
from physid.predict.forecast import forecast
from physid.runs import origin, writer
from physid.runs.recorder import RunRecorder
from physid.training.result import TrainingResult


class Listed(FitRecorder):
    """Lists what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def check(self, plan: FitPlan) -> None:
        self.told.append(("check", plan))

    def start(self, request: Request) -> Provenance | None:
        self.told.append(("start", request))
        return None

    def keep(self, monitor: Monitor) -> None:
        self.told.append(("keep", monitor.stage))

    def done(self, result: FitResult, monitor: Monitor) -> None:
        self.told.append(("done", result))

    def close(self) -> None:
        self.told.append(("close", None))


def test_identify_tells_its_recorder_request_states_and_result() -> None:
    recorder, data = Listed(), load("exponential")
    found = identify(Exponential(), data, FitOptions(seed=3), labels={"note": "mine"}, recorder=recorder)
    words = [word for word, _ in recorder.told]
    assert words == ["check", "start", *["keep"] * (len(words) - 4), "done", "close"]
    assert len(words) > 4
    request = recorder.told[1][1]
    assert request.options.seed == 3
    assert request.labels == {"note": "mine"}
    assert recorder.told[-2][1] is found
    assert found.settings["note"] == "mine"
    assert found.settings["model"] == "Exponential"


def test_a_refused_fit_tells_nothing_but_its_check() -> None:
    recorder = Listed()
    with pytest.raises(InputError):
        identify(Exponential(), load("exponential"), FitOptions(holdout="after:1e9"), recorder=recorder)
    assert {word for word, _ in recorder.told} <= {"check"}


def test_a_result_without_a_recorder_is_that_of_fit() -> None:
    plain, whole = identify(Exponential(), load("exponential")), fit(Exponential(), load("exponential"))
    assert type(plain) is FitResult
    assert type(whole) is Fit
    np.testing.assert_array_equal(plain.x, whole.x)
    assert (plain.status, plain.scores, plain.verdict) == (whole.status, whole.scores, whole.verdict)
    assert plain.origin is None
    assert plain.held == b""
    mine = whole.forecast(2.0, points=5)
    assert type(mine) is ViewableForecast
    np.testing.assert_array_equal(mine.rows(), forecast(plain, 2.0, points=5).rows())


def test_facades_add_no_fields() -> None:
    for facade, below in ((Fit, FitResult), (Trained, TrainingResult)):
        assert fields(facade) == fields(below)
        assert not {"load", "save", "resume", "report", "view"} & {*dir(below)}


def test_the_recorder_of_runs_writes_what_fit_writes(tmp_path: Path) -> None:
    found = identify(Exponential(), load("exponential"), recorder=RunRecorder(tmp_path / "below"))
    fit(Exponential(), load("exponential"), out=tmp_path / "above")
    assert found.held
    below, above = ({path.name for path in (tmp_path / name).iterdir()} for name in ("below", "above"))
    assert below == above
    assert writer.REQUEST in below
    for name in (writer.REQUEST, origin.START, "unknowns.json", "forecast.csv"):
        assert (tmp_path / "below" / name).read_bytes() == (tmp_path / "above" / name).read_bytes()
