"""Channels of irregular series: truth, observations, and what a network says of them with its band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from physid.plots.choose import choose_channels
from physid.plots.look import Theme, look, mark_training, new_figure, shown
from physid.plots.series import time_series
from physid.predict.forecast import Forecast
from physid.predict.sheet import Sheet, measured_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 6  # channels, unless more are asked for


def series_channels(
    sheet: Sheet, channels: Sequence[str] | None = None, theme: str | Theme = "light", width: float = 2.9
) -> Figure:
    """A panel for each channel, down, of each series, across; what lies beyond `seen` is marked as forecast.

    Of more than six channels, those that vary most and most independently are shown, and the figure says so. Errors:
    InputError for a channel that is not there.
    """
    flat, names = np.concatenate([one.mean for one in sheet.forecasts]), sheet.forecasts[0].channels
    most = len(names) if channels is not None else MOST
    places, sentence = choose_channels(flat, names, channels, most, same_unit=False)
    columns = len(sheet.forecasts)
    with look(theme) as found:
        figure = new_figure(max(5.0, width * columns + 0.6), 1.25 * len(places) + 1.0)
        grid = figure.subplots(len(places), columns, sharex=True, sharey="row", squeeze=False)
        for row, place in enumerate(places):
            for column, forecast in enumerate(sheet.forecasts):
                _panel(grid[row, column], found, forecast, place, words=row == 0)
            grid[row, 0].set_ylabel(shown(names[place]))
        for column, name in enumerate(sheet.names):
            grid[-1, column].set_xlabel("time")
            grid[0, column].set_title(f"series {name}", pad=16, fontsize=9.5)
        figure.align_ylabels(grid[:, 0])
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8.5)
        if sentence:
            figure.supxlabel(
                f"Shown are {sentence}.".replace(": ", ":\n"), fontsize=8.0, color=found.muted, x=0.01, ha="left"
            )
    return figure


def sheet_figure(sheet: Sheet, theme: str | Theme = "light") -> Figure:
    """The figure of a sheet: the time series of its forecast, or the channels of its series."""
    return series_channels(sheet, theme=theme) if sheet.long else time_series(sheet.forecasts[0], theme=theme)


def _panel(axes: Axes, theme: Theme, forecast: Forecast, place: int, words: bool) -> None:
    """One channel of one series: truth, band and mean, observations."""
    t = forecast.times
    color = theme.body(place)
    truth, seen = (measured_at(forecast.experiment, part, forecast)[:, place] for part in ("test", "train"))
    there = np.isfinite(truth)
    axes.plot(t[there], truth[there], color=color, linewidth=1.6, alpha=0.55, label="truth")
    low, high = forecast.low[:, place], forecast.high[:, place]
    if np.isfinite(low).any():
        axes.fill_between(t, low, high, color=theme.forecast, alpha=0.22, linewidth=0, label="95 % of the draws")
    axes.plot(
        t,
        forecast.mean[:, place],
        color=theme.forecast,
        linestyle=(0, (3.2, 1.6)),
        linewidth=1.5,
        zorder=4,
        label="network",
    )
    axes.plot(t, seen, "o", color=color, markersize=3.6, zorder=5, label="observed")
    axes.set_xlim(float(t[0]), float(t[-1]))
    axes.locator_params(axis="y", nbins=4)
    if forecast.seen is not None and t[0] < forecast.seen < t[-1]:
        mark_training(axes, theme, forecast.seen, words=False)
        if words:
            axes.annotate(
                "seen | extrapolated",
                (forecast.seen, 1.0),
                (0, 4),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=theme.forecast,
            )
