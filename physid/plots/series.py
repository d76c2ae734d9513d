"""Time series: what was measured, the forecast, and its band, one panel for each channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from physid.data.experiment import Experiment, Trajectory
from physid.plots.bodies import color_index
from physid.plots.choose import choose_channels
from physid.plots.look import Theme, labelled, look, mark_training, mix, new_figure, shown
from physid.predict.forecast import Forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 9  # panels, unless more are asked for
LEGEND = ["truth", "measured", "trained on", "forecast", "95 % band", "95 % with noise"]
DENSE = 120  # measurements from here on are drawn as a line, fewer as dots


def time_series(
    forecast: Forecast,
    experiment: Experiment | None = None,
    channels: Sequence[str] | None = None,
    theme: str | Theme = "light",
    width: float = 9.0,
    height: float | None = None,
) -> Figure:
    """The forecast with its 95 % band over time, beside what `experiment`, or its own, measured, channel by channel.

    The training range is shaded. Of more than nine channels, those that vary most and most independently are shown, and
    the figure says so. Errors: InputError for a channel that is not there.
    """
    experiment = forecast.experiment if experiment is None else experiment
    most = len(forecast.channels) if channels is not None else MOST
    places, sentence = choose_channels(forecast.mean, forecast.channels, channels, most)
    columns = min(3, len(places)) if len(places) > 3 else 1
    rows = -(-len(places) // columns)
    with look(theme) as found:
        figure = new_figure(width, height or rows * (1.75 if rows > 1 else 2.6) + 0.9)
        grid = np.ravel(figure.subplots(rows, columns, sharex=True, squeeze=False))
        for panel, (axes, place) in enumerate(zip(grid, places, strict=False)):
            _panel(axes, found, forecast, experiment, place, panel)
            if panel + columns >= len(places):
                axes.set_xlabel(labelled("time", forecast.time_unit))
                axes.tick_params(labelbottom=True)
        for axes in grid[len(places) :]:
            axes.set_visible(False)
        _legend(figure, grid[0])
        if sentence:
            figure.supxlabel(shown(f"Shown are {sentence}."), fontsize=8.5, color=found.muted, x=0.01, ha="left")
    return figure


def _panel(axes: Axes, theme: Theme, forecast: Forecast, experiment: Experiment | None, place: int, panel: int) -> None:
    """One channel: band, truth and measurements, forecast."""
    t = forecast.times
    axes.fill_between(
        t,
        forecast.low[:, place],
        forecast.high[:, place],
        color=theme.forecast,
        alpha=0.22,
        linewidth=0,
        label="95 % band",
    )
    if np.isfinite(forecast.noise_low[:, place]).any():
        for edge in (forecast.noise_low, forecast.noise_high):
            axes.plot(t, edge[:, place], color=theme.forecast, alpha=0.55, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.lines[-1].set_label("95 % with noise")
    if experiment is not None:
        color = theme.body(color_index(forecast.channels, place))
        if experiment.test is not None:
            _measured(axes, experiment.test, place, float(t[-1]), color, _kind(experiment))
        trained = mix(color, theme.background, 0.35)
        _measured(axes, experiment.train, place, float(t[-1]), trained, "trained on", bool(experiment.sigma))
    axes.plot(t, forecast.mean[:, place], color=theme.forecast, linestyle=(0, (3.2, 1.6)), zorder=4, label="forecast")
    axes.set_xlim(float(t[0]), float(t[-1]))
    axes.set_ylabel(labelled(forecast.channels[place], forecast.unit))
    axes.locator_params(axis="y", nbins=4)
    end = None if experiment is None else float(experiment.train.times[-1])
    if end is not None and t[0] < end < t[-1]:
        mark_training(axes, theme, end, words=panel == 0)


def _kind(experiment: Experiment) -> str:
    """The name of test data: truth where noise was added to a simulation, else measured."""
    return "truth" if experiment.sigma and experiment.truth else "measured"


def _measured(
    axes: Axes, data: Trajectory, place: int, until: float, color: str, label: str, dots: bool = False
) -> None:
    """Draw the measurements of a channel: a line where they are dense and without noise, else dots."""
    values, mask = (x.reshape(len(data), -1).numpy()[:, place] for x in (data.observations, data.mask))
    times = data.times.numpy()
    seen = mask & (times <= until)
    if not seen.any():
        return
    if dots or seen.sum() < DENSE:
        size = 3.4 if seen.sum() < 200 else 1.6
        axes.plot(times[seen], values[seen], "o", color=color, markersize=size, alpha=0.8, zorder=2, label=label)
    else:
        axes.plot(times, np.where(seen, values, np.nan), color=color, zorder=3, linewidth=2.2, label=label)


def _legend(figure: Figure, axes: Axes) -> None:
    """One legend above all panels, in the order in which things are read."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: LEGEND.index(labels[i]))
    pairs = [handles[i] for i in order], [labels[i] for i in order]
    figure.legend(*pairs, loc="outside upper right", ncols=len(order), fontsize=9.0)
