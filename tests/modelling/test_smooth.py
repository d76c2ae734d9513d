"""Smooth corners: bounds on how far they are off, order, slopes against finite differences, no overflow."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from physid.errors import InputError
from physid.modelling.smooth import smooth_abs, smooth_clip, smooth_ramp, smooth_sign, smooth_sqrt
from physid.ode import Integrator, sensitivities

WIDTHS = st.floats(1e-3, 1e3)
NUMBERS = st.floats(-1e4, 1e4)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(NUMBERS, WIDTHS)
def test_how_far_they_are_from_the_corner(x: float, w: float) -> None:
    slack = 1e-12 * (1 + abs(x) + w)
    ramp = smooth_ramp(tensor(x), w).item() - max(x, 0.0)
    assert -slack <= ramp <= w * math.exp(-abs(x) / w) + slack
    assert 0.0 <= abs(x) - smooth_abs(tensor(x), w).item() + slack <= w + 2 * slack
    assert abs(smooth_sign(tensor(x), w).item() - math.tanh(x / w)) < 1e-12
    assert abs(x) < 4 * w or abs(abs(smooth_sign(tensor(x), w).item()) - 1) < 1e-3
    assert 0.0 <= smooth_sqrt(tensor(x), w).item() - math.sqrt(max(x, 0.0)) <= math.sqrt(w)


@given(NUMBERS, st.floats(-100, 100), st.floats(1e-2, 100), st.floats(1e-3, 0.9))
def test_a_clip_stays_between_its_bounds(x: float, low: float, gap: float, part: float) -> None:
    high, w = low + gap, part * gap
    value = smooth_clip(tensor(x), low, high, w).item()
    assert low - 1e-9 <= value <= high + 1e-9
    nearest = min(abs(x - low), abs(x - high))
    assert abs(value - min(max(x, low), high)) <= 2 * w * math.exp(-nearest / w) + 1e-9 * (1 + abs(x))
    assert smooth_clip(tensor(x), low, None, w).item() >= low - 1e-9
    assert smooth_clip(tensor(x), None, high, w).item() <= high + 1e-9
    assert smooth_clip(tensor(x), None, None, w).item() == x


@pytest.mark.parametrize(
    "f",
    [
        lambda x: smooth_ramp(x, 0.1),
        lambda x: smooth_abs(x, 0.1),
        lambda x: smooth_sign(x, 0.1),
        lambda x: smooth_clip(x, -0.5, 0.5, 0.1),
        lambda x: smooth_sqrt(x, 0.1),
    ],
)
def test_slopes(f: Callable[[Tensor], Tensor]) -> None:
    x = tensor(-0.55, -0.1, 0.0, 0.05, 0.45, 2.0).requires_grad_()
    assert gradcheck(f, x)
    assert gradgradcheck(f, x)
    grid = torch.linspace(-3, 3, 601, dtype=torch.float64)
    if f(tensor(-3.0)).item() < 1:  # all but |x| increase
        assert bool((f(grid).diff() >= -1e-15).all())


@pytest.mark.parametrize("x", [-1e300, -1e5, 0.0, 1e5, 1e150])
def test_no_overflow(x: float) -> None:
    for f in (smooth_ramp, smooth_sign, smooth_abs):
        leaf = tensor(x).requires_grad_()
        value = f(leaf, 1e-3)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        assert bool(torch.isfinite(slope).all())
        assert f is smooth_abs or bool(torch.isfinite(value).all())


def test_what_cannot_be_is_refused() -> None:
    for width in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="positive number"):
            smooth_abs(tensor(1.0), width)
    with pytest.raises(InputError, match="bounds further apart"):
        smooth_clip(tensor(1.0), 1.0, 0.0, 0.1)


@pytest.mark.parametrize("engine", ["eager", "native"])
def test_sensitivities_far_from_a_corner_do_not_overflow(engine: str) -> None:
    """y' = 1e16 rate - ramp(y - 10): exp((y - 10) / w) is 1e301, dy / d rate 5e8, and their product infinite."""
    rate = torch.full((1,), 1e-10, dtype=torch.float64, requires_grad=True)
    found = sensitivities(
        lambda t, y: 1e16 * rate - smooth_ramp(y - 10.0, 0.1),
        tensor(79.4),
        torch.linspace(0.0, 5e-8, 5, dtype=torch.float64),
        params=[rate],
        integrator=Integrator("rk4", engine=engine),
    )
    (by_rate,) = found.params
    assert by_rate[-1].item() == pytest.approx(5e8, rel=1e-6)
