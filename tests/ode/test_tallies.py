"""Functions that count their evaluations are compiled, and have counted as many as the engine made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from physid.machine import compiler_command
from physid.ode import Integrator, misfit, odeint, solve

DOUBLE = torch.float64
Y0, ASKED = torch.tensor([0.9, -0.4], dtype=DOUBLE), torch.linspace(0, 2, 6, dtype=DOUBLE)
pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")


class Counting(nn.Module):
    """A damped oscillator that counts in one of several ways."""

    number: Tensor
    whole: Tensor

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.nfe, self.last, self.most = way, 0, 0, 10**9
        self.log: list[Any] = []
        self.calls = {"field": 0}
        self.cell = [0]
        self.damping = nn.Parameter(torch.tensor(0.3, dtype=DOUBLE))
        self.register_buffer("number", torch.zeros((), dtype=DOUBLE))
        self.register_buffer("whole", torch.zeros((), dtype=torch.long))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.tell(t)
        x, v = y
        return torch.stack([v, -x - self.damping * v])

    def tell(self, t: Tensor) -> None:
        match self.way:
            case "+=" | "unread":
                self.nfe += 1
            case "= +":
                self.nfe = 1 + self.nfe
            case "twice":
                self.nfe += 1
                self.nfe += 1
                self.log.append("evaluated")
            case "list":
                self.log.append(1)
            case "item":
                self.cell[0] += 1
            case "key":
                self.calls["field"] += 1
            case "buffer":
                self.number += 1
            case "whole buffer":
                self.whole += 1
            case "limit":
                self.nfe += 1
                if self.nfe > self.most:
                    raise RuntimeError("too many evaluations")
            case "kept":
                self.nfe += 1
                self.last = self.nfe
            case "text":
                self.nfe += 1
                self.log.append(f"{self.nfe}")
            case "times":
                self.log.append(t)
            case "numbers":
                self.log.append(float(t))
            case "new buffer":
                self.number = self.number + 1

    @property
    def count(self) -> int:
        """How often it was evaluated, by whatever it counts with."""
        times = self.nfe // 2 if self.way == "twice" else self.nfe
        logged = len(self.log) if self.way != "text" else 0
        if self.way == "twice":
            assert logged == times
            logged = 0
        return times + logged + self.cell[0] + self.calls["field"] + int(self.number) + int(self.whole)


def counted(f: Counting, engine: str = "auto", **options: Any) -> tuple[Any, int]:
    before = f.count
    found = solve(f, Y0, ASKED, rtol=1e-6, atol=1e-8, engine=engine, **options)
    return found, f.count - before


@pytest.mark.parametrize("way", ["+=", "= +", "twice", "list", "item", "key", "buffer", "whole buffer"])
def test_counts_are_those_of_the_engine(way: str) -> None:
    f = Counting(way)
    eager, evaluations = counted(f, "eager")
    assert evaluations == eager.statistics.evaluations
    for _ in range(3):  # compiled, remembered, and after the count has begun anew
        found, evaluations = counted(f, "native")
        assert evaluations == found.statistics.evaluations == eager.statistics.evaluations
        torch.testing.assert_close(found.y, eager.y, rtol=1e-12, atol=1e-12)
        before = f.count
        found.y.sum().backward()
        assert f.count - before == found.statistics.backward_evaluations
        f.nfe = 0
        f.log.clear()


@pytest.mark.parametrize("way", ["limit", "kept", "text", "times", "numbers"])
def test_what_is_read_or_differs_runs_eagerly_and_counts(way: str) -> None:
    f = Counting(way)
    for _ in range(2):
        found, evaluations = counted(f)
        assert found.engine == "eager"
        assert evaluations == found.statistics.evaluations
    f = Counting("limit")
    f.most = 5
    with pytest.raises(RuntimeError, match="too many"):
        counted(f)


def test_a_tensor_that_takes_the_place_of_another_is_no_count() -> None:
    found, _ = counted(Counting("new buffer"))
    assert (found.engine, "as it is evaluated" in found.engine_note) == ("eager", True)


@pytest.mark.parametrize(("gradient", "checkpoints"), [("adjoint", None), ("aca", 2), ("forward", None)])
def test_backward_passes_count(gradient: str, checkpoints: int | None) -> None:
    f = Counting("+=")
    for _ in range(2):
        found, evaluations = counted(f, "native", gradient=gradient, checkpoints=checkpoints)
        spent = found.statistics.evaluations
        assert evaluations == (2 * spent if gradient == "forward" else spent)
        before = f.nfe
        found.y.sum().backward()
        assert gradient == "forward" or f.nfe - before == found.statistics.backward_evaluations > 0


def counter() -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[], int]]:
    count = 0

    def f(t: Tensor, y: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.stack([y[1], -y[0]])

    return f, lambda: count


def test_closures_made_anew_have_counts_of_their_own() -> None:
    module = Counting("+=")
    for _ in range(2):
        f, count = counter()
        for times in (1, 2):
            found = solve(f, Y0, ASKED, engine="native")
            assert count() == times * found.statistics.evaluations
        module.nfe = 0
        odeint(lambda t, y: module(t, y), Y0, ASKED, engine="native")
        once = module.nfe
        odeint(lambda t, y: module(t, y), Y0, ASKED, engine="eager")
        assert module.nfe == 2 * once > 0


def test_a_fused_misfit_counts() -> None:
    f, target = Counting("+="), torch.zeros(len(ASKED), 2, dtype=DOUBLE)
    weight, integrator = torch.ones_like(target), Integrator(rtol=1e-6, engine="native")
    counts = []
    for _ in range(2):
        f.nfe = 0
        misfit(f, Y0, ASKED, target, weight, integrator=integrator).backward()
        counts.append(f.nfe)
    assert counts[0] == counts[1] > 0


def test_a_count_that_becomes_something_else_is_seen() -> None:
    f = Counting("+=")
    counted(f, "native")
    f.nfe = 0.5  # type: ignore[assignment]
    assert counted(f)[0].engine == "eager"
