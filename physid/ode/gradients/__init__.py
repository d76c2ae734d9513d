"""Gradient methods: ACA, naive, adjoint and forward, each `solve(problem) -> (states, outcome)`."""

from __future__ import annotations

from physid.ode.gradients.aca import ACA, Gradient, Naive
from physid.ode.gradients.adjoint import Adjoint
from physid.ode.gradients.forward import Forward
from physid.ode.gradients.registry import GRADIENTS

__all__ = ["ACA", "GRADIENTS", "Adjoint", "Forward", "Gradient", "Naive"]
