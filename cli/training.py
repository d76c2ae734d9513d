"""Training from typed options: makes the collection, the learner and the recipe, and trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from physid.catalog import Registry
from physid.cli.choose import given_options, load_experiment
from physid.cli.console import Console
from physid.cli.method import place
from physid.cli.options import NETWORK_OPTIONS, RECIPE_OPTIONS, data_options, flag_of
from physid.cli.result import show
from physid.data.catalogue import CATALOG
from physid.errors import InputError, unknown_name
from physid.inference.fit_options import FitOptions
from physid.modelling.address import is_file_name
from physid.modelling.catalogue import MODELS
from physid.training.networks import COLLECTIONS, NETWORKS, Network, collect, network

if TYPE_CHECKING:
    from physid.training import Collection, Recipe

# options of a fit that a training takes, too
TAKEN = ("epochs", "lr", "time_limit", "protocol", "seed")
# those that a network may take: of its solver, and how many are trained at once
BUILT = ("gradient", "solver", "engine", "rtol", "atol", "seeds")


def is_trained(experiment: str | None, model: str | None) -> bool:
    """Whether what was asked for is a network that is trained by batches, not a model whose unknowns are identified."""
    return _named(experiment, COLLECTIONS, CATALOG) or _named(model, NETWORKS, MODELS)


def _named(name: str | None, trained: Registry[Any], fitted: Registry[Any]) -> bool:
    """Whether a name is of the one registry, not of the other and no file's."""
    return name is not None and not fitted.owns(name) and not is_file_name(name) and name in trained


def train_command(
    console: Console, experiment: str | None, run: Path, asked: FitOptions, options: Mapping[str, Any]
) -> int:
    """Train what was asked for, print the report, and return the exit code."""
    from physid.api.train import train
    from physid.training.processes import local

    entry = _network(experiment, options["model"])
    said = asked.said()
    _refuse(entry.name, [*said], options)
    options = {**options, **{name: getattr(asked, name) for name in (*TAKEN, *BUILT)}}
    options["protocol"] = asked.protocol or "default"
    recipe = _recipe(entry, options)
    built = {name: options[name] for name in (*NETWORK_OPTIONS, "compile", *BUILT) if options.get(name) is not None}
    collection = _collection(entry, experiment, options)
    torch.manual_seed(recipe.seed)
    learner = network(entry.name, collection, **built)
    place(learner, local(options["device"]), options["dtype"] or "float32")
    if options["dry_run"]:
        tell_plan(console, entry, collection, recipe, run)
        return 0
    labels = {"protocol": options["protocol"]}
    with console.progress(f"train {collection.name}") as progress:
        found = train(
            learner, collection, recipe, out=run, progress=progress, time_limit=options["time_limit"], labels=labels
        )
    return show(console, found, run, ended=True)


def _network(experiment: str | None, model: str | None) -> Network:
    """The network that was named, or the first that takes the collection."""
    if model is None:
        taker = next((entry for _, entry in NETWORKS.each() if experiment in entry.collections), None)
        if experiment is not None and experiment not in COLLECTIONS and experiment not in CATALOG:
            raise unknown_name("experiment", experiment, [*COLLECTIONS, *CATALOG])
        if taker is None:
            raise InputError(f"{experiment} needs a --model: one of {', '.join(NETWORKS)}.")
        return taker
    if model not in NETWORKS:
        raise unknown_name(f"network for {experiment}", model, NETWORKS)
    return NETWORKS[model]


def _refuse(name: str, said: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse what belongs to fits of unknowns. Errors: InputError."""
    given = [flag_of(one) for one in said if one not in (*TAKEN, *BUILT)]
    given += ["--knowledge"] if options.get("knowledge") is not None else []
    if given:
        raise InputError(f"{given[0]} belongs to fits of unknowns, but {name} is trained by batches. Leave it out.")


def refuse_network_options(options: Mapping[str, Any]) -> None:
    """Refuse what belongs to trainings. Errors: InputError."""
    names = [name for name in (*NETWORK_OPTIONS, "compile", *RECIPE_OPTIONS) if name != "lr"]
    given = [name for name in names if options[name] not in (None, False)]
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} belongs to networks that are trained by batches, and none was asked for. "
            "Leave it out."
        )


def _recipe(entry: Network, options: Mapping[str, Any]) -> Recipe:
    """The recipe with what was asked for changed."""
    changes = {name: options[name] for name in ("epochs", *RECIPE_OPTIONS) if options[name] not in (None, False)}
    return replace(entry.choose(options["protocol"]), seed=options["seed"] or 0, **changes)


def _collection(entry: Network, experiment: str | None, options: Mapping[str, Any]) -> Collection:
    """The collection that was named, or one made of the experiment that was."""
    data = data_options(options)
    if experiment is None:
        raise InputError(f"nothing to train {entry.name} on was given: name a data set of `physid list`.")
    if experiment in COLLECTIONS:
        known = COLLECTIONS[experiment].options
        seed = {"seed": options["seed"]} if "seed" in known and options["seed"] is not None else {}
        return collect(experiment, **seed, **given_options(data))
    if entry.collect is None:
        takes = ", ".join(entry.collections)
        raise InputError(f"{entry.name} cannot be trained on {experiment}: it takes {takes}. Choose one of them.")
    if experiment not in CATALOG:
        raise unknown_name("experiment", experiment, [*CATALOG, *COLLECTIONS])
    return entry.collect(load_experiment(experiment, data, seed=options["seed"] or 0, protocol=options["protocol"]))


def tell_plan(console: Console, entry: Network, collection: Collection, recipe: Recipe, run: Path) -> None:
    """Print the plan of the training."""
    rows = [
        ("data", collection.name),
        *((name, value) for name, value in collection.describe().items()),
        ("model", entry.name),
        *((name, value) for name, value in recipe.data().items() if name not in ("rate", "options")),
        ("run directory", run),
    ]
    console.table("plan", ("what", "value"), rows)
    console.event("done", status="dry run", message="nothing was trained", **{str(k): v for k, v in rows})
