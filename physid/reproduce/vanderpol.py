"""Figures 4 and 9: the van der Pol equation solved forward, then back from where it ended.

Source: Zhuang et al. (2020), section 3.2, appendix D.1, Eq. 81-82, Figs. 4 and 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from physid.reproduce.exhibit import Cell, Exhibit, Results, Table, Work

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from physid.plots.look import Theme

HORIZONS = (5.0, 10.0, 15.0, 20.0, 25.0)
SHOWN = "t25"
START = (2.0, 0.0)


def compute(work: Work, horizon: float, rtol: float, atol: float, points: int) -> dict[str, Any]:
    """States forward and in reverse at `points` times, and a reference at tight tolerance."""
    import torch

    from physid.ode import Integrator

    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        first, second = y.unbind(-1)
        return torch.stack([second, (0.15 - first * first) * second - first], -1)

    chosen = Integrator("dopri5", rtol, atol, control="paper", engine="eager")
    times = torch.linspace(0.0, horizon, points, dtype=torch.float64)
    start = torch.tensor(START, dtype=torch.float64)
    forward = chosen.solve(field, start, times)
    states = torch.as_tensor(forward.y)
    reverse = chosen.solve(field, states[-1], times.flip(0))
    back = torch.as_tensor(reverse.y).flip(0)
    truth = torch.as_tensor(Integrator("dopri8", 1e-12, 1e-13, engine="eager").solve(field, start, times).y)
    again = Integrator("dopri8", 1e-12, 1e-13, engine="eager").solve(field, truth[-1], times.flip(0))
    return {
        "t": times.tolist(),
        "forward": states.tolist(),
        "reverse": back.tolist(),
        "forward_error": float((states[-1] - truth[-1]).norm()),
        "mismatch": float((back[0] - start).norm()),
        "tight_mismatch": float((torch.as_tensor(again.y)[-1] - start).norm()),
        "steps": [forward.statistics.accepted, reverse.statistics.accepted],
    }


def cells(quick: bool) -> list[Cell]:
    """One for each horizon."""
    settings = {"rtol": 1e-3, "atol": 1e-6, "points": 501}
    return [
        Cell(f"t{horizon:g}", compute, {"horizon": horizon, **settings})
        for horizon in HORIZONS
        if not quick or horizon == HORIZONS[-1]
    ]


def table(results: Results) -> Table:
    """Distances between the end of the reverse solve and the start of the forward one."""
    columns = ["T", "steps forward", "steps back", "error at T", "|z(0) back - z(0)|", "the same at 1e-12"]
    rows = [
        [float(key[1:]), *one["steps"], one["forward_error"], one["mismatch"], one["tight_mismatch"]]
        for key, one in results.items()
    ]
    return Table(columns, rows, [
        "The forward error is small, the reverse one is not: the flow contracts forward in time, and so expands "
        "backwards. |z(0)| is 2; the last column is the same loop with dopri8 at 1e-12.",
    ])  # fmt: skip


def phase(results: Results) -> Figure | None:
    """Figure 4: both trajectories in the phase plane."""
    from physid.plots.look import look, new_figure

    if SHOWN not in results:
        return None
    with look("light") as theme:
        made = new_figure(5.4, 4.4)
        axes = made.subplots()
        portrait(axes, theme, results[SHOWN])
        axes.legend(loc="upper right", fontsize=9.0)
    return made


def portrait(axes: Axes, theme: Theme, found: Any) -> None:
    """Draw the two trajectories, with a mark where each begins."""
    (x, y), (u, v) = zip(*found["forward"], strict=True), zip(*found["reverse"], strict=True)
    axes.plot(x, y, color=theme.body(0), label="forward")
    axes.plot(u, v, color=theme.forecast, linestyle=(0, (3.2, 1.6)), label="reverse")
    axes.plot(x[:1], y[:1], "o", color=theme.body(0), markersize=7)
    axes.plot(u[:1], v[:1], "o", color=theme.forecast, markersize=7)
    axes.plot(x[-1:], y[-1:], "s", color=theme.ink, markersize=5)
    axes.annotate("z(0)", (x[0], y[0]), (6, 6), textcoords="offset points")
    axes.annotate("z(0) in reverse", (u[0], v[0]), (8, 6), textcoords="offset points", color=theme.forecast)
    axes.annotate("z(T)", (x[-1], y[-1]), (7, -13), textcoords="offset points")
    axes.set_xlabel("$y_1$")
    axes.set_ylabel("$y_2$")


def series(results: Results) -> Figure | None:
    """Figure 9: both components over time, and their mismatch."""
    from physid.plots.look import look, new_figure

    if SHOWN not in results:
        return None
    found = results[SHOWN]
    with look("light") as theme:
        made = new_figure(9.0, 4.8)
        grid = made.subplot_mosaic([["a", "p"], ["b", "p"], ["c", "p"]], width_ratios=[1.5, 1.0])
        for axes, i in ((grid["a"], 0), (grid["b"], 1)):
            axes.plot(found["t"], [z[i] for z in found["forward"]], color=theme.body(0), label="forward")
            axes.plot(
                found["t"],
                [z[i] for z in found["reverse"]],
                color=theme.forecast,
                linestyle=(0, (3.2, 1.6)),
                label="reverse",
            )
            axes.set_ylabel(f"$y_{i + 1}$")
            axes.tick_params(labelbottom=False)
        gap = [sum((a - b) ** 2 for a, b in zip(z, w, strict=True)) ** 0.5 for z, w in both(found)]
        grid["c"].semilogy(found["t"][:-1], gap[:-1], color=theme.ink, linewidth=1.4)
        grid["c"].set_ylabel("mismatch")
        grid["c"].set_xlabel("time")
        portrait(grid["p"], theme, found)
        handles, labels = grid["a"].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9.0)
    return made


def both(found: Any) -> list[tuple[list[float], list[float]]]:
    """Pairs of forward and reverse states."""
    return list(zip(found["forward"], found["reverse"], strict=True))


SETTING = (
    "y1' = y2, y2' = (0.15 - y1^2) y2 - y1 from (2, 0) by dopri5 at the tolerances of MATLAB's ode45 (rtol 1e-3, atol "
    "1e-6; ode45 takes the largest component of the error, physid its rms), forward to T and back from z(T). T is "
    "unstated; the figure shows T = 25."
)
LEFT_OUT = "the horizons but T = 25."
CLAIM = {"claim": "forward and reverse trajectory differ visibly (no numbers are printed)"}

FIG4 = Exhibit("fig4", "Figure 4: van der Pol, forward and reverse", SETTING, LEFT_OUT, cells, table, phase, CLAIM)
FIG9 = Exhibit(
    "fig9", "Figure 9: van der Pol over time, forward and reverse", SETTING, LEFT_OUT, cells, table, series, CLAIM
)
