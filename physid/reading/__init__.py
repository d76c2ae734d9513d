"""Reading measurements: files of text and numbers become experiments, with every doubt an error that says where."""

from __future__ import annotations

from physid.reading.describe import describe
from physid.reading.read import read

__all__ = ["describe", "read"]
