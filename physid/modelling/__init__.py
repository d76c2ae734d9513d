"""Modelling: right-hand sides with unknowns, priors and observations."""

from __future__ import annotations
