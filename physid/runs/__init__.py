"""Run directories: written while a fit or training runs, read, resumed and verified."""

from __future__ import annotations
