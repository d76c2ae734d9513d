"""Engine "auto" is "eager" where people keep numbers anywhere, change them, and read values as they like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from native_tools import DOUBLE, refused
from torch import Tensor, nn
from variants import some

from benchmarks.auto_eager import run
from benchmarks.holders import HOLDERS
from benchmarks.written import BODIES, written
from physid import Experiment, Model, Trajectory, Unknown, fit, positive
from physid.ode import Integrator, solve


@pytest.mark.parametrize("count", some([20, 60], 20))
def test_generated_functions_agree(count: int) -> None:
    told: list[str] = []
    counts = run(range(count), report=told.append)
    assert not told
    assert counts["native"] >= 0.7 * count
    assert counts["eager"] >= 0.7 * count


def test_every_holder_and_body_is_used() -> None:
    cases = [written(seed) for seed in range(1000)]
    assert {kind for case in cases for kind in case.holders} == set(HOLDERS)
    assert {case.body for case in cases} == set(BODIES)


def test_generated_functions_agree_in_solves() -> None:
    told: list[str] = []
    run(range(5000, 5012), solve=True, report=told.append)
    assert not told


@pytest.mark.parametrize("count", some([2, 8], 2))
def test_generated_functions_agree_compiled(count: int) -> None:
    told: list[str] = []
    run(range(count), solve=True, compiled=True, report=told.append)
    assert not told


@settings(max_examples=15)
@given(st.integers(10**4, 10**7))
def test_any_generated_function_agrees(seed: int) -> None:
    told: list[str] = []
    run(range(seed, seed + 1), report=told.append)
    assert not told


class Room:
    temperature = 20.0


class Cooling(Model):
    state_names = ("T",)
    k = Unknown(0.1, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * (y - Room.temperature)


def test_a_fit_sees_what_has_changed_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times = torch.linspace(0, 30, 16, dtype=DOUBLE)
    data = (20 + 65 * torch.exp(-0.07 * times))[:, None]
    model = Cooling()

    def rate(engine: str) -> float:
        cup = Experiment("cup", Trajectory(times, data), initial=torch.tensor([85.0], dtype=DOUBLE))
        return float(fit(model, cup, integrator=Integrator(engine=engine)).estimates[0].value)

    assert abs(rate("auto") - 0.07) < 1e-6
    monkeypatch.setattr(Room, "temperature", 10.0)
    assert abs(rate("auto") - rate("eager")) < 1e-9


@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_time_goes_through_numpy(engine: str) -> None:
    times, pulse = np.linspace(0, 10, 101), np.zeros(101)
    pulse[50:61] = 1.0

    def f(t: Tensor, y: Tensor) -> Tensor:
        return -y + float(np.interp(t.numpy(), times, pulse))

    found = solve(f, torch.ones(1, dtype=DOUBLE), [0.0, 10.0], max_step=0.1, engine=engine)
    assert found.engine == "eager"
    assert abs(float(found.y[-1]) - 0.0128960925) < 1e-9


def test_an_evaluation_of_the_engine_that_fails_is_not_the_users() -> None:
    calls = [0]

    def f(t: Tensor, y: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == 2:
            raise RuntimeError("once more")
        return -y

    found = solve(f, torch.ones(1, dtype=DOUBLE), [0.0, 1.0])
    assert (found.engine, "once more" in found.engine_note) == ("eager", True)
    assert abs(float(found.y[-1]) - np.exp(-1)) < 1e-6


def test_derivatives_that_cancel_are_not_refused() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.sin(y) ** 2 + torch.cos(y) ** 2 - 1

    assert solve(f, torch.ones(2, dtype=DOUBLE), [0.0, 1.0]).engine == "native"


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_full_backward_hook(lambda module, into, out: None)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -y


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda t, y: -y * len(repr(t)), "text"),
        (lambda t, y: -y * float(f"{t:.1f}"), "text"),
        (lambda t, y: torch.tensor([y[0], y[1]]), "use torch.stack"),
        (lambda t, y: -y.data, "past the gradient"),
        (lambda t, y: -y if y.tolist()[0] > 0.5 else y, "a list"),
        (lambda t, y: -y * np.random.rand(), "random numbers of NumPy"),
        (Hooked(), "hooks that may change gradients"),
    ],
)
def test_reads_are_noticed(f: Callable[..., Any], why: str) -> None:
    assert why in refused(f)
