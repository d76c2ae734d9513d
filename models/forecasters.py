"""The networks for irregular series, as the catalogue has them: options and recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from physid.catalog import Option, number, one_of, whole
from physid.models.latent_ode import REMEMBERING, SAMPLES, LatentODE
from physid.models.recurrent import Decaying, Recurrent
from physid.ode import METHODS, Integrator
from physid.training import Collection, Rate, Recipe
from physid.training.networks import Network

PAPER = Recipe(
    epochs=300, batch=50, lr=0.01, optimizer="adamax", rate=Rate("exponential", 0.999, floor=0.1, per="iteration")
)
COLLECTIONS = ("hopper", "series")


def _channels(collection: Any) -> int:
    return len(collection.channels)


def latent_ode(collection: Collection, **options: Any) -> LatentODE:
    """A latent ODE with as many channels as the collection has."""
    sizes = {name: options[name] for name in ("latent", "recognition", "width", "depth", "units", "samples")}
    gradient = REMEMBERING if options["gradient"] == "aca" else options["gradient"]
    integrator = Integrator(
        options["solver"], options["rtol"], options["atol"], gradient=gradient, engine=options["engine"]
    )
    return LatentODE(_channels(collection), **sizes, integrator=integrator, own_steps=options["steps"] == "own")


def recurrent(collection: Collection, **options: Any) -> Recurrent:
    """The network with time gaps."""
    return Recurrent(_channels(collection), **options)


def decaying(collection: Collection, **options: Any) -> Decaying:
    """The network with decay."""
    return Decaying(_channels(collection), **options)


LATENT = {
    "solver": Option("Solver of the decoder.", one_of(METHODS), "dopri5"),
    "gradient": Option("Gradient method of the decoder.", one_of("aca", "naive", "adjoint"), "aca"),
    "engine": Option("Engine of the decoder.", one_of("auto", "native", "eager"), "eager"),
    "rtol": Option("Relative tolerance of the decoder.", number(0.0), 1e-3),
    "atol": Option("Absolute tolerance of the decoder.", number(0.0), 1e-4),
    "steps": Option(
        "One step for the whole batch (shared), or each sample its own (own).", one_of("shared", "own"), "shared"
    ),
    "latent": Option("Components of the hidden state.", whole(1, 16_384), 15),
    "recognition": Option("Components of the encoder's state.", whole(1, 16_384), 30),
    "width": Option("Units of a layer of the two fields.", whole(1, 16_384), 300),
    "depth": Option("Hidden layers of the two fields after the first.", whole(0, 100), 3),
    "units": Option("Units of the gates.", whole(1, 16_384), 100),
    "samples": Option("Draws of the hidden state.", whole(1, 16_384), SAMPLES),
}
SIZES = {
    "hidden": Option("Components of the state.", whole(1, 16_384), 15),
    "width": Option("Units between state and prediction.", whole(1, 16_384), 300),
}
LATENT_ODE = Network(
    "latent-ode", "An encoder, an unknown differential equation, a decoder.", LATENT, latent_ode, PAPER, COLLECTIONS
)
RNN = Network("rnn", "A recurrent network with the time gaps as inputs.", SIZES, recurrent, replace(PAPER), COLLECTIONS)
GRU = Network("gru", "A recurrent network that forgets in time.", SIZES, decaying, replace(PAPER), COLLECTIONS)
