"""Old spellings, which are read as ever, with a note that says the one of now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from physid.errors import visible

# name of the option -> how it was once written, and how it is now
OLD = {
    "window": (re.compile(r"\s*(\d[\d.]*)\s*[- ,]\s*(\d[\d.]*)\s*"), r"\1:\2"),
    "holdout": (re.compile(r"after:(.+)"), r"\1:"),
}


def note_old_spellings(given: Mapping[str, Any]) -> None:
    """Say how the values of options are written now, where one is not."""
    for name, (old, new) in OLD.items():
        value = given.get(name)
        found = old.fullmatch(value) if isinstance(value, str) else None
        if found is not None:
            text = f"{name}={value} is now written {name}={found.expand(new)}."
            click.echo(f"physid: note: {visible(text)}", err=True)
