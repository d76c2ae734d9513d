"""Recording of f on one sample: its graph, and the code that ran as it was evaluated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from physid.ode.native.compiler.all_rules import TABLE
from physid.ode.native.compiler.driving_inputs import drive_of
from physid.ode.native.compiler.trace import Graph, Unsupported, trace
from physid.ode.native.witness import Witness, witness
from physid.ode.problem import ODEProblem
from physid.ode.rhs import Field, StateLayout

T = TypeVar("T")


def lane_field(problem: ODEProblem, f: Any, captured: list[Tensor]) -> Field:
    """f on one lane."""
    layout = problem.layout
    y0 = layout.unpack(problem.y0.detach())
    if layout.batched:
        y0 = y0[:1] if isinstance(y0, Tensor) else tuple(part[:1] for part in y0)
    return Field(f, StateLayout(y0, layout.batched), captured)


def traced(
    one: Field,
    problem: ODEProblem,
    captured: Sequence[Tensor],
    bake: bool = True,
    counters: Collection[int] = frozenset(),
) -> Graph:
    """The graph of f, which may count by `counters`; Unsupported, with the reason, where it cannot be recorded."""
    y, t = problem.y0.detach()[: one.layout.width], problem.grid[0, :1].to(problem.layout.real)
    t = t if problem.layout.batched else t[0]
    drive = drive_of(one.f, y.dtype)
    try:
        return trace(one, t, y, captured, TABLE.__contains__, bake, drive, counters)
    except Unsupported:
        raise
    except Exception as error:
        batch = " of one sample" if one.layout.batched else ""
        raise Unsupported(f"f cannot be recorded{batch} ({in_short(error)})") from None


def looked_at(problem: ODEProblem) -> Witness:
    """What runs in one more evaluation of f at the start; Unsupported where f fails in it."""
    return once_more(problem, witness)


def once_more(problem: ODEProblem, look: Callable[[Callable[[], object]], T]) -> T:
    """What a look at one more evaluation of f at the start sees; Unsupported where f fails in it."""
    field = problem.field
    count = field.count
    try:
        with torch.no_grad(), field.unseen():
            return look(lambda: field(problem.start, problem.y0.detach()))
    except Exception as error:
        raise Unsupported(f"f fails when it is evaluated once more ({in_short(error)})") from None
    finally:
        field.count = count


def in_short(error: Exception) -> str:
    """An exception of f in one line."""
    first = (str(error).splitlines() or [""])[0][:160]
    return f"{type(error).__name__}: {first}"
