"""Runge-Kutta methods, as data."""

from __future__ import annotations
