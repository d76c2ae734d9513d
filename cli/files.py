"""Output files: checked before the work, written beside their place and moved there, so that none is ever partial."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click

from physid.errors import InputError
from physid.store import writing


def check_file(path: Path, suffixes: tuple[str, ...], option: str = "--out") -> Path:
    """`path`, if a file with one of the `suffixes` can be written there; InputError before any work otherwise."""
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path} does not end in {' or '.join(suffixes)}. Name the file so.")
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder. Name a file in it.")
    if path.exists() and not path.is_file():
        raise InputError(f"{option} {path} is a pipe or a device. Name a file.")
    check_writable(path, option)
    return path


def check_run_folder(path: Path) -> Path:
    """`path`, if a run directory can be made there: new or empty, in a folder that can be written."""
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"--out {path} exists and is not empty. Choose another folder or remove it.")
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path} is a file. Choose the name of a new folder.")
    check_writable(path)
    return path


def default_folder(experiment: str) -> Path:
    """runs/EXPERIMENT-TIME, with the time in UTC to the second."""
    name = Path(experiment.split(":")[0]).stem
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def check_writable(path: Path, option: str = "--out") -> None:
    """Nothing, if something can be made at `path`; InputError otherwise."""
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{option} {path}: {folder} is not a folder. Choose another place.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: the folder {folder} cannot be written. Choose another place.")


def write_out(out: Path | None, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill the file `out`, or else stdout."""
    if out is not None:
        write_atomically(out, write)
        return
    text = io.BytesIO()
    write(text)
    click.echo(text.getvalue(), nl=False)


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it to `path` in one step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as file:
            write(file)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from error
