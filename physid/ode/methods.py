"""The gradient methods by name."""

from __future__ import annotations

from physid.errors import unknown_name
from physid.ode.adjoint import Adjoint
from physid.ode.flow import Forward
from physid.ode.gradients import ACA, Gradient, Naive

GRADIENTS: dict[str, Gradient] = {"aca": ACA(), "naive": Naive(), "adjoint": Adjoint(), "forward": Forward()}


def lookup(gradient: Gradient | str) -> Gradient:
    """The gradient method of that name; values pass through."""
    if not isinstance(gradient, str):
        return gradient
    if gradient not in GRADIENTS:
        raise unknown_name("gradient method", gradient, GRADIENTS)
    return GRADIENTS[gradient]
