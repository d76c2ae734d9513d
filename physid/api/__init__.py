"""User calls: `fit`, `train` and `open`, which join inference, prediction, reports and run directories."""

from __future__ import annotations
