"""Warnings out of a model of the user's own: one line each, by file and line, however often they are given."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from physid.errors import visible


@contextmanager
def warned() -> Iterator[None]:
    """Shows a warning of a model's line once, whatever it says; other warnings as Python does."""
    before = warnings.showwarning
    told: set[tuple[object, ...]] = set()

    def show(message: Warning | str, category: type[Warning], file: str, line: int, *more: Any, **also: Any) -> None:
        models = sys.modules.get("physid.modelling.address")  # without it no model was read
        where = models and (models.spoken_at(sys._getframe(1)) or (models.is_own_file(file) and (file, line)))
        if not where:
            before(message, category, file, line, *more, **also)
        elif (category, *where) not in told:
            told.add((category, *where))
            text = f"{Path(where[0]).name}, line {where[1]}: {category.__name__}: {message}"
            click.echo(f"physid: warning: {' '.join(visible(text).split())}", err=True)

    warnings.showwarning = show  # type: ignore[assignment]  # it may be called with more
    try:
        yield
    finally:
        warnings.showwarning = before
