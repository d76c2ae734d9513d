"""The table of operations that native code knows: each aten operation as arithmetic on arrays of ids.

A rule takes the builder and the arguments of the aten operation, tensors as arrays of ids (or, where torch wants an
index, as arrays of integers), and returns the ids of the result, one array per result. Shapes follow numpy's rules,
which are torch's. In-place variants need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from physid.ode.native.builder import Builder
from physid.ode.native.ir import Ids

Rule = Callable[..., Any]
Some = TypeVar("Some", bound=Rule)
TABLE: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Some], Some]:
    """Enter a rule into the table under these names."""

    def enter(function: Some) -> Some:
        for name in names:
            TABLE[name] = function
        return function

    return enter


def real(b: Builder, value: Any) -> Any:
    """A Python number as a literal, an array as it is."""
    return b.literal(float(value)) if isinstance(value, int | float) else value


def mask(b: Builder, condition: Any) -> Ids:
    """Numbers that are 0 or 1, or any others: ids as they are, known values as literals."""
    return b.literals(condition.values) if hasattr(condition, "values") else np.asarray(condition)
