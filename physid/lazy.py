"""Lazy names: imports a package's public names at first use (PEP 562), and resolves its former names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from physid.moved import named


def names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: `homes` says in which module each of its names stands.

    Errors: AttributeError for a name that it never had.
    """

    def get(name: str) -> Any:
        if name not in homes:
            return named(package, name)
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
