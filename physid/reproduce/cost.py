"""Table 1: cost, memory and depth of the gradient methods, counted, against the number of layers, steps and trials.

Source: Zhuang et al. (2020), section 3.1 and table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.reproduce.exhibit import Cell, Exhibit, Results, Table, Work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("naive", "adjoint", "aca")
LAYERS = (1, 2, 4, 8)
HORIZONS = (2.0, 4.0, 8.0, 16.0)
TRIALS = (1.0, 2.0, 2.4)  # exponents of the step-size controller: above 1 it overreacts, and more trials are rejected

Counts = Mapping[str, float]
# what the paper's formulas say by (quantity, method), in the counts of one cell; several terms, a constant for each
FORMULAS: Mapping[tuple[str, str], tuple[str, Callable[[Counts], list[float]]]] = {
    ("cost", "naive"): ("Nf Nt m 2", lambda c: [c["layers"] * c["attempts"] * 2]),
    ("cost", "adjoint"): ("Nf (Nt + Nr) m", lambda c: [c["layers"] * (c["attempts"] + c["reverse_attempts"])]),
    ("cost", "aca"): ("Nf Nt (m + 1)", lambda c: [c["layers"] * (c["attempts"] + c["steps"])]),
    ("memory", "naive"): ("Nf Nt m", lambda c: [c["layers"] * c["attempts"]]),
    ("memory", "adjoint"): ("Nf", lambda c: [c["layers"]]),
    ("memory", "aca"): ("Nf + Nt", lambda c: [c["layers"], c["steps"]]),
    ("depth", "naive"): ("Nf Nt m", lambda c: [c["layers"] * c["attempts"]]),
    ("depth", "adjoint"): ("Nf Nr", lambda c: [c["layers"] * c["reverse_steps"]]),
    ("depth", "aca"): ("Nf Nt", lambda c: [c["layers"] * c["steps"]]),
}


def compute(work: Work, layers: int, horizon: float, exponent: float, tolerance: float, width: int) -> dict[str, Any]:
    """The counts of every method for one network, horizon and controller."""
    from physid.reproduce.counting import count

    return {method: count(method, layers, horizon, exponent, tolerance, width) for method in METHODS}


def cells(quick: bool) -> list[Cell]:
    """One for each number of layers, horizon and controller."""
    grid = [(n, t, e) for n in LAYERS for t in HORIZONS for e in TRIALS]
    if quick:
        grid = [(n, t, e) for n, t, e in grid if n <= 2 and t <= 4.0]
    return [
        Cell(
            f"layers{n}-t{t:g}-exponent{e:g}",
            compute,
            {"layers": n, "horizon": t, "exponent": e, "tolerance": 1e-5, "width": 96},
        )
        for n, t, e in grid
    ]


def fitted(results: Results, quantity: str, method: str) -> tuple[list[float], list[float], list[float]]:
    """The constants that make the formula fit best in relative terms, what was counted, and what it then predicts."""
    counts = [one[method] for one in results.values()]
    _, terms = FORMULAS[quantity, method]
    design = np.array([terms(one) for one in counts], dtype=np.float64)
    measured = np.array([one[quantity] for one in counts], dtype=np.float64)
    constants, *_ = np.linalg.lstsq(design / measured[:, None], np.ones(len(measured)), rcond=None)
    return constants.tolist(), measured.tolist(), (design @ constants).tolist()


def table(results: Results) -> Table:
    """The paper's formula, the fitted constants, and the largest deviation from it over all cells."""
    columns = [
        "what",
        "method",
        "formula of the paper",
        "constants fitted",
        "counted, least",
        "most",
        "worst deviation",
    ]
    rows: list[list[Any]] = []
    if results:
        for (quantity, method), (formula, _) in FORMULAS.items():
            constants, measured, predicted = fitted(results, quantity, method)
            worst = max(abs(p / m - 1.0) for p, m in zip(predicted, measured, strict=True))
            told = ", ".join(f"{c:.3g}" for c in constants)
            rows.append([quantity, method, formula, told, int(min(measured)), int(max(measured)), f"{worst:.0%}"])
    return Table(columns, rows, notes(results))


def notes(results: Results) -> list[str]:
    """The quantities that are counted, and the ranges they are counted against."""
    found = [
        "Cost: passes through a layer, forward or backward. Memory: most bytes that autograd and checkpoints hold at "
        "once, parameters not counted; naive also holds the sums of the stages, whose number does not depend on Nf, so "
        "that its formula fits least. Depth: layers on the longest path of the gradient from the loss to z(0).",
    ]
    if results:
        counts = [one["aca"] for one in results.values()]
        trials = [c["attempts"] / c["steps"] for c in counts]
        steps = [int(c["steps"]) for c in counts]
        found.append(
            f"{len(counts)} cells: Nf {min(c['layers'] for c in counts)} to {max(c['layers'] for c in counts)} layers, "
            f"Nt {min(steps)} to {max(steps)} accepted steps, m {min(trials):.2f} to {max(trials):.2f} trials a step; "
            "dopri5 evaluates f six times a trial, so six is the constant to expect of a pass."
        )
        ratios = [one["aca"]["cost"] / one["naive"]["cost"] for one in results.values()]
        found.append(
            "The paper counts the backward pass of naive as one more pass a trial, but those of the others not at all: "
            "ACA replays and pulls back, Nf Nt (m + 2) passes, and every evaluation of the reverse solve is a pass "
            "forward and one backward, so that their constants lie above six. ACA took "
            f"{min(ratios):.2f} to {max(ratios):.2f} times the passes of naive: where few trials are rejected naive "
            "makes fewer, at a multiple of the memory."
        )
    return found


def figure(results: Results) -> Figure | None:
    """Counts against the fitted formula, a panel for each quantity."""
    from physid.plots.look import look, new_figure

    if not results:
        return None
    units = {"cost": "passes through a layer", "memory": "bytes held at most", "depth": "layers on the longest path"}
    with look("light") as theme:
        made = new_figure(9.6, 3.6)
        for axes, quantity in zip(made.subplots(1, 3), units, strict=True):
            ends = []
            for i, (method, mark) in enumerate(zip(METHODS, ("s", "^", "o"), strict=True)):
                _, measured, predicted = fitted(results, quantity, method)
                label = f"{method}, O({FORMULAS[quantity, method][0]})"
                axes.plot(predicted, measured, mark, color=theme.body(i), markersize=4.2, alpha=0.75, label=label)
                ends += [*predicted, *measured]
            line = [0.6 * min(ends), 1.6 * max(ends)]
            axes.plot(line, line, color=theme.muted, linewidth=1.0, zorder=1)
            axes.set(xscale="log", yscale="log", xlabel="the paper's formula, fitted", ylabel=units[quantity])
            axes.set_title(quantity)
            axes.legend(fontsize=7.5, loc="upper left", handletextpad=0.2)
    return made


TABLE1 = Exhibit(
    "table1",
    "Table 1: cost, memory and depth of the gradient methods",
    "f is a stack of Nf layers tanh(W z + b) of width 96 with random weights, dopri5 at 1e-5 in float64 on the eager "
    "engine. The horizon varies Nt, and a controller that overreacts varies m. Each formula of the paper is fitted to "
    "the counts, with one constant a term.",
    "more than two layers, and horizons beyond 4.",
    cells,
    table,
    figure,
    {f"{quantity}, {method}": formula for (quantity, method), (formula, _) in FORMULAS.items()},
)
