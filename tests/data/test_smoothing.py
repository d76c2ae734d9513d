"""Smooth curves through noisy channels cost time in proportion to the record, and follow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from physid.data import smoothing
from physid.data.smoothing import roughness, through


def broad(count: int) -> Any:
    """White noise through a resonance, with a little noise of its own."""
    random = np.random.default_rng(0)
    kernel = np.sin(0.7 * np.arange(40)) * np.exp(-0.1 * np.arange(40))
    return np.convolve(random.normal(size=count + 40), kernel)[40 : 40 + count] + 0.01 * random.normal(size=count)


def test_the_work_grows_with_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    spline = smoothing._spline

    def counted(t: Any, y: Any, noise: float) -> object:
        found = spline(t, y, noise)
        made.append((len(t), len(found.get_knots())))
        return found

    monkeypatch.setattr(smoothing, "_spline", counted)
    for count in (4000, 8000):
        made.clear()
        t: Any = 0.01 * np.arange(count)
        through(t, broad(count), t)
        assert max(points for points, _ in made) == smoothing.WINDOW
        assert sum(points for points, _ in made) < 2 * count
    made.clear()
    through(t, broad(count), np.asarray(np.linspace(0.0, t[-1], 20), dtype=np.float64))
    assert len(made) <= 20


@pytest.mark.parametrize(("count", "last"), [(3000, 10.0), (3000, 300.0)])
def test_windows_join_and_follow_the_curve(count: int, last: float) -> None:
    t: Any = np.linspace(0.0, last, count)
    curve, slope = np.sin(3 * t), 3 * np.cos(3 * t)
    y = curve + 0.05 * np.random.default_rng(0).normal(size=count)
    assert roughness(t, y) == pytest.approx(0.05, rel=0.2)
    value, by = through(t, y, t)
    assert np.sqrt(np.mean((value - curve) ** 2)) < 0.04
    assert np.sqrt(np.mean((by - slope) ** 2)) < 0.5
    some = np.random.default_rng(1).permutation(t[1:-1])[:40]
    value, by = through(t, y, some)  # in any order
    assert np.sqrt(np.mean((value - np.sin(3 * some)) ** 2)) < 0.04
    beyond = np.array([-0.01, 0.0, last + 0.01])
    assert np.isfinite(through(t, y, beyond)).all()
