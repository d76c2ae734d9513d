"""The table of operations that native code knows: each aten operation as arithmetic on arrays of ids.

A rule takes the builder and the arguments of the aten operation, tensors as arrays of ids (or, where torch wants an
index, as arrays of integers), and returns the ids of the result, one array per result. Shapes follow numpy's rules,
which are torch's. In-place variants need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import Ids

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
    """Python numbers and tensors of known values as literals, an array as it is."""
    if isinstance(value, int | float):
        return b.literal(float(value))
    return b.literals(value.values) if hasattr(value, "values") else value


def array(b: Builder, value: Any) -> Ids:
    """The same, as an array."""
    return np.asarray(real(b, value), np.int64)
