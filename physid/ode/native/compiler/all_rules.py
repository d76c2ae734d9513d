"""All supported operations: importing this module fills the table."""

from __future__ import annotations

from physid.ode.native.compiler import pointwise, reduce, scan, shapes
from physid.ode.native.compiler.rules import TABLE

__all__ = ["TABLE", "pointwise", "reduce", "scan", "shapes"]
