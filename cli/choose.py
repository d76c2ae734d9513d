"""Resolves typed names to an experiment and a model, from the catalogues or `FILE.py:NAME`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from physid import models
from physid.cli.measured import given_columns, model_for_files, read_measured
from physid.cli.spelling import note_old_spellings
from physid.cli.typed import pair
from physid.data.catalogue import CATALOG, load
from physid.data.experiment import Experiment
from physid.errors import InputError
from physid.modelling.address import is_file_name, load_experiment_file, load_model_file, split_file_name
from physid.modelling.model import Model

SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".parquet", ".npz", ".mat")


def load_experiment(name: str, options: Mapping[str, Any], **shared: Any) -> Experiment:
    """The experiment `name` with the `options` that were given for it.

    `shared` are options of the command that some data sets know too (seed, protocol): one that knows them gets them.
    `name` is one of the catalogue, or FILE.py:NAME of an Experiment or of a function that returns one.
    """
    given = given_options(options)
    if is_file_name(name):
        return load_experiment_file(*split_file_name(name), **given)
    known = CATALOG[name].options if name in CATALOG else {}
    return load(name, **{key: value for key, value in shared.items() if key in known}, **given)


def choose_experiments(
    name: str | None, files: Sequence[Path], model: str | None, options: Mapping[str, Any], command: Mapping[str, Any]
) -> list[Experiment]:
    """The experiments that a command was given: one by name with its `options`, or those in files of measurements.

    `command` holds the command's other options. Errors: InputError for both or neither, and for options of the other.
    """
    if name is not None and is_data_file(name) and not files:
        files, name = [Path(name)], None
    if files:
        if name is not None:
            raise InputError(f"{name} and --data {files[0]} were both given: one of them says what was measured.")
        return _measured(files, model, options, command)
    if name is None:
        raise InputError("nothing to fit was given: name an EXPERIMENT of `physid list`, or a file, --data FILE.")
    others = [*given_columns(command), *(["--sigma"] if command.get("sigma") is not None else [])]
    if others:
        raise InputError(f"{', '.join(others)} belongs to --data FILE, which was not given. Give it, or leave it out.")
    return [load_experiment(name, options, seed=command["seed"], protocol=command.get("protocol"))]


def _measured(
    files: Sequence[Path], model: str | None, options: Mapping[str, Any], command: Mapping[str, Any]
) -> list[Experiment]:
    given = [name for name in given_options(options) if name != "initial"]
    if given:
        raise InputError(f"{', '.join(given)}: an option of the catalogue's data sets, not of --data. Leave it out.")
    return read_measured(files, {**command, "initial": options["initial"]}, model_for_files(model))


def is_data_file(name: str) -> bool:
    """Whether an experiment's name is that of a file of measurements."""
    return Path(name).suffix.lower() in SUFFIXES


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the data set that were given, those of --set NAME=VALUE among them."""
    given = {name: value for name, value in options.items() if name != "settings" and value is not None}
    for text in options.get("settings", ()):
        name, value = pair("set", text, hint="Write it so, as in --set noise=0.01.")
        name = name.replace("-", "_")
        if name in given:
            raise InputError(f"the option {name} is given twice. Give it once.")
        given[name] = value
    note_old_spellings(given)
    return given


def build_model(experiment: Experiment, knowledge: str | None, model: str | None) -> Model:
    """The model asked for: a rung of the ladder of knowledge, a name of the catalogue, or a class in a file."""
    if model is not None and is_file_name(model):
        return models.build(experiment, model=load_model_file(*split_file_name(model)))
    return models.build(experiment, knowledge=knowledge, model=model)
