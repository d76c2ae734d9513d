"""Reports: text, tables and comparisons of what was found."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from physid.report.comparison import Comparison as Comparison
    from physid.report.text import Report as Report

# name -> the module it lives in
_HOMES = {"Comparison": "physid.report.comparison", "Report": "physid.report.text"}

__all__ = ["Comparison", "Report"]


def __getattr__(name: str) -> Any:
    """The object `name`, imported from its home at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
