"""Residual plots: residuals over time, their autocorrelation and their distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from physid.arrays import Array
from physid.inference.result import FitResult
from physid.plots.bodies import color_index
from physid.plots.choose import choose_channels
from physid.plots.look import Theme, labelled, look, new_figure, shown
from physid.predict.residuals import residual_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 6  # channels
LAGS = 30


def autocorrelation(residual: Array, lags: int = LAGS) -> Array:
    """r_k = sum e_t e_(t+k) / sum e_t^2 for k = 1 to `lags`, of one channel [T] without what was not measured."""
    e = residual[np.isfinite(residual)]
    total = float(e @ e)
    most = min(lags, len(e) - 1)
    return np.array([float(e[k:] @ e[:-k]) / total for k in range(1, most + 1)]) if total > 0 else np.zeros(0)


def residuals(fit: FitResult, theme: str | Theme = "light", width: float = 9.0) -> Figure:
    """Residuals over time and against the normal quantiles, one row for each channel (at most six)."""
    table = residual_table(fit)
    places, _ = choose_channels(np.nan_to_num(table), fit.experiment.channels, None, MOST)
    times = fit.experiment.train.times.numpy()
    with look(theme) as found:
        figure = new_figure(width, 1.5 * len(places) + 0.9)
        grid = figure.subplots(len(places), 2, squeeze=False, sharex="col", width_ratios=(2.6, 1.0))
        for row, place in enumerate(places):
            left, right = grid[row]
            e, color = table[:, place], found.body(color_index(fit.experiment.channels, place))
            size = 3.0 if len(times) < 300 else 1.4
            left.axhline(0.0, color=found.muted, linewidth=0.9)
            left.plot(times, e, "o", color=color, markersize=size, alpha=0.85)
            left.set_ylabel(labelled(fit.experiment.channels[place], fit.experiment.unit), fontsize=9.0)
            e = np.sort(e[np.isfinite(e)])
            sd = float(e.std()) or 1.0
            normal = stats.norm.ppf((np.arange(len(e)) + 0.5) / max(len(e), 1))
            right.plot(normal, normal, color=found.muted, linewidth=0.9)
            right.plot(normal, (e - e.mean()) / sd if len(e) else e, ".", color=color, markersize=size)
            for axes in (left, right):
                axes.locator_params(axis="y", nbins=4)
        grid[0, 0].set_title("predicted less measured")
        grid[0, 1].set_title("against normal")
        grid[-1, 0].set_xlabel(labelled("time", fit.experiment.time_unit))
        grid[-1, 1].set_xlabel("normal quantile")
    return figure


def correlogram(fit: FitResult, theme: str | Theme = "light", width: float = 9.0) -> Figure:
    """The autocorrelation of the residuals of each channel, with the 95 % band of independent ones."""
    table = residual_table(fit)
    places, _ = choose_channels(np.nan_to_num(table), fit.experiment.channels, None, MOST)
    with look(theme) as found:
        figure = new_figure(width, 2.7)
        axes = figure.subplots()
        count = int(np.isfinite(table).sum(0)[places].min())
        reach = 1.96 / np.sqrt(max(count, 1))
        axes.axhspan(-reach, reach, color=found.shade, zorder=-1, label="95 % of independent residuals")
        axes.axhline(0.0, color=found.muted, linewidth=0.9)
        width_of_bar = 0.8 / len(places)
        for k, place in enumerate(places):
            r = autocorrelation(table[:, place])
            at = np.arange(1, len(r) + 1) + (k - (len(places) - 1) / 2) * width_of_bar
            color = found.body(color_index(fit.experiment.channels, place))
            axes.bar(at, r, width=width_of_bar, color=color, label=shown(fit.experiment.channels[place]))
        axes.set_xlabel("lag")
        axes.set_ylabel("autocorrelation")
        figure.legend(loc="outside upper right", ncols=min(7, len(places) + 1), fontsize=8.5)
    return figure
