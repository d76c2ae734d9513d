"""Figure 6: the error of the gradient against the horizon, for dz/dt = k z with both signs of k.

Source: Zhuang et al. (2020), section 4.2, Eq. 27-29 and Fig. 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from physid.reproduce.exhibit import Cell, Exhibit, Results, Table, Work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("aca", "naive", "adjoint")
RATES = {"growth": 1.0, "decay": -1.0}
SHOWN = (1.0, 2.0, 5.0, 10.0)  # horizons of the table
# what one step h of dopri5 multiplies z by, as a polynomial in k h: its stability function (Hairer et al., IV.2)
STABILITY = (1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 600)


def compute(work: Work, k: float, horizons: list[float], tolerance: float) -> dict[str, Any]:
    """dL/dz0 of L = z(T)^2 by every method, its errors, and the gradient of the discrete map by its own formula."""
    import torch

    from physid.ode import Integrator

    found: dict[str, Any] = {"k": k, "horizon": horizons, "error": {name: [] for name in METHODS}}
    found |= {"exact": [], "discrete": [], "steps": []}
    for horizon in horizons:
        exact = 2.0 * math.exp(2.0 * k * horizon)
        for name in METHODS:
            z0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
            integrator = Integrator("dopri5", tolerance, tolerance, control="paper", gradient=name, engine="eager")
            solution = integrator.solve(lambda t, z: k * z, z0, [0.0, horizon])
            (slope,) = torch.autograd.grad(solution.y[-1].square().sum(), z0)
            found["error"][name].append(abs(float(slope) - exact))
            if name == "aca":
                steps = torch.as_tensor(solution.steps).tolist()
                found["discrete"].append(abs(float(slope) / discrete(k, steps) - 1.0))
                found["steps"].append(len(steps))
        found["exact"].append(exact)
    return found


def discrete(k: float, steps: list[float]) -> float:
    """d/dz0 of (z0 R(k h_1) ... R(k h_N))^2 at z0 = 1: the derivative of what the solver computes on its steps."""
    product = math.prod(sum(c * (k * h) ** n for n, c in enumerate(STABILITY)) for h in steps)
    return 2.0 * product**2


def cells(quick: bool) -> list[Cell]:
    """One for each sign of k."""
    horizons = list(SHOWN) if quick else [0.5 * n for n in range(1, 31)]
    return [Cell(name, compute, {"k": k, "horizons": horizons, "tolerance": 1e-5}) for name, k in RATES.items()]


def table(results: Results) -> Table:
    """Relative errors at a few horizons, and how far ACA is from the derivative of the discrete map."""
    columns = ["k", "T", "dL/dz0", *METHODS, "aca against the discrete map", "steps"]
    rows = []
    for found in results.values():
        for i, horizon in enumerate(found["horizon"]):
            if horizon in SHOWN:
                errors = [found["error"][name][i] / found["exact"][i] for name in METHODS]
                rows.append([found["k"], horizon, found["exact"][i], *errors, found["discrete"][i], found["steps"][i]])
    return Table(columns, rows, list(map(str, notes(results))), digits=2)


def notes(results: Results) -> list[str]:
    """Findings in sentences."""
    found = ["Errors are relative to |dL/dz0|; the figure shows them absolute, as the paper does."]
    if "growth" in results:
        found.append(
            f"k > 0: the largest of the three errors is at most {spread(results['growth']):.2g} x the smallest."
        )
    if "decay" in results:
        decay = results["decay"]
        last = {name: decay["error"][name][-1] / decay["exact"][-1] for name in METHODS}
        told = ", ".join(f"{name} {error:.2g}" for name, error in last.items())
        better = sum(
            decay["error"]["aca"][i] <= min(decay["error"]["naive"][i], decay["error"]["adjoint"][i])
            for i in range(len(decay["horizon"]))
        )
        found.append(
            f"k < 0: at T = {decay['horizon'][-1]:g} the relative errors are {told}; aca is the best of the three at "
            f"{better} of {len(decay['horizon'])} horizons."
        )
    worst = max((x for one in results.values() for x in one["discrete"]), default=0.0)
    found.append(
        f"ACA is the derivative of the discrete map to a relative {worst:.1g}, whatever the tolerance did to that map."
    )
    return found


def spread(found: Mapping[str, Any]) -> float:
    """The largest ratio of the worst to the best method over the horizons."""
    errors: list[list[float]] = [[found["error"][name][i] for name in METHODS] for i in range(len(found["horizon"]))]
    return max(max(one) / max(min(one), 1e-300) for one in errors)


def figure(results: Results) -> Figure:
    """Absolute errors against T, a panel for each sign of k, with the exact gradient as a thin line."""
    from physid.plots.look import look, new_figure

    with look("light") as theme:
        made = new_figure(9.0, 3.7)
        panels = made.subplots(1, 2)
        for axes, (name, k) in zip(panels, RATES.items(), strict=True):
            axes.set_title(f"k = {k:+g}")
            axes.set_xlabel("horizon T")
            axes.set_yscale("log")
            if name not in results:
                continue
            found = results[name]
            styles = zip(METHODS, ("-", "--", (0, (1, 1.4))), ("o", "s", "^"), strict=True)
            for i, (method, style, mark) in enumerate(styles):
                axes.plot(
                    found["horizon"],
                    found["error"][method],
                    color=theme.body(i),
                    linestyle=style,
                    marker=mark,
                    markersize=3.6 + 1.8 * (i > 0),
                    markerfacecolor=theme.body(i) if i == 0 else "none",
                    linewidth=1.6,
                    label={"aca": "ACA"}.get(method, method),
                )
            axes.plot(found["horizon"], found["exact"], color=theme.muted, linewidth=1.0, label="the gradient itself")
        panels[0].set_ylabel("|error of dL/dz0|")
        handles, labels = panels[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=9.0)
    return made


FIG6 = Exhibit(
    "fig6",
    "Figure 6: error of the gradient of dz/dt = kz against the horizon",
    "L = z(T)^2, dopri5 at rtol = atol = 1e-5 with the paper's controller. k, z(0), the range of T and the "
    "precision are unstated; here k = 1 and -1, z(0) = 1, T up to 15, float64. All methods share one forward solve, so "
    "what differs is the gradient alone.",
    "four horizons up to T = 10 in place of thirty up to 15.",
    cells,
    table,
    figure,
    {"claim": "ACA consistently outperforms the naive and the adjoint method (Fig. 6; no numbers are printed)"},
)
