"""Inputs u(t) of a driven f: a table beside the constants, read by the engine's C at whatever time f asks for.

An f is driven where it, or the object whose method it is, has `driver` (piecewise polynomials with `breaks` [K + 1] and
`coefficients` [K, D, M], called with t) and `reading(reader)`, in which f takes `reader(s)` [*s.shape, M] for u(s).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physid.ode.native.compiler.conversions import Unsupported
from physid.ode.rhs import attribute

# The table: K, breaks [K + 1], coefficients [K][D][M]. At a break the piece after it counts; before the first one, its
# value stays.
SOURCE = """\
static inline const REAL *input_piece(REAL t, const REAL *table, int width, REAL *since) {{
    static __thread int last;
    const int count = (int)table[0];
    const REAL *breaks = table + 1;
    int at = last;
    if (at >= count || (at > 0 && breaks[at] > t) || (at + 1 < count && breaks[at + 1] <= t)) {{
        int high = count - 1;
        for (at = 0; at < high;) {{
            const int middle = (at + high + 1) / 2;
            if (breaks[middle] <= t) at = middle;
            else high = middle - 1;
        }}
        last = at;
    }}
    *since = t - breaks[at];
    return breaks + count + 1 + (size_t)at * width;
}}
static inline REAL input_at(REAL t, const REAL *c, int which) {{
    REAL since;
    const REAL *piece = input_piece(t, c + {first}, {degree} * {count}, &since) + which;
    REAL value = piece[({degree} - 1) * {count}];
    if (since < 0) since = 0;
    for (int d = {degree} - 2; d >= 0; --d) value = value * since + piece[d * {count}];
    return value;
}}
static inline REAL input_rate(REAL t, const REAL *c, int which) {{
    REAL since, rate = 0;
    const REAL *piece = input_piece(t, c + {first}, {degree} * {count}, &since) + which;
    if (since < 0) return 0;
    for (int d = {degree} - 1; d >= 1; --d) rate = rate * since + d * piece[d * {count}];
    return rate;
}}
"""


@dataclass(frozen=True)
class Drive:
    """What drives f: its owner, and the table as tensors K [1], breaks and coefficients."""

    owner: Any
    pieces: Tensor
    breaks: Tensor
    coefficients: Tensor

    def at(self, t: Tensor) -> Tensor:
        """The inputs [*t.shape, M]."""
        values: Tensor = self.owner.driver(t)
        return values.detach().clone()

    def reading(self, reader: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        """In here f takes `reader(s)` for u(s)."""
        found: AbstractContextManager[None] = self.owner.reading(reader)
        return found

    @property
    def table(self) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors of the table."""
        return self.pieces, self.breaks, self.coefficients

    @property
    def shape(self) -> tuple[int, int]:
        """Coefficients of a piece, and inputs."""
        degree, count = self.coefficients.shape[1:]
        return degree, count


def drive_of(f: Any, dtype: torch.dtype) -> Drive | None:
    """What drives f, None where nothing does; Unsupported for inputs that the engine's C does not read."""
    owner = f if attribute(f, "driver") is not None else attribute(f, "__self__")
    driver = attribute(owner, "driver")
    if driver is None or not hasattr(owner, "reading"):
        return None
    if driver.coefficients.ndim != 3:
        raise Unsupported("inputs that differ between samples")
    if dtype != torch.float64:
        raise Unsupported(f"inputs of a state of dtype {dtype}")
    pieces = torch.tensor([float(len(driver.coefficients))], dtype=torch.float64)
    return Drive(owner, pieces, driver.breaks, driver.coefficients)
