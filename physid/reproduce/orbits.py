"""Figures 8 and 21 to 23: forecast and true orbits in space.

Source: Zhuang et al. (2020), section 4.4, Figs. 8 and 21-23.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.reproduce import threebody
from physid.reproduce.exhibit import Cell, Exhibit, Results, Table
from physid.reproduce.table5 import PAPER, TABLE5
from physid.reproduce.threebody import GRADIENTS, PROTOCOLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from physid.plots.look import Theme

SYSTEMS = (1, 2, 3)  # seeds of random systems, one for each of figures 21, 22 and 23
BODY = 0  # the planet that figure 8 shows
PANELS = ("lstm", "lstm-aug", *(f"{model}-{gradient}" for model in ("node", "ode") for gradient in GRADIENTS))


def key_of(column: str) -> str:
    """The cell that a panel of figure 8 shows: the first seed, the settings of the paper's text."""
    return f"{column}-0" if column.startswith("lstm") else f"{column}-paper-text-0"


def first_seed(quick: bool) -> Sequence[Cell]:
    """The cells of table 5 that figure 8 shows."""
    shown = {"truth", *map(key_of, PANELS)}
    return [cell for cell in TABLE5.cells(quick) if cell.key in shown]


def draw(axes: Any, theme: Theme, truth: Any, path: Any | None, body: int) -> None:
    """The true orbit of a body, solid, and the forecast, dashed; a mark where training ends."""
    true = np.array(truth["path"], dtype=np.float64)[:, 3 * body : 3 * body + 3]
    axes.plot(*true.T, color=theme.body(body), linewidth=1.6)
    if path is not None:
        said = np.array(path, dtype=np.float64)[:, 3 * body : 3 * body + 3]
        axes.plot(*said.T, color=theme.forecast, linewidth=1.4, linestyle=(0, (3.2, 1.6)))
    ends = np.searchsorted(np.array(truth["times"]), 1.0)
    axes.plot(*true[ends : ends + 1].T, "o", color=theme.ink, markersize=3.5)
    axes.set_facecolor(theme.background)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color(theme.shade)
        axis.set_tick_params(labelsize=6.0, pad=-3)
        axis.set_major_locator(_few())


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)


def fig8(results: Results) -> Figure | None:
    """One planet in every model's forecast, in the order of table 5."""
    from physid.plots.look import look, new_figure

    if "truth" not in results or len(results) < 2:
        return None
    with look("light") as theme:
        made = new_figure(10.4, 5.6)
        for number, column in enumerate(PANELS):
            axes: Any = made.add_subplot(2, 4, number + 1, projection="3d")
            found = results.get(key_of(column))
            path = None if found is None else found.get("path")
            draw(axes, theme, results["truth"], path, BODY)
            told = "not computed" if path is None else f"MSE {found['test']['sum']:.2g}"  # type: ignore[index]
            axes.set_title(f"{column}: {told}", fontsize=9.0, fontweight="normal")
    return made


def fig8_table(results: Results) -> Table:
    """The score of every panel, and the paper's of its column."""
    rows = []
    for column in PANELS:
        found = results.get(key_of(column), {})
        score = found.get("test", {"sum": None, "mean": None})
        rows.append([column, score["sum"], score["mean"], f"{PAPER[column][0]:g} ± {PAPER[column][1]:g}"])
    return Table(["panel", "[0, 2], sum", "[0, 2], mean", "paper, [0, 2]"], rows)


def systems(quick: bool) -> Sequence[Cell]:
    """Three random systems, fitted with gradient aca by both readings and by physid's default."""
    found = []
    for system in SYSTEMS[: 1 if quick else None]:
        found.append(Cell(f"truth-{system}", threebody.truth, {"system": system}))
        for protocol in (*PROTOCOLS, "default"):
            settings: dict[str, Any] = {"model": "gravity", "seed": 0, "protocol": protocol, "system": system}
            if protocol != "default":
                settings["gradient"] = "aca"
            found.append(Cell(f"{protocol}-{system}", threebody.by_fit, settings))
    return found


def systems_table(results: Results) -> Table:
    """Scores and masses of every system by every way."""
    columns = ["figure", "settings", "[0, 2], sum", "(1, 2], sum", "masses", "true masses", "within 1 %"]
    rows: list[list[Any]] = []
    for number, system in enumerate(SYSTEMS):
        for protocol in (*PROTOCOLS, "default"):
            found, truth = results.get(f"{protocol}-{system}"), results.get(f"truth-{system}")
            if found is None or truth is None:
                continue
            if "diverged" in found:
                rows.append([21 + number, protocol, *[None] * 5])
                continue
            masses = ", ".join(f"{value:.4f}" for value in found["masses"].values())
            true = ", ".join(f"{value:.4f}" for value in truth["masses"])
            scores = found["test"]["sum"], found["forecast"]["sum"]
            rows.append([21 + number, protocol, *scores, masses, true, found["recovered"]])
    return Table(columns, rows)


def systems_figure(results: Results) -> Figure | None:
    """A row for every system, a column for every planet; the forecast is that by the settings of the paper's code."""
    from physid.plots.look import look, new_figure

    shown = [(n, s) for n, s in enumerate(SYSTEMS) if f"truth-{s}" in results]
    if not shown:
        return None
    with look("light") as theme:
        made = new_figure(8.4, 2.9 * len(shown))
        for row, (number, system) in enumerate(shown):
            found = results.get(f"paper-code-{system}", {})
            for body in range(3):
                axes: Any = made.add_subplot(len(shown), 3, 3 * row + body + 1, projection="3d")
                draw(axes, theme, results[f"truth-{system}"], found.get("path"), body)
                axes.set_title(f"figure {21 + number}, planet {body + 1}", fontsize=9.0, fontweight="normal")
    return made


FIG8 = Exhibit(
    "fig8",
    "Figure 8: one planet of the three-body problem in every model's forecast",
    "The runs of table 5 with the first seed and the settings of the paper's text. Blue is the truth on [0, 2], dashed "
    "orange what the model says, the dot the end of training. Finished cells of a run of table5 beside the folder are "
    "taken over.",
    TABLE5.left_out,
    first_seed,
    fig8_table,
    fig8,
    {column: {"mean": mean, "sd": sd} for column, (mean, sd) in PAPER.items()},
    shares=("table5",),
)
FIG21 = Exhibit(
    "fig21-23",
    "Figures 21 to 23: ODE-ACA with other initial conditions",
    "Newton's law with three unknown masses, fitted to other systems with gradient aca. Which systems the paper shows "
    "is unstated; here they are three random ones of unequal masses (threebody --set random_masses=1, 2, 3), by both "
    "readings of the settings and by physid's default recipe. The figure shows the settings of the paper's code.",
    "the systems of figures 22 and 23.",
    systems,
    systems_table,
    systems_figure,
    {"claim": "forecast and truth overlap in all three (no numbers are printed)"},
)
