"""Learning curves: how a score of the test set fell with the epochs, and with the time they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from physid.plots.look import LIGHT, Theme, look, new_figure, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
MARKERS = ("o", "s", "D", "^", "v")


def learning_curves(
    runs: Mapping[str, Rows],
    score: str = "test_error",
    label: str = "test error (%)",
    scale: float = 100.0,
    level: tuple[float, str] | None = None,
    theme: str | Theme = LIGHT,
) -> Figure:
    """`scale` times the column `score` of each run's rows (of metrics.csv) against epochs, and against seconds.

    `level` is a value that is drawn as a line, with its name, as that of chance.
    """
    with look(theme) as colours:
        figure = new_figure(9.0, 3.6)
        left, right = figure.subplots(1, 2, sharey=True)
        for number, (name, rows) in enumerate(runs.items()):
            chosen = [row for row in rows if row.get(score) is not None]
            values = [scale * row[score] for row in chosen]
            style = {"color": colours.body(number), "marker": MARKERS[number % len(MARKERS)], "markersize": 4.5}
            left.plot([row["epoch"] for row in chosen], values, label=shown(name), **style)
            right.plot([row["seconds"] for row in chosen], values, label=shown(name), **style)
        for axes, what in ((left, "epoch"), (right, "seconds")):
            axes.set_xlabel(what)
            if level is not None:
                axes.axhline(level[0], color=colours.muted, linewidth=1.0, linestyle=(0, (1, 2)))
        if level is not None:
            left.annotate(
                level[1],
                (0.01, level[0]),
                (0, 3),
                textcoords="offset points",
                xycoords=("axes fraction", "data"),
                color=colours.muted,
                fontsize=8.5,
            )
        left.xaxis.get_major_locator().set_params(integer=True)
        left.set_ylabel(label)
        right.set_xlim(left=0.0)
        right.legend(loc="best")
    return figure
