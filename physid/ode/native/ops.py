"""All supported operations: importing this module fills the table."""

from __future__ import annotations

from physid.ode.native import arrange, pointwise, reduce, scan
from physid.ode.native.table import TABLE

__all__ = ["TABLE", "arrange", "pointwise", "reduce", "scan"]
