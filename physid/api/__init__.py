"""The calls of a user that join inference, prediction, reports and run directories."""

from __future__ import annotations
