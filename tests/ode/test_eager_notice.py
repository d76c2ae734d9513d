"""Engine "auto" says once, with the reason, that an f runs by torch when that has taken a while."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from physid import odeint, odeint_adjoint
from physid.ode import Integrator, eager_notice, solve
from physid.ode.eager_notice import EagerWarning

Y0, ASKED = torch.tensor([1.0, 0.5], dtype=torch.float64), torch.linspace(0, 3, 4, dtype=torch.float64)


@pytest.fixture(autouse=True)
def told() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def branching(t: Tensor, y: Tensor) -> Tensor:
    return -y if float(t) < 2 else -2 * y


def test_one_warning_for_each_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager_notice, "SECONDS", 1e-9)

    def made(rate: float):  # type: ignore[no-untyped-def]
        return lambda t, y: -rate * y * (1 if float(t) < 2 else 2)

    with pytest.warns(
        EagerWarning, match=r"eager because a Python number or branch .* engine='eager' silences"
    ) as found:
        solve(made(1.0), Y0, ASKED)
    assert found[0].filename == __file__
    for rate in (1.0, 0.5):  # closures of the same code are one function
        solve(made(rate), Y0, ASKED)
    with pytest.warns(EagerWarning, match="solves of branching have taken") as found:
        odeint(branching, Y0, ASKED)
    assert found[0].filename == __file__
    odeint_adjoint(branching, Y0, ASKED)
    solve(branching, Y0, ASKED)


def test_silent_where_it_was_asked_for_or_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(t: Tensor, y: Tensor) -> Tensor:
        return -y if float(t.detach()) < 9 else y

    monkeypatch.setattr(eager_notice, "SECONDS", 5.0)  # of a machine that is busy
    solve(short, Y0, [0.0, 1e-3], rtol=1e-2, atol=1e-2)
    monkeypatch.setattr(eager_notice, "SECONDS", 0.0)
    for engine in ("eager", "auto"):
        Integrator(engine=engine).solve(short, Y0, ASKED)  # as fits do, whose report tells the engine
    solve(short, Y0, ASKED, engine="eager")
    odeint(short, Y0, ASKED, engine="eager")
    odeint_adjoint(short, Y0, ASKED, engine="eager")
    solve(short, Y0.clone().requires_grad_(), ASKED, gradient="naive")


def test_small_costs_add_up() -> None:
    def often(t: Tensor, y: Tensor) -> Tensor:
        return -y if float(t.detach()) < 9 else y

    def repeated(found: pytest.WarningsRecorder) -> None:
        for _ in range(1000):
            solve(often, Y0, ASKED)
            if len(found):
                return

    solve(often, Y0, [0.0, 1e-3], rtol=1e-2, atol=1e-2)
    with pytest.warns(EagerWarning, match="solves of .*often have taken") as found:
        repeated(found)
    solve(often, Y0, ASKED)  # no second one, which would be an error here
