"""Numbers of Python's in f: other ones give other solutions, by the same compiled code."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from physid.machine import compiler_command
from physid.ode import solve
from physid.ode.native.compiler import build

DOUBLE = torch.float64
pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")


class Relaxing:
    rate, level, power = 0.7, 0.3, 2.0

    def slope(self, t: Tensor, y: Tensor) -> Tensor:
        return self.rate * (self.level - y)

    def steep(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.rate * y**self.power if self.level > 0 else -self.rate * y


def reached(f: Any, y0: float = 2.0) -> float:
    found: Any = solve(f, torch.tensor([y0], dtype=DOUBLE), [0.0, 1.3], rtol=1e-9, atol=1e-11, engine="native")
    return float(found.y[-1])


def test_other_numbers_need_no_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    relaxing = Relaxing()
    reached(relaxing.slope)
    with monkeypatch.context() as patch:
        patch.setattr(build, "_run", lambda *_: pytest.fail("the compiler ran"))
        for rate, level in ((0.7, 0.3), (0.9, 0.3), (0.9, -1.7), (1.3, 0.12345)):
            relaxing.rate, relaxing.level = rate, level
            assert reached(relaxing.slope) == pytest.approx(level + (2 - level) * math.exp(-rate * 1.3), rel=1e-7)
        for rate in (0.21, 0.9, 1.7):
            assert reached(lambda t, y, k=rate: k * (0.77 - y)) == pytest.approx(
                0.77 + 1.23 * math.exp(-rate * 1.3), rel=1e-7
            )
    for plain in (0.0, 1.0, -2.0, 0.5):  # these are written into the code
        relaxing.level = plain
        assert reached(relaxing.slope) == pytest.approx(plain + (2 - plain) * math.exp(-1.3 * 1.3), rel=1e-7)


def test_numbers_that_decide_stay_what_they_are() -> None:
    relaxing = Relaxing()
    for power in (2.0, 1.5, 3.0):
        relaxing.power = power
        expected = (2 ** (1 - power) + (power - 1) * 0.7 * 1.3) ** (1 / (1 - power))
        assert reached(relaxing.steep) == pytest.approx(expected, rel=1e-7)
    relaxing.level = -0.3
    assert reached(relaxing.steep) == pytest.approx(2 * math.exp(-0.7 * 1.3), rel=1e-7)


def test_factors_stand_beside_constants_and_rows_of_samples() -> None:
    shift, rows = torch.tensor([0.2, 0.4], dtype=DOUBLE), torch.tensor([[0.5], [1.0], [2.0]], dtype=DOUBLE)
    y0 = torch.ones(3, 2, dtype=DOUBLE)
    for rate in (0.35, 0.81):
        for f, speed in (
            (lambda t, y, k=rate: k * (shift / 3.7 - y), torch.full((3, 1), rate, dtype=DOUBLE)),
            (lambda t, y, k=rate: k * rows * (shift / 3.7 - y), rate * rows),
        ):
            found: Any = solve(f, y0, [0.0, 1.3], rtol=1e-9, atol=1e-11, batched=True, engine="native")
            expected = shift / 3.7 + (1 - shift / 3.7) * torch.exp(-speed * 1.3)
            torch.testing.assert_close(found.y[-1], expected, rtol=1e-7, atol=1e-9)
