"""Models by name, and for each experiment the ladder of knowledge: how much of its physics a model is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from physid.data.experiment import Experiment
from physid.errors import InputError, unknown_name
from physid.modelling.answers import made
from physid.modelling.model import Model, keyword_names
from physid.models import forecasters, imagenets, lstm
from physid.models.augmented import Augmented, AugmentedNetwork, SparseAugmented
from physid.models.blackbox import BlackBox, BlackBoxMotion, IsolatedMotion, force_scale, rate_scale
from physid.models.classics import Exponential, LotkaVolterra, Pendulum, VanDerPol
from physid.models.gravity import NewtonGravity, PlanetaryGravity, PointMasses
from physid.models.latent_ode import LatentODE
from physid.models.measured import Carriage, CascadedTanks
from physid.models.networks import NETWORKS, Network, network
from physid.models.residual import GravityResidual, PendulumResidual, Residual

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

MODELS: Mapping[str, type[Model]] = {
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


NETWORKS.update({entry.name: entry for entry in (*imagenets.NETWORKS, *forecasters.ENTRIES, *lstm.ENTRIES)})


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


# (experiment, knowledge) -> what makes the model for it
LADDER: Mapping[tuple[str, str], Callable[[Experiment], Model]] = {
    ("emps", "full"): partial(make, Carriage),
    ("exponential", "full"): partial(make, Exponential),
    ("exponential", "none"): partial(make, BlackBox),
    ("lotka-volterra", "full"): partial(make, LotkaVolterra),
    ("lotka-volterra", "none"): partial(make, BlackBox),
    ("lynxhare", "full"): partial(make, LotkaVolterra),
    ("pendulum", "full"): partial(make, Pendulum),
    ("solarsystem", "full"): partial(make, PlanetaryGravity),
    ("tanks", "full"): partial(make, CascadedTanks),
    ("threebody", "full"): partial(make, NewtonGravity),
    ("threebody", "none"): partial(make, BlackBoxMotion),
    ("threebody", "partial"): partial(make, Augmented),
    ("vanderpol", "full"): partial(make, VanDerPol),
    ("vanderpol", "none"): partial(make, BlackBox),
}


def build(
    experiment: Experiment, knowledge: str | None = None, model: str | type[Model] | Model | None = None
) -> Model:
    """The model of an experiment: a rung of its ladder ("full" unless told), a name, a class, or an instance as it is.

    Errors: InputError for an unknown name, for both `knowledge` and `model`, and when the model's state has another
    shape than the experiment's.
    """
    if model is None:
        return _checked(_rung(experiment, knowledge or "full")(experiment), experiment)
    if knowledge is not None:
        raise InputError(f"knowledge {knowledge!r} and a model were both given: a model says what is known. Give one.")
    if isinstance(model, str):
        if model not in MODELS:
            raise unknown_name("model", model, MODELS if model in NETWORKS else (*MODELS, *NETWORKS))
        model = MODELS[model]
    if isinstance(model, type) and issubclass(model, Model):
        model = make(model, experiment)
    if not isinstance(model, Model):
        raise InputError(
            f"the model is of type {type(model).__name__}: a name, a Model or a subclass of it is allowed."
        )
    return _checked(model, experiment)


def _rung(experiment: Experiment, knowledge: str) -> Callable[[Experiment], Model]:
    """What makes the model of an experiment at a level of knowledge."""
    levels = [level for name, level in LADDER if name == experiment.name]
    if not levels:
        raise InputError(
            f"no model belongs to the experiment '{experiment.name}': name one of {', '.join(MODELS)}, "
            "or give a class of your own."
        )
    if knowledge not in levels:
        raise unknown_name(f"knowledge for {experiment.name}", knowledge, levels)
    return LADDER[experiment.name, knowledge]


def _checked(model: Model, experiment: Experiment) -> Model:
    """The model, if its states have the shape of the experiment's."""
    found, needed = tuple(model.state_shape), tuple(experiment.initial.shape)
    if found != needed:
        raise InputError(
            f"{type(model).__name__} has states of shape {list(found)}, but experiment {experiment.name} has "
            f"{list(needed)}. Choose a model of that shape (set state_names or state_shape in a model of your own)."
        )
    return model
