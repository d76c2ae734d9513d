"""physid: physics-informed system identification.

Give the part of a differential equation that is known, name the part that is not, and `fit` it to trajectories.
Every public name is loaded when it is first used, so that `import physid` costs nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from physid.api.fit import Fit as Fit
    from physid.api.fit import fit as fit
    from physid.data.catalogue import load as load
    from physid.data.experiment import Experiment as Experiment
    from physid.data.experiment import Trajectory as Trajectory
    from physid.data.inputs import Inputs as Inputs
    from physid.errors import PhysidError as PhysidError
    from physid.inference.fit_options import FitOptions as FitOptions
    from physid.modelling.model import Derived as Derived
    from physid.modelling.model import Model as Model
    from physid.modelling.model import SecondOrder as SecondOrder
    from physid.modelling.unknown import Unknown as Unknown
    from physid.modelling.unknown import between as between
    from physid.modelling.unknown import positive as positive
    from physid.modelling.unknown import real as real
    from physid.ode import Integrator as Integrator
    from physid.ode import Solution as Solution
    from physid.ode import odeint_adjoint as odeint_adjoint
    from physid.ode import odeint_dense as odeint_dense
    from physid.ode import odeint_event as odeint_event
    from physid.ode.gradcheck import gradcheck as gradcheck
    from physid.ode.odeint import odeint as odeint
    from physid.ode.solve import solve as solve
    from physid.reading.read import read as read

from physid.lazy import names as _names
from physid.moved import Moved

sys.meta_path.insert(0, Moved)  # before the finder of files, which would find some of them twice

__version__ = "0.1.0"

# public name -> the module it lives in
_HOMES = {
    "Derived": "physid.modelling.model",
    "Experiment": "physid.data.experiment",
    "Fit": "physid.api.fit",
    "FitOptions": "physid.inference.fit_options",
    "Inputs": "physid.data.inputs",
    "Integrator": "physid.ode",
    "Model": "physid.modelling.model",
    "PhysidError": "physid.errors",
    "SecondOrder": "physid.modelling.model",
    "Solution": "physid.ode",
    "Trajectory": "physid.data.experiment",
    "Unknown": "physid.modelling.unknown",
    "between": "physid.modelling.unknown",
    "fit": "physid.api.fit",
    "gradcheck": "physid.ode",
    "load": "physid.data.catalogue",
    "odeint": "physid.ode",
    "odeint_adjoint": "physid.ode",
    "odeint_dense": "physid.ode",
    "odeint_event": "physid.ode",
    "positive": "physid.modelling.unknown",
    "read": "physid.reading",
    "real": "physid.modelling.unknown",
    "solve": "physid.ode",
}

__all__ = ["__version__", *sorted(_HOMES)]

__getattr__ = _names(__name__, _HOMES)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *_HOMES})
