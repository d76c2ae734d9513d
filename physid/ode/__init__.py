"""The engine: ODE solves with swappable solvers, controllers and gradient methods."""

from __future__ import annotations

from physid.ode.backend import Backend
from physid.ode.caching import clear_caches
from physid.ode.control import CONTROLS, PID, Control, Fixed
from physid.ode.dense import DenseSolution, odeint_dense
from physid.ode.gradcheck import GradientAudit, gradcheck, toy
from physid.ode.gradients import ACA, GRADIENTS, Adjoint, Forward, Gradient, Naive, with_pullback
from physid.ode.methods.catalogue import METHODS, Tableau
from physid.ode.misfit import misfit
from physid.ode.odeint import odeint, odeint_adjoint, odeint_event
from physid.ode.probes import Probes
from physid.ode.problem import ODEProblem
from physid.ode.sensitivities import Sensitivity, sensitivities
from physid.ode.solution import Solution, SolveError, Statistics, Status
from physid.ode.solve import Integrator, solve

__all__ = [
    "ACA",
    "CONTROLS",
    "GRADIENTS",
    "METHODS",
    "PID",
    "Adjoint",
    "Backend",
    "Control",
    "DenseSolution",
    "Fixed",
    "Forward",
    "Gradient",
    "GradientAudit",
    "Integrator",
    "Naive",
    "ODEProblem",
    "Probes",
    "Sensitivity",
    "Solution",
    "SolveError",
    "Statistics",
    "Status",
    "Tableau",
    "clear_caches",
    "gradcheck",
    "misfit",
    "odeint",
    "odeint_adjoint",
    "odeint_dense",
    "odeint_event",
    "sensitivities",
    "solve",
    "toy",
    "with_pullback",
]
