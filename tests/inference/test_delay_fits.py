"""Fits of a delay: found with its error from a held input, and no complaint of `check`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import physid
from physid.check import check
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown, positive
from physid.predict.forecast import forecast


class Furnace(Model):
    """T' = gain u(t - delay) - loss (T - 20)."""

    state_names: ClassVar[tuple[str, ...]] = ("T",)
    input_names: ClassVar[tuple[str, ...]] = ("u",)
    gain = Unknown(0.02, positive)
    loss = Unknown(0.03, positive)
    delay = Unknown(2.0, physid.between(0.0, 20.0))

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (u,) = self.inputs(t - self.delay)
        return self.gain * u[..., None] - self.loss * (y - 20.0)


def furnace(seed: int, count: int = 61) -> Experiment:
    """Measured once a second with noise .1, heated from 10 to 25 s, the delay 7 s."""
    t = np.arange(float(count))
    u = np.where((t >= 10) & (t < 25), 50.0, 0.0)
    rise = np.where(t > 17, 30 * (1 - np.exp(-0.05 * np.clip(t - 17, 0, 15))), 0.0)
    rise = rise * np.exp(-0.05 * np.clip(t - 32, 0, None))
    measured = 20 + rise + 0.1 * np.random.default_rng(seed).normal(size=count)
    train = Trajectory(torch.from_numpy(t), torch.from_numpy(measured)[:, None])
    return Experiment("furnace", train, torch.tensor([20.0]), inputs=Inputs.through(t, u, ["u"]))


def test_a_fit_finds_the_delay_with_its_error() -> None:
    fit = physid.fit(Furnace(), furnace(0))
    assert str(fit.report()).count("before their first sample") == 1
    found = {e.name: e for e in fit.estimates}
    for name, true in (("gain", 0.03 * 1.0), ("loss", 0.05), ("delay", 7.0)):
        one = found[name]
        assert one.stderr is not None
        assert abs(float(one.value) - true) < 3 * float(one.stderr)
    assert float(found["delay"].value) == pytest.approx(7.0, abs=0.1)


def test_check_does_not_complain_of_a_delay() -> None:
    findings = {one.name: one for one in check(Furnace(), furnace(0))}
    assert findings["gradient"].status == "passed"
    assert "read back to t = -2: before their first sample, at 0, they keep its value" in findings["solve"].sentence
    assert findings["identifiability"].status == "passed"


def test_a_fitted_delay_forecasts() -> None:
    """Fitted until 30 s, forecast over the end of the heating, which arrives at 32 s: the solution in closed form."""
    whole = furnace(1)
    assert whole.inputs is not None
    train = Trajectory(whole.train.times[:31], whole.train.observations[:31])
    fit = physid.fit(Furnace(), Experiment("furnace", train, torch.tensor([20.0]), inputs=whole.inputs))
    gain, loss, delay = (float(one.value) for one in fit.estimates)
    times = [16.0, 20.0, 30.0, 31.0, 40.0, 60.0, 80.0]
    found = forecast(fit, times)

    def heated(t: float) -> float:
        on = max(min(t, 25 + delay) - 10 - delay, 0.0)
        return float(20 + gain * 50 / loss * (1 - np.exp(-loss * on)) * np.exp(-loss * max(t - 25 - delay, 0.0)))

    assert found.mean[:, 0] == pytest.approx([heated(t) for t in times], abs=1e-6)
    assert found.mean[:, 0] == pytest.approx([true(t) for t in times], abs=1.0)


def true(t: float) -> float:
    """The temperature with gain .03, loss .05 and a delay of 7."""
    return float(20 + 30 * (1 - np.exp(-0.05 * np.clip(t - 17, 0, 15))) * np.exp(-0.05 * max(t - 32, 0)))
