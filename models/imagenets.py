"""The networks for images in the catalogue: their options, and the schedules of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from physid.catalog import Option, number, one_of, whole
from physid.errors import InputError
from physid.models.node18 import ANODE18, NODE18, TRAINING, ResNet18
from physid.ode import GRADIENTS, Integrator
from physid.training import Collection, Learner, Rate, Recipe
from physid.training.networks import Network

COLLECTIONS = ("cifar10", "cifar100", "images-toy")
# Zhuang et al. (2020), appendix D: how each gradient method was trained there
PAPER_SOLVERS: Mapping[str, tuple[str, float]] = {
    "aca": ("heun_euler", 1e-2),
    "naive": ("dopri5", 1e-5),
    "adjoint": ("dopri5", 1e-5),
}
SGD = {"momentum": 0.9, "weight_decay": 5e-4}
RECIPE = Recipe(30, 128, 0.1, "sgd", SGD, Rate("one-cycle"))


def milestones(epochs: int, lr: float, first: int, second: int, batch: int = 128) -> Recipe:
    """SGD with momentum and weight decay, whose rate falls to a tenth after two epochs, as in the paper."""
    return Recipe(epochs, batch, lr, "sgd", SGD, Rate("milestones", 0.1, milestones=(first, second)))


PROTOCOLS: Mapping[str, Recipe] = {
    "paper-gradients": milestones(90, 0.01, 30, 60),  # figure 7 (a, b)
    "paper-gradients-naive": milestones(90, 0.01, 30, 60, batch=32),
    "paper-90": milestones(90, 0.1, 30, 60),  # figure 7 (c, d), table 3
    "paper-350": milestones(350, 0.1, 150, 250),  # table 2
}

SIZES = {
    "width": Option("Channels of the first stage.", whole(1, 16_384), 64),
    "compile": Option("yes or no: compile f by torch.compile.", one_of("yes", "no"), "no"),
    "layout": Option("channels-last or channels-first, in memory.", one_of("channels-last", "channels-first"), None),
    "paper_compat": Option(
        "yes or no: running statistics move at every evaluation, as in the authors' code.", one_of("yes", "no"), "no"
    ),
}
SOLVER = {
    "solver": Option("A solver of `physid list`.", str),
    "gradient": Option("aca, naive or adjoint.", one_of(*PAPER_SOLVERS), "aca"),
    "rtol": Option("Relative tolerance.", number(0.0)),
    "atol": Option("Absolute tolerance; without it, that of rtol.", number(0.0)),
    "step": Option("Length of the steps, which are then fixed; t runs over [0, 1].", number(0.0, above=True)),
}


def _integrator(start: Integrator, solver: str | None, gradient: str, **how: Any) -> Integrator:
    """The integrator that was asked for; a tolerance that was not is the other one, or that of `start`."""
    rtol, atol = how["rtol"], how["atol"]
    given = [x for x in (rtol, atol) if x is not None]
    tolerances = {} if not given else {"rtol": given[0] if rtol is None else rtol, "atol": given[-1]}
    method = GRADIENTS[gradient].name
    return start.changed(step=how["step"], solver=solver or start.solver, gradient=method, **tolerances)


def _built(kind: Any, collection: Collection, options: Mapping[str, Any], **how: Any) -> Learner:
    """A network for the classes of the collection."""
    classes = collection.describe().get("classes")
    if not isinstance(classes, int):
        raise InputError(f"{collection.name} has no classes. Choose one of {', '.join(COLLECTIONS)}.")
    net: NODE18 = kind(
        classes,
        width=options["width"],
        channels_last=options["layout"] != "channels-first",
        paper_compat=options["paper_compat"] == "yes",
        **how,
    )
    return net.compile_fields() if options["compile"] == "yes" else net


def node18(collection: Collection, **options: Any) -> Learner:
    """`NODE18`; where no solver is asked for, that with which the paper trained by the gradient method."""
    solver, tolerance = PAPER_SOLVERS[options["gradient"]]
    start = replace(TRAINING, solver=solver, rtol=tolerance, atol=tolerance)
    chosen = {name: options[name] for name in SOLVER}
    return _built(NODE18, collection, options, integrator=_integrator(start, **chosen))


def resnet18(collection: Collection, **options: Any) -> Learner:
    """`ResNet18`."""
    return _built(ResNet18, collection, options)


def anode18(collection: Collection, **options: Any) -> Learner:
    """`ANODE18`."""
    return _built(ANODE18, collection, options, steps=options["steps"])


NODE = Network(
    "node18", "ODE blocks in place of residual ones.", SIZES | SOLVER, node18, RECIPE, COLLECTIONS, PROTOCOLS
)
RESIDUAL = Network("resnet18", "The same with one Euler step.", SIZES, resnet18, RECIPE, COLLECTIONS, PROTOCOLS)
EULER = Network(
    "anode18",
    "The same with Euler steps of equal length.",
    SIZES | {"steps": Option("How many steps.", whole(1), 2)},
    anode18,
    RECIPE,
    COLLECTIONS,
    PROTOCOLS,
)
