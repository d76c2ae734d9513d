"""The optimizer of a fit in its run directory: by its name, or as FILE.py:NAME with the file's sha256."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import physid.door as door
from physid.errors import InputError
from physid.inference.search.catalogue import OPTIMIZERS, name_of
from physid.modelling.address import is_file_name, split_file_name


def reference(given: Any) -> str | None:
    """Name of an optimizer in a run: its own, or as `FILE.py:NAME`; None for one that has neither, and for none."""
    if given is None:
        return None
    if isinstance(given, str):
        path, name = split_file_name(given)
        return f"{path.resolve()}:{name}" if is_file_name(given) else given
    known = OPTIMIZERS.name_of(given)
    if known is not None:
        return known
    name, module = getattr(given, "__qualname__", ""), sys.modules.get(getattr(given, "__module__", ""))
    file = getattr(module, "__file__", None)
    return f"{Path(file).resolve()}:{name}" if file and getattr(module, name, None) is given else None


def check_optimizer(given: Any) -> None:
    """Errors: InputError for an optimizer that no run directory can name: it is found again by a name or in a file."""
    if reference(given) is None:
        raise InputError(
            f"optimizer {name_of(given)} is code that a run directory cannot name: the name of an installed one or "
            "FILE.py:NAME is kept. Put it at the top of a file, or fit without a run directory."
        )


def file_sums(given: Any) -> dict[str, str]:
    """The sha256 of the file that an optimizer is in; nothing for one that is in none."""
    name = reference(given)
    if name is None or not is_file_name(name):
        return {}
    return {"optimizer_sha256": hashlib.sha256(door.read(split_file_name(name)[0], door.SOURCE)).hexdigest()}


def check_trusted(request: Mapping[str, Any], trust: bool) -> None:
    """Errors: InputError for an optimizer in a file that is not trusted, or has changed since the run was made."""
    name = request["asked"].get("optimizer")
    if not isinstance(name, str) or not is_file_name(name):
        return
    path, _ = split_file_name(name)
    if not trust:
        raise InputError(
            f"the run's optimizer {name} is code, which would have to be executed. If you trust that file, say so: "
            "--trust, or Fit.resume(folder, trust=True)."
        )
    source = door.read(path, door.SOURCE) if path.is_file() else b""
    if hashlib.sha256(source).hexdigest() != request["identity"].get("optimizer_sha256"):
        raise InputError(f"{path}, the run's optimizer, is missing or has changed since the fit. Fit again.")
