"""Reports: text, tables and comparisons of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from physid.lazy import names as _names

if TYPE_CHECKING:
    from physid.report.comparison import Comparison as Comparison
    from physid.report.text import Report as Report

# name -> the module it lives in
_HOMES = {"Comparison": "physid.report.comparison", "Report": "physid.report.text"}

__all__ = ["Comparison", "Report"]

__getattr__ = _names(__name__, _HOMES)
