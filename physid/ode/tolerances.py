"""Tolerance check: refuses what is no finite, non-negative number before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from physid.errors import InputError

Many = Tensor | Sequence[Any]  # of every state its own


def finite_tolerance(name: str, value: float | Many) -> float | Many:
    """A tolerance, a number of it as a float; InputError for a number that is negative, or that no float is."""
    if not isinstance(value, int | float):
        return value
    try:
        found = float(value)
    except OverflowError:  # of an integer
        found = math.inf
    if not (math.isfinite(found) and found >= 0):
        shown = "more than 1e308" if isinstance(value, int) and found == math.inf else f"{value}"
        raise InputError(f"{name}={shown}: a tolerance must be a finite number that is not negative.")
    return found
