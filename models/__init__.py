"""Models by name, and for each experiment the levels of knowledge, from none to full."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from physid.data.catalogue import CATALOG
from physid.data.experiment import Experiment
from physid.errors import InputError, unknown_name
from physid.modelling.answers import made
from physid.modelling.catalogue import MODELS
from physid.modelling.model import Model, keyword_names
from physid.models.augmented import Augmented, AugmentedNetwork, SparseAugmented
from physid.models.blackbox import BlackBox, BlackBoxMotion, IsolatedMotion, force_scale, rate_scale
from physid.models.classics import Exponential, LotkaVolterra, Pendulum, VanDerPol
from physid.models.gravity import NewtonGravity, PlanetaryGravity, PointMasses
from physid.models.measured import Carriage, CascadedTanks
from physid.models.residual import GravityResidual, PendulumResidual, Residual
from physid.training.networks import NETWORKS, Network, network

if TYPE_CHECKING:
    from physid.models.latent_ode import LatentODE as LatentODE

    LADDER: dict[tuple[str, str], Callable[[Experiment], Model]]

__all__ = [
    "LADDER",
    "MODELS",
    "NETWORKS",
    "Augmented",
    "AugmentedNetwork",
    "BlackBox",
    "BlackBoxMotion",
    "Carriage",
    "CascadedTanks",
    "Exponential",
    "GravityResidual",
    "IsolatedMotion",
    "LatentODE",
    "LotkaVolterra",
    "Network",
    "NewtonGravity",
    "Pendulum",
    "PendulumResidual",
    "PlanetaryGravity",
    "PointMasses",
    "Residual",
    "SparseAugmented",
    "VanDerPol",
    "build",
    "make",
    "network",
]

MODELS.update(
    {
        "augmented": Augmented,
        "augmented-mlp": AugmentedNetwork,
        "augmented-sparse": SparseAugmented,
        "blackbox": BlackBox,
        "blackbox-isolated": IsolatedMotion,
        "blackbox-motion": BlackBoxMotion,
        "carriage": Carriage,
        "cascaded-tanks": CascadedTanks,
        "exponential": Exponential,
        "gravity": NewtonGravity,
        "gravity-residual": GravityResidual,
        "lotka-volterra": LotkaVolterra,
        "pendulum": Pendulum,
        "pendulum-residual": PendulumResidual,
        "planetary": PlanetaryGravity,
        "vanderpol": VanDerPol,
    }
)
NETWORKS.place(
    {
        "node18": "physid.models.imagenets:NODE",
        "resnet18": "physid.models.imagenets:RESIDUAL",
        "anode18": "physid.models.imagenets:EULER",
        "latent-ode": "physid.models.forecasters:LATENT_ODE",
        "rnn": "physid.models.forecasters:RNN",
        "gru": "physid.models.forecasters:GRU",
        "lstm": "physid.models.lstm:PLAIN",
        "lstm-aug": "physid.models.lstm:AUGMENTED",
    }
)


def make(cls: type[Model], experiment: Experiment) -> Model:
    """A `cls` with those starting values, constants and sizes of the experiment that it takes as keywords.

    So a subclass of the usual model of an experiment is made like that model, and a stranger from its own guesses.
    """
    shape = experiment.initial.shape
    sizes: dict[str, object] = (
        {"bodies": shape[1], "dimension": shape[2]} if len(shape) == 3 else {"states": shape.numel()}
    )
    measured = experiment.train.observations[experiment.train.mask]
    spread = float(measured.std()) if len(measured) > 1 else 0.0
    sizes |= {"state_scale": experiment.initial_scale, "length_scale": spread or 1.0}
    sizes = {name: size for name, size in sizes.items() if name not in cls.unknowns}
    offered = {**sizes, **experiment.constants, **experiment.start}
    for name, measure in (("force_scale", force_scale), ("rate_scale", rate_scale)):
        if name in keyword_names(cls):
            offered[name] = measure(experiment)
    taken = {name: offered[name] for name in keyword_names(cls) if name in offered}
    return made(cls, **taken)


def build(
    experiment: Experiment, knowledge: str | None = None, model: str | type[Model] | Model | None = None
) -> Model:
    """The model of an experiment: a rung of its ladder ("full" by default), a name, a class, or an instance as it is.

    Errors: InputError for an unknown name, for both `knowledge` and `model`, and when the model's state has another
    shape than the experiment's.
    """
    if model is None:
        return _checked(_rung(experiment, knowledge or "full")(experiment), experiment)
    if knowledge is not None:
        raise InputError(f"knowledge {knowledge!r} and a model were both given: a model says what is known. Give one.")
    if isinstance(model, str):
        if model not in MODELS and model not in NETWORKS:
            raise unknown_name("model", model, (*MODELS, *NETWORKS))
        model = MODELS.lookup(model)
    if isinstance(model, type) and issubclass(model, Model):
        model = make(model, experiment)
    if not isinstance(model, Model):
        raise InputError(f"the model is of type {type(model).__name__}: expected a name, a Model or a subclass of it.")
    return _checked(model, experiment)


def _rung(experiment: Experiment, knowledge: str) -> Callable[[Experiment], Model]:
    """The function that makes the model of an experiment at a level of knowledge."""
    levels = CATALOG.lookup(experiment.name).knowledge if experiment.name in CATALOG else {}
    if not levels:
        raise InputError(
            f"no model belongs to the experiment '{experiment.name}': name one of {', '.join(MODELS)}, "
            "or give a class of your own."
        )
    if knowledge not in levels:
        raise unknown_name(f"knowledge for {experiment.name}", knowledge, levels)
    return partial(make, MODELS.lookup(levels[knowledge]))


def _checked(model: Model, experiment: Experiment) -> Model:
    """The model, if its states have the shape of the experiment's."""
    found, needed = tuple(model.state_shape), tuple(experiment.initial.shape)
    if found != needed:
        raise InputError(
            f"{type(model).__name__} has states of shape {list(found)}, but experiment {experiment.name} has "
            f"{list(needed)}. Choose a model of that shape (set state_names or state_shape in a model of your own)."
        )
    return model


def __getattr__(name: str) -> Any:
    """LADDER, (experiment, knowledge) -> what makes the model for it; LatentODE, at its first use (PEP 562)."""
    if name == "LADDER":
        return {
            (data.name, level): partial(build, knowledge=level)
            for _, data in CATALOG.each()
            for level in data.knowledge
        }
    if name == "LatentODE":
        from physid.models.latent_ode import LatentODE

        return LatentODE
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
