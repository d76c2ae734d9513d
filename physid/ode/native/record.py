"""A problem's f on one lane, and its record as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from physid.ode.field import Field, Layout
from physid.ode.native.driven import drive_of
from physid.ode.native.ops import TABLE
from physid.ode.native.trace import Graph, Unsupported, trace
from physid.ode.problem import Problem


def lane_field(problem: Problem, f: Any, captured: list[Tensor]) -> Field:
    """f on one lane."""
    layout = problem.layout
    y0 = layout.unpack(problem.y0.detach())
    if layout.batched:
        y0 = y0[:1] if isinstance(y0, Tensor) else tuple(part[:1] for part in y0)
    return Field(f, Layout(y0, layout.batched), captured)


def traced(one: Field, problem: Problem, captured: Sequence[Tensor], bake: bool = True) -> Graph:
    """The graph of f; Unsupported, with the reason, where it cannot be recorded."""
    y, t = problem.y0.detach()[: one.layout.width], problem.grid[0, :1].to(problem.layout.real)
    t = t if problem.layout.batched else t[0]
    drive = drive_of(one.f, y.dtype)
    try:
        return trace(one, t, y, captured, TABLE.__contains__, bake, drive)
    except Unsupported:
        raise
    except Exception as error:
        batch = " of one sample" if one.layout.batched else ""
        first = (str(error).splitlines() or [""])[0][:160]
        raise Unsupported(f"f cannot be recorded{batch} ({type(error).__name__}: {first})") from None
