"""The eager engine: march, stages, dense output, checkpoints and pullbacks in torch."""

from __future__ import annotations
