"""Output files of commands: checked before the work, written in one step."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from physid.errors import InputError
from physid.store import check_vacant, check_writable, write


def check_file(path: Path | None, suffixes: tuple[str, ...], option: str = "--out") -> None:
    """Refuse a `path` at which no file with one of the `suffixes` can be written. Errors: InputError."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path} does not end in {' or '.join(suffixes)}. Name the file so.")
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder. Name a file in it.")
    if path.exists() and not path.is_file():
        raise InputError(f"{option} {path} is a pipe or a device. Name a file.")
    check_writable(path, path.absolute().parent, f"{option} ")


def run_folder(path: Path | None, experiment: str) -> Path:
    """`path`, or runs/EXPERIMENT-TIME with the time in UTC to the second, where a run directory can be made.

    Errors: InputError for a folder that is not empty, and where none can be made.
    """
    if path is None:
        path = Path("runs") / f"{Path(experiment.split(':')[0]).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    check_vacant(path, "--out ")
    return path


def write_out(out: Path | None, data: bytes) -> None:
    """Write the file `out`, or else stdout."""
    if out is None:
        click.echo(data, nl=False)
    else:
        write(out, data)
