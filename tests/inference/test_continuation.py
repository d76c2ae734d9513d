"""Continuation: a fit is led from a model with round corners to the one that is meant, and survives on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from variants import some

from physid import Experiment, Fit, Model, Trajectory, Unknown, fit, positive
from physid.modelling.smooth import smooth_ramp
from physid.runs import writer


class Weir(Model):
    """y' = inflow - spill (y - 1)+, with a corner that is sharp in the end."""

    state_names: ClassVar[tuple[str, ...]] = ("y",)
    inflow = Unknown(0.2, positive)
    spill = Unknown(0.5, positive)
    width = 0.02
    continuation: ClassVar[Mapping[str, tuple[float, ...]]] = {"width": (1.0, 0.2)}

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return self.inflow - self.spill * smooth_ramp(y - 1.0, self.width)


def record() -> Experiment:
    times = np.linspace(0.0, 4.0, 41)

    def rate(t: float, y: Any) -> Any:
        return 0.6 - 3.0 * 0.02 * np.logaddexp(0.0, (y - 1.0) / 0.02)

    y = solve_ivp(rate, (0, 4), [0.2], "LSODA", times, rtol=1e-11, atol=1e-11).y[0]
    y += 1e-4 * np.random.default_rng(1).standard_normal(41)
    return Experiment("weir", Trajectory(torch.from_numpy(times), torch.from_numpy(y[:, None])), torch.tensor([0.2]))


def phases(found: Fit) -> list[str]:
    return list(dict.fromkeys(str(row["phase"]) for row in found.history))


@pytest.fixture(scope="module")
def whole() -> Fit:
    """The fit that is led all the way."""
    return fit(Weir(), record())


def test_the_fit_ends_at_the_model_that_is_meant(whole: Fit) -> None:
    found = whole
    assert found.status == "converged"
    assert found.model.width == 0.02
    order = [phase.partition(",")[0] for phase in phases(found)]
    assert list(dict.fromkeys(order))[:2] == ["width 1", "width 0.2"]
    assert not phases(found)[-1].startswith("width")
    direct = type("Direct", (Weir,), {"continuation": {}})(inflow=0.6, spill=3.0)
    same = fit(direct, record())
    assert [one.value for one in found.estimates] == pytest.approx([one.value for one in same.estimates], rel=1e-6)
    assert [one.value for one in found.estimates] == pytest.approx([0.6, 3.0], rel=2e-3)


class Killed(BaseException):
    """The end of a process, as a test can catch it."""


@pytest.mark.parametrize("where", some(["width 1,", "width 0.2,", "full"], "width 0.2,"))
def test_cut_off_on_the_way_and_resumed(
    where: str, whole: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.0)
    monkeypatch.setattr(writer, "SHARE", 0.0)
    number = next(i for i, row in enumerate(whole.history) if row["phase"].startswith(where))
    count = 0

    def kill(row: Mapping[str, Any]) -> None:
        nonlocal count
        count += 1
        if count == number + 2:
            raise Killed

    model = Weir()
    with pytest.raises(Killed):
        fit(model, record(), out=tmp_path / "run", progress=kill)
    assert model.width == 0.02
    found = Fit.resume(tmp_path / "run", model=Weir())
    assert found.x == pytest.approx(whole.x, abs=1e-6)
    led = [row for row in found.history if row["phase"].startswith("width")]
    again = len(led) - len([row for row in whole.history if row["phase"].startswith("width")])
    assert 0 <= again <= 3  # what was going on, and the point where its phase had begun


def test_an_interrupt_on_the_way_leaves_the_model_as_it_was() -> None:
    def stop(row: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    model = Weir()
    found = fit(model, record(), progress=stop)
    assert (found.status, model.width) == ("interrupted", 0.02)
