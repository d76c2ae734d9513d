"""Prediction: forecasts of fits, ensembles and networks, with bands and a predictability horizon."""

from __future__ import annotations
