"""All supported operations: importing this module fills the table."""

from __future__ import annotations

from physid.ode.native.compiler import linear_solve, pointwise, reduce, scan, shapes, softmax
from physid.ode.native.compiler.rules import TABLE

__all__ = ["TABLE", "linear_solve", "pointwise", "reduce", "scan", "shapes", "softmax"]
