"""Pairs of unknowns: the regions in which both lie, with 68 % and 95 % confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from physid.arrays import Array
from physid.errors import InputError, unknown_name
from physid.inference.result import FitResult
from physid.plots.look import Theme, labelled, look, new_figure, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 6  # unknowns, unless more are asked for
LEVELS = ((0.95, 0.20), (0.68, 0.42))  # confidence and opacity, the larger region first


def pairs(
    fit: FitResult, names: Sequence[str] | None = None, theme: str | Theme = "light", size: float | None = None
) -> Figure:
    """Ellipses of confidence of every pair of unknowns, with the truth where it is known.

    The ellipses are made in the transformed space of the domains, as the intervals are, and mapped back: they bend
    where the domain does, and stay inside it. Their scale is 2 F(level; 2, dof), or chi-squared where the noise is
    known. The diagonal shows each estimate with its 95 % interval. Without `names` parameters are shown, up to six.

    Errors: InputError for a name that is no unknown, fewer than two of them, or a fit without a covariance.
    """
    if fit.statistics is None or fit.covariance is None:
        raise InputError("the fit has no covariance, so there is nothing to draw of pairs: give a fit that converged.")
    places = _places(fit, names)
    with look(theme) as found:
        count = len(places)
        figure = new_figure(*([size or min(2.3 * count + 0.6, 12.0)] * 2))
        grid = figure.subplots(count, count, squeeze=False)
        for row, i in enumerate(places):
            for column, j in enumerate(places):
                axes = grid[row, column]
                if column > row:
                    axes.set_visible(False)
                elif column == row:
                    _single(axes, found, fit, i)
                else:
                    _pair(axes, found, fit, j, i)
                _edges(axes, fit, (row, column), (i, j), count)
    return figure


def region(fit: FitResult, i: int, j: int, level: float, points: int = 181) -> Array:
    """The edge [points, 2], natural units, of the region in which unknowns i and j lie with confidence `level`."""
    if fit.statistics is None or fit.covariance is None:
        raise InputError("the fit has no covariance: give a fit that converged.")
    known = fit.statistics.sigma_known or fit.statistics.dof <= 0
    scale = stats.chi2.ppf(level, 2) if known else 2.0 * stats.f.ppf(level, 2, fit.statistics.dof)
    block = fit.covariance[np.ix_([i, j], [i, j])]
    values, vectors = np.linalg.eigh(block)
    angle = np.linspace(0.0, 2.0 * np.pi, points)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    edge = vectors @ (np.sqrt(np.maximum(values, 0.0) * scale)[:, None] * circle)
    x = np.tile(fit.x, (points, 1))
    x[:, [i, j]] += edge.T
    return fit.vector.natural(x)[:, [i, j]]


def _places(fit: FitResult, names: Sequence[str] | None) -> list[int]:
    """The places of the unknowns to show."""
    known = [one.name for one in fit.estimates]
    if names is None:
        there = [i for i, one in enumerate(fit.estimates) if one.stderr is not None and one.listed]
        wanted = [i for i in there if fit.estimates[i].of != "initial"]
        wanted = (wanted if len(wanted) >= 2 else there)[:MOST]
    else:
        for name in names:
            if name not in known:
                raise unknown_name("unknown", name, known)
        wanted = [known.index(name) for name in dict.fromkeys(names)]
    if len(wanted) < 2:
        raise InputError(f"{len(wanted)} unknowns with standard errors were found: pairs need two or more.")
    return wanted


def _pair(axes: Axes, theme: Theme, fit: FitResult, i: int, j: int) -> None:
    """The regions of one pair, the estimate, the truth, and the correlation in words."""
    for level, opacity in LEVELS:
        edge = region(fit, i, j, level)
        axes.fill(edge[:, 0], edge[:, 1], color=theme.forecast, alpha=opacity, linewidth=0)
    one, other = fit.estimates[i], fit.estimates[j]
    axes.plot(one.value, other.value, "o", color=theme.forecast, markersize=4.5)
    if one.truth is not None and other.truth is not None:
        axes.plot(one.truth, other.truth, "+", color=theme.ink, markersize=9, markeredgewidth=1.5)
    matrix = fit.correlation
    if matrix is not None and np.isfinite(matrix[i, j]):
        axes.set_title(f"correlation {matrix[i, j]:+.2f}", fontsize=8.5, fontweight="normal", color=theme.muted)


def _single(axes: Axes, theme: Theme, fit: FitResult, i: int) -> None:
    """The marginal density of one unknown with its 95 % interval, and the truth."""
    one, edge = fit.estimates[i], None
    if fit.covariance is not None:
        sd = float(np.sqrt(fit.covariance[i, i]))
        steps = np.linspace(-3.5, 3.5, 141)
        x = np.tile(fit.x, (len(steps), 1))
        x[:, i] += sd * steps
        natural = fit.vector.natural(x)[:, i]
        edge = np.exp(-0.5 * steps**2) / np.gradient(natural, sd * steps)
        edge /= edge.max()
        inside = (natural >= (one.low or -np.inf)) & (natural <= (one.high or np.inf))
        axes.plot(natural, edge, color=theme.forecast, linewidth=1.6)
        axes.fill_between(natural, 0.0, edge, where=inside.tolist(), color=theme.forecast, alpha=0.22, linewidth=0)
    if one.truth is not None:
        axes.axvline(one.truth, color=theme.ink, linewidth=1.2, linestyle=(0, (1, 1.5)))
    axes.set_ylim(0.0, 1.12)
    axes.set_title(shown(one.name), fontsize=10.0)


def _edges(axes: Axes, fit: FitResult, where: tuple[int, int], pair: tuple[int, int], count: int) -> None:
    """Labels on the outer edges alone, few ticks, and no grid."""
    (row, column), (i, j) = where, pair
    axes.grid(False)
    axes.locator_params(nbins=3)
    axes.tick_params(labelsize=7.5)
    axes.ticklabel_format(useOffset=True, scilimits=(-4, 5)) if row != column else axes.set_yticks([])
    if row == count - 1:
        axes.set_xlabel(labelled(fit.estimates[j].name, fit.estimates[j].unit), fontsize=8.5)
    else:
        axes.tick_params(labelbottom=False)
    if column == 0 and row:
        axes.set_ylabel(labelled(fit.estimates[i].name, fit.estimates[i].unit), fontsize=8.5)
    elif row != column:
        axes.tick_params(labelleft=False)
    for text in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        text.set_fontsize(7.0)
        text.set_visible(row == count - 1 or column == 0)
