"""Gradient methods: ACA, naive, adjoint and forward, each `solve(problem) -> (states, outcome)`."""

from __future__ import annotations

from physid.ode.gradients.aca import ACA
from physid.ode.gradients.adjoint import Adjoint
from physid.ode.gradients.forward import Forward
from physid.ode.gradients.naive import Naive
from physid.ode.gradients.protocol import Gradient, with_pullback
from physid.ode.gradients.registry import GRADIENTS

__all__ = ["ACA", "GRADIENTS", "Adjoint", "Forward", "Gradient", "Naive", "with_pullback"]
