"""From what was typed to an experiment and a model: names of the catalogues, or `FILE.py:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physid import models
from physid.datasets import CATALOG, load
from physid.errors import InputError
from physid.experiment import Experiment
from physid.modelfile import is_file_name, load_experiment_file, load_model_file, split_file_name
from physid.spec import Model


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


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the data set that were given, those of --set NAME=VALUE among them."""
    given = {name: value for name, value in options.items() if name != "settings" and value is not None}
    for text in options.get("settings", ()):
        name, found, value = text.partition("=")
        if not found or not name:
            raise InputError(f"--set {text} is not NAME=VALUE. Write it so, as in --set noise=0.01.")
        name = name.strip().replace("-", "_")
        if name in given:
            raise InputError(f"the option {name} is given twice. Give it once.")
        given[name] = value
    return given


def build_model(experiment: Experiment, knowledge: str | None, model: str | None) -> Model:
    """The model asked for: a rung of the ladder of knowledge, a name of the catalogue, or a class in a file."""
    if model is not None and is_file_name(model):
        return models.build(experiment, model=load_model_file(*split_file_name(model)))
    return models.build(experiment, knowledge=knowledge, model=model)
