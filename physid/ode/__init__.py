"""The engine: ODE solves with swappable solvers, controllers and gradient methods."""

from __future__ import annotations

from physid.ode.adjoint import Adjoint
from physid.ode.control import CONTROLS, PID, Control, Fixed
from physid.ode.flow import Forward
from physid.ode.gradients import ACA, Gradient, Naive
from physid.ode.methods import GRADIENTS
from physid.ode.sensitivities import Sensitivity, sensitivities
from physid.ode.solution import Solution, SolveError, Statistics, Status
from physid.ode.solve import Integrator, solve
from physid.ode.tableaus import METHODS, Tableau

__all__ = [
    "ACA",
    "CONTROLS",
    "GRADIENTS",
    "METHODS",
    "PID",
    "Adjoint",
    "Control",
    "Fixed",
    "Forward",
    "Gradient",
    "Integrator",
    "Naive",
    "Sensitivity",
    "Solution",
    "SolveError",
    "Statistics",
    "Status",
    "Tableau",
    "sensitivities",
    "solve",
]
