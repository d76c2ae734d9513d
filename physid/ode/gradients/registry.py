"""The gradient methods by name."""

from __future__ import annotations

from dataclasses import replace

from physid.catalog import Registry
from physid.errors import InputError
from physid.ode.gradients.aca import ACA, Gradient, Naive
from physid.ode.gradients.adjoint import Adjoint
from physid.ode.gradients.forward import Forward

GRADIENTS: Registry[Gradient] = Registry(
    "gradient method", {"aca": ACA(), "naive": Naive(), "adjoint": Adjoint(), "forward": Forward()}
)


def check_probes(gradient: Gradient) -> None:
    """InputError where probes are of no use to a gradient method."""
    if isinstance(gradient, Forward) or (isinstance(gradient, ACA) and not gradient.step_aware):
        return
    name = "aca, step-aware" if isinstance(gradient, ACA) else gradient.name
    raise InputError(
        f"probes with gradient '{name}', whose steps they would have to be differentiated through or do not bear upon: "
        "gradients 'aca' and 'forward' are allowed. Leave probes out, or choose one of these."
    )


def lookup(gradient: Gradient | str, checkpoints: int | None = None) -> Gradient:
    """The gradient method of that name; values pass through. Only ACA takes a budget of `checkpoints`."""
    if isinstance(gradient, str):
        gradient = GRADIENTS.lookup(gradient)
    if checkpoints is None:
        return gradient
    if not isinstance(gradient, ACA):
        raise InputError(
            f"checkpoints={checkpoints} with gradient '{gradient.name}': it keeps no states; use gradient='aca'."
        )
    return replace(gradient, checkpoints=checkpoints)
