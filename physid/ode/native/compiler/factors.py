"""Factors: Python's numbers in sums and products, taken out of a graph so that other ones need no other code.

f is recorded anew for every number of Python's that has changed; with its factors beside the constants the graph is the
same, and so is its compiled code. Where a number decides what is done (exponents, bounds, branches), it stays.
"""

from __future__ import annotations

import math
from dataclasses import replace

from physid.ode.native.compiler.graph import Graph, Operation, Ref, Store

LINEAR = ("mul", "div", "add", "sub", "rsub")
PLAIN = 4.0  # halves up to it are written into the code, where 0, 1 and 2 cost less


def factored(graph: Graph) -> Graph:
    """The graph with its factors as the last constants; equal ones are one."""
    found: dict[float, int] = {}
    slot = len(graph.stores)

    def taken(step: Operation) -> Operation:
        if step.op not in LINEAR or len(step.args) != 2 or step.kwargs.keys() - {"alpha"}:
            return step
        value = step.args[1]
        if type(value) is not float or not _varies(value):
            return step
        if step.op == "div":  # a product with the reciprocal, as a literal becomes one
            if not _varies(1 / value):
                return step
            step, value = replace(step, op="mul"), 1 / value
        place = found.setdefault(value, len(found))
        return replace(step, args=(step.args[0], Ref(slot, place, (), ())))

    steps = tuple(map(taken, graph.steps))
    if not found:
        return graph
    first = sum(constant.numel() for constant in graph.constants)
    store = Store("c", len(found), tuple(range(first, first + len(found))))
    return replace(graph, steps=steps, stores=(*graph.stores, store), factors=tuple(found))


def _varies(value: float) -> bool:
    """Whether a number may as well be another one."""
    return math.isfinite(value) and value != 0 and not (abs(value) <= PLAIN and (2 * value).is_integer())
