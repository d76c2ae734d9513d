"""Table 5: the three-body problem by models that know nothing, something and everything of its physics.

Source: Zhuang et al. (2020), table 5, section 4.4, appendix D.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from physid.reproduce import threebody
from physid.reproduce.exhibit import Cell, Exhibit, Results, Table
from physid.reproduce.threebody import GRADIENTS, PROTOCOLS, SEEDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# column of the paper -> test MSE on [0, 2], mean and standard deviation of three runs
PAPER: dict[str, tuple[float, float]] = {
    "lstm": (0.59, 0.12),
    "lstm-aug": (0.49, 0.06),
    "node-adjoint": (3.47, 0.67),
    "node-naive": (0.21, 0.11),
    "node-aca": (0.16, 0.06),
    "ode-adjoint": (0.0025, 0.0012),
    "ode-naive": (0.0025, 0.0013),
    "ode-aca": (0.0007, 0.0005),
}
# what the paper's order says: the first has the smaller error
ORDER = (
    ("ode-aca", "ode-naive"),
    ("ode-aca", "ode-adjoint"),
    ("node-aca", "node-naive"),
    ("node-naive", "node-adjoint"),
    ("ode-aca", "node-aca"),
    ("node-aca", "lstm-aug"),
    ("lstm-aug", "lstm"),
)
NAMES = {"ode": "ODE", "node": "NODE", "lstm": "LSTM", "lstm-aug": "LSTM-aug"}


def rows_of(quick: bool = False) -> list[tuple[str, str, str]]:
    """The rows of the table: prefix of the keys of its cells, column of the paper (or nothing), settings in words."""
    found = [("lstm-", "lstm", "paper"), ("lstm-aug-", "lstm-aug", "paper")]
    for model in ("node", "ode"):
        for gradient in GRADIENTS:
            found += [(f"{model}-{gradient}-{p}-", f"{model}-{gradient}", p.replace("paper-", "")) for p in PROTOCOLS]
        found.append((f"{model}-default-", "", "physid's default"))
    return found


def group(results: Results, prefix: str) -> list[Any]:
    """The results of the cells of a row: those whose key is the prefix and a seed."""
    return [one for key, one in results.items() if key.startswith(prefix) and key.removeprefix(prefix).isdigit()]


def scores(runs: Sequence[Any], part: str, reading: str) -> list[float]:
    """The finite scores of some runs."""
    found = [one[part][reading] for one in runs if part in one and one[part]["sum"] is not None]
    return [value for value in found if math.isfinite(value)]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, as the paper prints them."""
    if not values:
        return "-"
    return f"{fmean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def table(results: Results) -> Table:
    """A row for every model, gradient method and reading of the settings; both readings of the metric."""
    columns = [
        *("model", "gradient", "settings", "runs", "[0, 2], sum", "[0, 2], mean", "(1, 2], sum", "paper, [0, 2]"),
        *("masses within 1 %", "seconds a run"),
    ]
    rows: list[list[Any]] = []
    for prefix, column, settings in rows_of():
        runs = group(results, prefix)
        if not runs:
            continue
        model, gradient = name_of(prefix)
        done = [one for one in runs if "test" in one]
        known = [one["recovered"] for one in done if one.get("recovered") is not None]
        printed = f"{PAPER[column][0]:g} ± {PAPER[column][1]:g}" if column in PAPER else None
        count = f"{len(runs)}" + (f", {len(runs) - len(done)} diverged" if len(done) < len(runs) else "")
        rows.append([
            *(model, gradient, settings, count),
            spread(scores(runs, "test", "sum")),
            spread(scores(runs, "test", "mean")),
            spread(scores(runs, "forecast", "sum")),
            printed,
            f"{sum(known)} of {len(known)}" if known else None,
            fmean(one["seconds"] for one in done) if done else None,
        ])  # fmt: skip
    for name, one in results.get("truth", {}).get("trivial", {}).items():
        values = (f"{one['test']['sum']:.3g}", f"{one['test']['mean']:.3g}", f"{one['forecast']['sum']:.3g}")
        rows.append([f"trivial: {name}", None, None, None, *values, None, None, None])
    return Table(columns, rows, notes(results))


def name_of(prefix: str) -> tuple[str, str | None]:
    """Model and gradient method of a row."""
    for model in ("lstm-aug", "lstm", "node", "ode"):
        if prefix.startswith(f"{model}-"):
            gradient = prefix.removeprefix(f"{model}-").split("-")[0]
            return NAMES[model], gradient if gradient in GRADIENTS else None
    raise ValueError(prefix)


