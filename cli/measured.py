"""The options that say what the columns of a data file are, shared by `fit`, `data` and `check`, and the reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from physid.cli.options import DATA
from physid.cli.sections import option
from physid.cli.typed import number, pairs
from physid.errors import InputError

if TYPE_CHECKING:
    from physid.data.experiment import Experiment
    from physid.modelling.model import Model

F = TypeVar("F", bound=Callable[..., Any])

MEASURED = "Your own data"
COLUMN_OPTIONS: dict[str, tuple[str, str]] = {
    "time": ("COLUMN", "The column of times. [default: t, time, times or year]"),
    "channels": ("COLUMNS", "What was measured, as in x,y. [default: as the model names them]"),
    "inputs": ("COLUMNS", "What drove the system, as in force,wind. [default: as the model names them]"),
    "group": ("COLUMN", "The column of experiments' names. [default: experiment]"),
    "units": ("UNITS", "Units that the header does not say, as in x=mm,t=s."),
    "interpolation": ("KIND", "Inputs between samples: hold, linear or cubic, or force=linear,wind=hold."),
}


def column_options(command: F) -> F:
    """Add the options about columns to `command`, which gets them as text or None."""
    for name, (metavar, text) in reversed(COLUMN_OPTIONS.items()):
        command = option(f"--{name}", name, section=MEASURED, metavar=metavar, help=text)(command)
    return command


def brief_column_options(command: F) -> F:
    """Add the options about columns to `command`, with one line of help for all."""
    first, *others = COLUMN_OPTIONS
    about = COLUMN_OPTIONS[first][0], f"And {', '.join(f'--{name}' for name in others)}: see physid data."
    record = f"--{first} {about[0]}", about[1]
    for name, (metavar, _) in reversed(COLUMN_OPTIONS.items()):
        command = option(f"--{name}", name, section=DATA, metavar=metavar, hidden=name != first, record=record)(command)
    return command


def column_wishes(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options about columns as arguments of `physid.read` and `physid.reading.describe`."""
    found: dict[str, Any] = {"time": options["time"], "experiment": options["group"]}
    for name in ("channels", "inputs"):
        text = options[name]
        found[name] = None if text is None else [part.strip() for part in text.split(",") if part.strip()]
    found["units"] = pairs("units", options["units"]) if options["units"] else None
    kind = options["interpolation"]
    found["interpolation"] = pairs("interpolation", kind) if kind and "=" in kind else kind
    return found


def given_columns(options: Mapping[str, Any]) -> list[str]:
    """The options about columns that were given."""
    return [f"--{name}" for name in COLUMN_OPTIONS if options.get(name) is not None]


def initial_wish(text: str | None) -> str | dict[str, float]:
    """--initial as an argument of `physid.read`: free, known, or numbers by state."""
    if text is None or "=" not in text:
        return text or "free"
    hint = "Write it as in x=0.1,v=0."
    return {name: number("initial", f"{name}={value}", hint) for name, value in pairs("initial", text).items()}


def read_measured(paths: Sequence[Path], options: Mapping[str, Any], model: Model) -> list[Experiment]:
    """The experiments in files for a model."""
    from physid.reading import read

    wishes = column_wishes(options)
    return read(paths, model=model, initial=initial_wish(options["initial"]), sigma=options["sigma"], **wishes)


def model_for_files(name: str | None) -> Model:
    """The model that --model names, from its own guesses; InputError without one."""
    from physid.modelling.address import is_file_name, load_model_file, split_file_name
    from physid.modelling.answers import made
    from physid.modelling.catalogue import MODELS

    if name is None:
        raise InputError(
            "--data needs --model: the physics of a file of yours. Name FILE.py:CLASS, or one of the list."
        )
    if is_file_name(name):
        return made(load_model_file(*split_file_name(name)))
    return made(MODELS.lookup(name))
