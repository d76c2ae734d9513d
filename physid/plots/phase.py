"""Phase portraits: one channel of a forecast against another, or three of them in space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.errors import InputError
from physid.plots.choose import choose_channels
from physid.plots.look import Theme, labelled, look, mix, new_figure, shown
from physid.plots.series import DENSE
from physid.predict.forecast import Forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPREADS = 40  # ellipses of the band along a portrait in the plane


def phase(
    forecast: Forecast,
    experiment: Experiment | None = None,
    channels: Sequence[str] | None = None,
    theme: str | Theme = "light",
    dimension: int = 2,
    size: float = 6.0,
) -> Figure:
    """The forecast as a path in the plane of two channels, or (three channels, or dimension=3) in their space.

    What `experiment`, or that of the forecast, measured is solid, or dots where joining it would mislead, and paler
    where it was trained on; the forecast beyond it is dashed. In the plane, ellipses of the 95 % bands of both channels
    lie along the path. Of more channels than `dimension`, those that vary most and most independently are chosen, and
    the figure says so.

    Errors: InputError for fewer than two channels, or a name that is none.
    """
    count = len(channels) if channels is not None else min(dimension, len(forecast.channels))
    if count not in (2, 3):
        raise InputError(f"a phase portrait of {count} channels was asked for: expected two or three.")
    places, sentence = choose_channels(forecast.mean, forecast.channels, channels, count)
    with look(theme) as found:
        figure = new_figure(size * 1.18, size)
        if count == 2:
            axes: Any = figure.subplots()
            _band(axes, found, forecast, places)
        else:
            axes = figure.add_subplot(projection="3d")
            axes.set_facecolor(found.background)
            for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
                axis.set_pane_color(found.shade)
            axes.set_zlabel(labelled(forecast.channels[places[2]], forecast.unit))
        _paths(axes, found, forecast, forecast.experiment if experiment is None else experiment, places)
        axes.set_xlabel(labelled(forecast.channels[places[0]], forecast.unit))
        axes.set_ylabel(labelled(forecast.channels[places[1]], forecast.unit))
        figure.legend(loc="outside upper right", ncols=5, fontsize=9.0)
        if sentence:
            figure.supxlabel(shown(f"Shown are {sentence}."), fontsize=8.5, color=found.muted, x=0.01, ha="left")
    return figure


def _paths(axes: Any, theme: Theme, forecast: Forecast, experiment: Experiment | None, places: list[int]) -> None:
    """Draw the measurements, paler where they were trained on, the forecast, and marks at its start and end."""
    end, path = np.inf, forecast.mean[:, places]
    if experiment is not None:
        end = float(experiment.train.times[-1])
        _data(axes, theme, experiment, forecast, places)
        joined = _smooth(experiment, _measured(experiment, forecast, places)[0])
        if not joined and end < forecast.times[-1]:  # dots have no order: the model's path
            before = {"color": mix(theme.forecast, theme.background, 0.5), "linewidth": 1.3, "zorder": 2}
            axes.plot(*path[forecast.times <= end].T, label="model", **before)
    beyond = path[forecast.times >= end] if end < forecast.times[-1] else path
    dashes = {"linestyle": (0, (3.2, 1.6)), "color": theme.forecast, "zorder": 4}
    axes.plot(*beyond.T, label="forecast", **dashes)
    axes.plot(*path[-1:].T, "o", color=theme.forecast, markersize=8, zorder=5)
    last = path[forecast.times <= end][-1:]
    if len(last) and end < forecast.times[-1]:
        ring = {"markerfacecolor": "none", "markersize": 9, "markeredgewidth": 1.8, "zorder": 6}
        axes.plot(*last.T, "o", color=theme.ink, linestyle="none", label="end of training", **ring)


def _data(axes: Any, theme: Theme, experiment: Experiment, forecast: Forecast, places: list[int]) -> None:
    """The data trained on, and those after them: paths where smooth, dots where noisy, sparse or with gaps."""
    train, later = _measured(experiment, forecast, places)
    dots = {"marker": "o", "markersize": 3.0, "linestyle": "none"}
    style = dots if experiment.sigma or not _smooth(experiment, train) else {"linewidth": 1.6}
    pale = mix(theme.body(0), theme.background, 0.5)
    axes.plot(*train.T, color=pale, zorder=3, label="trained on", **style)
    if len(later):
        label = "truth" if experiment.truth else "measured"
        style = {"linewidth": 2.2} if _smooth(experiment, later) else dots
        axes.plot(*later.T, color=theme.body(0), zorder=3, label=label, **style)


def _smooth(experiment: Experiment, values: Array) -> bool:
    """Whether values [T, channels] make a path when they are joined: complete, and simulated or dense."""
    return bool(np.isfinite(values).all()) and (bool(experiment.truth) or len(values) >= DENSE)


def _measured(experiment: Experiment, forecast: Forecast, places: list[int]) -> tuple[Array, Array]:
    """Training data and later measurements up to the end of the forecast: [T, channels] each."""
    found = []
    for part in (experiment.train, experiment.forecast):
        if part is None:
            found.append(np.empty((0, len(places))))
            continue
        values = part.observations.reshape(len(part), -1).numpy()[:, places]
        found.append(values[part.times.numpy() <= forecast.times[-1]])
    return found[0], found[1]


def _band(axes: Any, theme: Theme, forecast: Forecast, places: list[int]) -> None:
    """The 95 % band of two channels as ellipses along the path, at most forty of them; not drawn where unknown."""
    from matplotlib.collections import EllipseCollection

    center = forecast.mean[:, places]
    reach = ((forecast.high - forecast.low) / 2)[:, places]
    seen = np.flatnonzero(np.isfinite(reach).all(1) & np.isfinite(center).all(1))
    if not len(seen):
        return
    seen = seen[np.unique(np.linspace(0, len(seen) - 1, SPREADS).astype(int))]
    ellipses = EllipseCollection(
        2 * reach[seen, 0],
        2 * reach[seen, 1],
        np.zeros(len(seen)),
        units="xy",
        offsets=center[seen],
        offset_transform=axes.transData,
        facecolors=theme.forecast,
        alpha=0.13,
        linewidths=0,
        zorder=1,
    )
    axes.add_collection(ellipses)
    axes.fill([], [], color=theme.forecast, alpha=0.25, linewidth=0, label="95 % band")