def mean_of(results: Results, column: str, protocol: str) -> float | None:
    """The mean test score of a column of the paper under a reading of the settings; None where there is none."""
    prefix = f"{column}-" if column.startswith("lstm") else f"{column}-{protocol}-"
    found = scores(group(results, prefix), "test", "sum")
    return fmean(found) if found else None


def notes(results: Results) -> list[str]:
    """The scores, and where the paper's order is met."""
    found = [
        "Mean ± standard deviation over the runs of the mean squared error of the positions on the test, which the "
        "paper prints without saying whether it is a sum or a mean over the nine coordinates."
    ]
    for protocol in PROTOCOLS:
        told = []
        for better, worse in ORDER:
            ours = mean_of(results, better, protocol), mean_of(results, worse, protocol)
            if ours[0] is not None and ours[1] is not None:
                holds = "holds" if ours[0] < ours[1] else "does not hold"
                told.append(f"{better} < {worse} {holds} ({ours[0]:.2g}, {ours[1]:.2g})")
        if told:
            found.append(f"The paper's order, settings of its {protocol.removeprefix('paper-')}: {'; '.join(told)}.")
    medians = [
        f"at {one['tolerance']:.0e} " + ", ".join(f"{name} {value:.2g}" for name, value in one["median"].items())
        for key, one in results.items()
        if key.startswith("gradient-error")
    ]
    if medians:
        found.append(
            "Relative error of dL/dm by the solver's tolerance, median over points between the first start and the "
            f"true masses: {'; '.join(medians)}. ACA holds the steps fixed; step-aware and naive let them move, which "
            "counts near close encounters."
        )
    return found


def figure(results: Results) -> Figure | None:
    """Every run as a dot on a logarithmic axis, beside the paper's figures and the trivial forecasters."""
    from physid.plots.look import look, new_figure

    rows = [(prefix, column, words) for prefix, column, words in rows_of() if group(results, prefix)]
    if not rows:
        return None
    with look("light") as theme:
        made = new_figure(8.6, 1.1 + 0.27 * len(rows))
        axes = made.subplots()
        for y, (prefix, column, _) in enumerate(rows):
            values = scores(group(results, prefix), "test", "sum")
            axes.plot(values, [y] * len(values), "o", color=theme.body(0), markersize=5.5, alpha=0.8)
            if column in PAPER:
                mean, sd = PAPER[column]
                axes.errorbar(mean, y, xerr=sd, fmt="D", color=theme.forecast, markersize=4.5, capsize=2.5, zorder=1)
        trivial = [one["test"]["sum"] for one in results.get("truth", {}).get("trivial", {}).values()]
        for value in trivial:
            axes.axvline(value, color=theme.muted, linewidth=1.0, linestyle=(0, (1, 1.5)), zorder=0)
        if trivial:
            where: Any = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "fontsize": 8.0}
            axes.annotate("trivial forecasters", (min(trivial), 1.0), (0, 4), ha="right", color=theme.muted, **where)
        labels = [" ".join(filter(None, (*name_of(prefix), words))) for prefix, _, words in rows]
        axes.set_yticks(range(len(rows)), labels, color=theme.ink, fontsize=8.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(xscale="log", xlabel="test MSE on [0, 2], summed over the coordinates")
        axes.plot([], [], "o", color=theme.body(0), label="our runs")
        axes.plot([], [], "D", color=theme.forecast, label="paper, mean ± sd")
        made.legend(loc="outside lower right", ncols=2, fontsize=8.5)
    return made


def cells(quick: bool) -> Sequence[Cell]:
    """Every model, gradient method, reading of the settings and seed."""
    if quick:
        return threebody.cells((0,), ("aca",), 200)
    return threebody.cells(SEEDS, GRADIENTS, 5000)


TABLE5 = Exhibit(
    "table5",
    "Table 5: the three-body problem",
    "Positions of three bodies, 1000 points on [0, 1] are fitted, [0, 2] is the test. ODE: Newton's law, three masses "
    "unknown; NODE: one fully connected layer on the augmented features; LSTMs on sequences of 20 points. The paper's "
    "text and its code differ in their settings: both readings are rows. A fit keeps the best of its epochs by the "
    "training loss. Trivial forecasters and physid's default recipes are rows too.",
    "all seeds but one, the gradients adjoint and naive, and all but 200 of the 5000 epochs of the LSTMs.",
    cells,
    table,
    figure,
    {column: {"mean": mean, "sd": sd} for column, (mean, sd) in PAPER.items()},
)
