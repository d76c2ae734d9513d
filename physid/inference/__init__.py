"""Inference: identifies unknowns from trajectories, with their uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from physid.lazy import names as _names

if TYPE_CHECKING:
    from physid.inference.fit_options import STRATEGIES as STRATEGIES
    from physid.inference.identify import identify as identify
    from physid.inference.noise import NoiseModel as NoiseModel
    from physid.inference.noise import ScaledNoise as ScaledNoise
    from physid.inference.options import PROTOCOLS as PROTOCOLS
    from physid.inference.options import default_integrator as default_integrator
    from physid.inference.result import FitResult as FitResult
    from physid.inference.search.catalogue import OPTIMIZERS as OPTIMIZERS
    from physid.inference.uncertainty.estimates import Estimate as Estimate
    from physid.inference.uncertainty.statistics import FitStatistics as FitStatistics

# name -> the module it lives in
_HOMES = {
    "Estimate": "physid.inference.uncertainty.estimates",
    "OPTIMIZERS": "physid.inference.search.catalogue",
    "PROTOCOLS": "physid.inference.options",
    "STRATEGIES": "physid.inference.fit_options",
    "default_integrator": "physid.inference.options",
    "FitResult": "physid.inference.result",
    "NoiseModel": "physid.inference.noise",
    "ScaledNoise": "physid.inference.noise",
    "identify": "physid.inference.identify",
    "FitStatistics": "physid.inference.uncertainty.statistics",
}

__all__ = [
    "OPTIMIZERS",
    "PROTOCOLS",
    "STRATEGIES",
    "Estimate",
    "FitResult",
    "FitStatistics",
    "NoiseModel",
    "ScaledNoise",
    "default_integrator",
    "identify",
]

__getattr__ = _names(__name__, _HOMES)
