"""Figures of a fit: profile likelihoods, the waterfall of many starts, and several fits beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.errors import InputError
from physid.inference.result import FitResult
from physid.inference.search.one_start import agreeing
from physid.plots.look import Theme, labelled, look, new_figure, shown
from physid.report.comparison import Compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from physid.inference.uncertainty.profile_curve import Profile

MOST = 12  # panels


def profiles(fit: FitResult, theme: str | Theme = "light", width: float = 9.0) -> Figure:
    """Every profile made of a fit: tau^2 against the value, with the 95 % threshold, and what the covariance says.

    Errors: InputError when none was made.
    """
    if not fit.profiles:
        raise InputError("no profile was made of this fit. Make them first: fit.profile(), or physid profile RUN.")
    shown = fit.profiles[:MOST]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with look(theme) as found:
        figure = new_figure(width, 2.5 * rows + 0.5)
        grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes, one in zip(grid, shown, strict=False):
            _profile(axes, found, fit, one)
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=9.0)
    return figure


def _profile(axes: Axes, theme: Theme, fit: FitResult, one: Profile) -> None:
    """One profile."""
    order = np.argsort(one.values)
    values, ratio = one.values[order], one.ratio[order]
    color, top = theme.body(0), 1.35 * one.threshold**2
    axes.axhline(one.threshold**2, color=theme.muted, linewidth=1.0, linestyle=(0, (4, 2)), label="95 %")
    axes.plot(values, ratio, color=color, marker="o", markersize=3.0, label="profile")
    linear = _linearised(fit, one, values)
    if linear is not None:
        axes.plot(values, linear, color=theme.body(2), linewidth=1.2, linestyle=(0, (1, 1.5)), label="linearised")
    for end in (one.low, one.high):
        if end is not None:
            axes.plot([end, end], [0.0, one.threshold**2], color=color, linewidth=0.9)
    axes.plot([one.estimate], [0.0], "o", color=theme.ink, markersize=4.5, clip_on=False, zorder=5)
    axes.set_ylim(0.0, top)
    axes.set_title(shown(one.name))
    axes.set_xlabel(labelled("value", one.unit))
    axes.set_ylabel("fall of 2 log-likelihood", fontsize=8.5)
    axes.locator_params(nbins=5)


def _linearised(fit: FitResult, one: Profile, values: Any) -> Any:
    """The parabola of the covariance at the same values; None without one."""
    names = [known.name for known in fit.estimates]
    i = names.index(one.name)
    if fit.statistics is None or not fit.statistics.identifiable[i]:
        return None
    x = np.tile(fit.x, (len(values), 1))
    sd = float(np.sqrt(fit.statistics.covariance[i, i]))
    steps = np.linspace(-1.5 * one.threshold, 1.5 * one.threshold, 201)
    x = np.tile(fit.x, (len(steps), 1))
    x[:, i] += sd * steps
    natural = fit.vector.natural(x)[:, i]
    return np.interp(values, natural, steps**2, left=np.nan, right=np.nan) if sd > 0 else None


def waterfall(costs: Sequence[float], theme: str | Theme = "light", width: float = 6.5) -> Figure:
    """The objectives of many starts in order, lowest first, with the steps of those that agree.

    Errors: InputError when no start finished.
    """
    known = np.sort([cost for cost in costs if np.isfinite(cost)])
    if not len(known):
        raise InputError("no start finished, so there is nothing to draw.")
    best = known[0]
    agree = sum(agreeing(list(costs)))
    with look(theme) as found:
        figure = new_figure(width, 3.2)
        axes = figure.subplots()
        number = np.arange(1, len(known) + 1)
        colors = [found.body(0 if i < agree else 4) for i in range(len(known))]
        axes.plot(number, known, color=found.faint, linewidth=1.2, drawstyle="steps-mid", zorder=1)
        axes.scatter(number, known, c=colors, s=24, zorder=2)
        if known[-1] > 10 * max(best, 1e-300):
            axes.set_yscale("log")
        axes.set_xlabel("starts, best first")
        axes.set_ylabel("objective")
        failed = len(costs) - len(known)
        axes.set_title(
            f"{agree} of {len(costs)} starts agree" + (f", {failed} failed" if failed else ""), fontweight="normal"
        )
        axes.locator_params(axis="x", integer=True)
    return figure


def compare(fits: Sequence[Compared], names: Sequence[str], theme: str | Theme = "light", width: float = 9.0) -> Figure:
    """Unknowns that several fits share, with their 95 % intervals, a panel for each, and the fits' scores."""
    shared = [name for name in _every(fits) if sum(name in _known(fit) for fit in fits) > 1][: MOST - 1]
    columns = min(3, len(shared) + 1)
    rows = -(-(len(shared) + 1) // columns)
    with look(theme) as found:
        figure = new_figure(width, rows * (1.1 + 0.32 * len(fits)) + 0.4)
        grid = figure.subplots(rows, columns, squeeze=False)
        panels = np.ravel(grid)
        for axes, name in zip(panels, shared, strict=False):
            _intervals(axes, found, fits, name)
        _scores(panels[len(shared)], found, fits)
        for k, axes in enumerate(panels):
            axes.set_visible(k <= len(shared))
            axes.set_ylim(len(fits) - 0.5, -0.5)
            labels = list(map(shown, names)) if k % columns == 0 else [""] * len(names)
            axes.set_yticks(range(len(fits)), labels, color=found.ink)
    return figure


def _known(fit: Compared) -> dict[str, Any]:
    return {one.name: one for one in [*fit.estimates, *fit.derived]}


def _every(fits: Sequence[Compared]) -> list[str]:
    """The names of all unknowns but the initial states, each once."""
    return list(dict.fromkeys(one.name for fit in fits for one in [*fit.derived, *fit.listed] if one.of != "initial"))


def _intervals(axes: Axes, theme: Theme, fits: Sequence[Compared], name: str) -> None:
    """The intervals of one unknown."""
    truth, unit = None, ""
    for row, fit in enumerate(fits):
        one = _known(fit).get(name)
        if one is None:
            continue
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [row, row], color=theme.body(row), linewidth=2.4)
        axes.plot([one.value], [row], "o", color=theme.body(row), markersize=5.5)
        truth, unit = one.truth if truth is None else truth, one.unit
    if truth is not None:
        axes.axvline(truth, color=theme.ink, linewidth=1.1, linestyle=(0, (1, 1.5)))
    axes.set_title(shown(name))
    axes.set_xlabel(labelled("", unit) if unit else "")
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", useOffset=True, scilimits=(-4, 5))


def _scores(axes: Axes, theme: Theme, fits: Sequence[Compared]) -> None:
    """The rmse of training and forecast."""
    for row, fit in enumerate(fits):
        for name, filled in (("train", True), ("forecast", False)):
            score = fit.scores.get(name)
            if score is not None and score["rmse"] > 0:
                face = theme.body(row) if filled else theme.background
                axes.plot([score["rmse"]], [row], "o", color=theme.body(row), markerfacecolor=face, markersize=6.5)
    known = [s["rmse"] for fit in fits for s in (fit.scores.get("train"), fit.scores.get("forecast")) if s]
    if known and min(known) > 0 and max(known) > 30 * min(known):
        axes.set_xscale("log")
        axes.tick_params(axis="x", which="minor", labelbottom=False)
    else:
        axes.locator_params(axis="x", nbins=4)
    axes.set_title("rmse")
    axes.set_xlabel("filled: training, open: forecast", fontsize=8.5)
