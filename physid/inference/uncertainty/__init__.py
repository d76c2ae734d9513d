"""Uncertainty: covariance, identifiability, estimates, scores and the verdict at an optimum."""

from __future__ import annotations
