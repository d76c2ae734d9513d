"""Fitting: from a trajectory to identified unknowns, with their uncertainty."""

from __future__ import annotations

from physid.fitting.estimates import Estimate
from physid.fitting.identify import fit
from physid.fitting.plan import OPTIMIZERS, PROTOCOLS, STRATEGIES, default_integrator
from physid.fitting.result import Fit
from physid.fitting.statistics import Statistics

__all__ = [
    "OPTIMIZERS",
    "PROTOCOLS",
    "STRATEGIES",
    "Estimate",
    "Fit",
    "Statistics",
    "default_integrator",
    "fit",
]
