"""physid: physics-informed system identification.

Give the part of a differential equation that is known, name the part that is not, and `fit` it to trajectories.
Every public name is loaded when it is first used, so that `import physid` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from physid.datasets import load as load
    from physid.errors import PhysidError as PhysidError
    from physid.experiment import Experiment as Experiment
    from physid.experiment import Trajectory as Trajectory
    from physid.fitting import Fit as Fit
    from physid.fitting import fit as fit
    from physid.inputs import Inputs as Inputs
    from physid.ode import Integrator as Integrator
    from physid.ode import Solution as Solution
    from physid.ode import odeint_adjoint as odeint_adjoint
    from physid.ode import odeint_dense as odeint_dense
    from physid.ode import odeint_event as odeint_event
    from physid.ode.gradcheck import gradcheck as gradcheck
    from physid.ode.odeint import odeint as odeint
    from physid.ode.solve import solve as solve
    from physid.reading.read import read as read
    from physid.spec import Model as Model
    from physid.spec import SecondOrder as SecondOrder
    from physid.unknown import Unknown as Unknown
    from physid.unknown import between as between
    from physid.unknown import positive as positive
    from physid.unknown import real as real

__version__ = "0.1.0"

# public name -> the module it lives in
_HOMES = {
    "Experiment": "physid.experiment",
    "Fit": "physid.fitting",
    "Inputs": "physid.inputs",
    "Integrator": "physid.ode",
    "Model": "physid.spec",
    "PhysidError": "physid.errors",
    "SecondOrder": "physid.spec",
    "Solution": "physid.ode",
    "Trajectory": "physid.experiment",
    "Unknown": "physid.unknown",
    "between": "physid.unknown",
    "fit": "physid.fitting",
    "gradcheck": "physid.ode",
    "load": "physid.datasets",
    "odeint": "physid.ode",
    "odeint_adjoint": "physid.ode",
    "odeint_dense": "physid.ode",
    "odeint_event": "physid.ode",
    "positive": "physid.unknown",
    "read": "physid.reading",
    "real": "physid.unknown",
    "solve": "physid.ode",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """The public object `name`, imported from its home at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'physid' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *_HOMES})
