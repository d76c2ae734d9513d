"""Variants of a test that guard one behaviour: some of them run by default, the others are slow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(every: Iterable[Any], *default: Any) -> list[Any]:
    """All as parameters of a test, slow but for the default ones, each of which must be there."""
    every = list(every)
    assert all(one in every for one in default), default
    return [one if one in default else _slow(one) for one in every]


def _slow(one: Any) -> Any:
    return pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.slow)
