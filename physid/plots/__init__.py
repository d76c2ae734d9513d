"""Figures by matplotlib, all in one look: time series with bands, phase portraits, pairs of unknowns.

Every function returns a matplotlib Figure of its own, which belongs to no window; `png` and `svg` write it. matplotlib
is loaded when the first figure is made.
"""

from __future__ import annotations

from physid.plots.bodies import find_bodies
from physid.plots.channels import series_channels, sheet_figure
from physid.plots.choose import choose_channels
from physid.plots.look import DARK, LIGHT, THEMES, Theme, png, svg, theme_of
from physid.plots.pairs import pairs
from physid.plots.phase import phase
from physid.plots.series import time_series

__all__ = [
    "DARK",
    "LIGHT",
    "THEMES",
    "Theme",
    "choose_channels",
    "find_bodies",
    "pairs",
    "phase",
    "png",
    "series_channels",
    "sheet_figure",
    "svg",
    "theme_of",
    "time_series",
]
