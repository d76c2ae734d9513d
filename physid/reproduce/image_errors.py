"""Tables 2, 6 and 7: errors of NODE18 and its kin on CIFAR, also under solvers that they were not trained with.

Source: Zhuang et al. (2020), section 4.2 and appendix D.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from physid.reproduce import images
from physid.reproduce.exhibit import Cell, Exhibit, Results, Table
from physid.reproduce.images import ADAPTIVE, DATASETS, FIXED, LEFT_OUT, STEPS, TOLERANCES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Table 2 is table 7 in places: its adaptive solvers are those at 1e-2, its fixed ones those with steps of 0.2
TABLE2 = ("heun_euler 0.01", "bosh3 0.01", "dopri5 0.01", "euler 0.2", "midpoint 0.2", "rk4 0.2")
PAPER2: Mapping[str, tuple[float | None, ...]] = {
    "cifar10": (4.85, 4.92, 5.29, 5.52, 5.27, 5.24, 9.8, 9.3, 6.8, 6.98),
    "cifar100": (22.66, 24.13, 23.56, 24.44, 24.44, 24.43, 30.6, 29.4, 22.7, 27.08),
}
KINDS2 = {
    "node18-aca": "paper-350",
    "node18-adjoint": "paper-gradients",
    "node18-naive": "paper-gradients",
    "anode18": "paper-350",
    "resnet18": "paper-350",
}
# increase of the error, in per cent of the images
PAPER6 = {
    "euler": (0.0, 1.14, 3.62, 4.84),
    "midpoint": (7.69, 6.43, 6.38, 6.43),
    "rk4": (5.69, 6.31, 6.30, 6.47),
    "heun_euler": (5.32, 6.33, 6.42),
    "bosh3": (6.03, 6.31, 6.44),
    "dopri5": (6.30, 6.47, 6.46),
}
PAPER7 = {
    "euler": (8.31, 1.57, 0.67, 0.57),
    "midpoint": (6.61, 0.57, 0.42, 0.39),
    "rk4": (1.09, 0.48, 0.39, 0.37),
    "heun_euler": (1.29, 0.0, 0.18),
    "bosh3": (0.46, 0.07, 0.40),
    "dopri5": (1.75, 0.44, 0.16),
}
SETTING = (
    "SGD with momentum 0.9 and weight decay 5e-4, batches of 128, crops and flips; 350 epochs at a rate of 0.1 that "
    "falls to a tenth after 150 and 250 epochs. ACA trains by HeunEuler at rtol = atol = 1e-2."
)


def found(results: Results, data: str, kind: str) -> Any:
    """The result of a training that was finished, or None."""
    one = results.get(f"{data}-{kind}-0")
    return None if one is None or "diverged" in one else one


def sets_of(results: Results) -> list[str]:
    """The data sets that the results are of."""
    return [data for data in (*DATASETS, "images-toy") if any(key.startswith(f"{data}-") for key in results)]


def cells2(quick: bool) -> list[Cell]:
    """Five trainings for each data set, NODE18-ACA with all solvers."""
    made = images.cells(KINDS2, (0,), quick)
    return [Cell(c.key, c.compute, {**c.settings, "solvers": "node18-aca" in c.key}) for c in made]


def table2(results: Results) -> Table:
    """Errors in per cent: NODE18-ACA by six solvers, the other gradient methods, ANODE18 and ResNet18."""
    columns = ["data", "", *(words(solver) for solver in TABLE2), "adjoint", "naive", "ANODE18", "ResNet18"]
    rows: list[list[Any]] = []
    for data in sets_of(results):
        aca = found(results, data, "node18-aca")
        errors = [None if aca is None else 100 * aca["solvers"][solver] for solver in TABLE2]
        for kind in list(KINDS2)[1:]:
            one = found(results, data, kind)
            errors.append(None if one is None else 100 * one["error"])
        rows.append([data, "here", *errors])
        if data in PAPER2:
            rows.append([data, "paper", *PAPER2[data]])
    notes = ["Error on the test set in per cent. The paper has ResNet18 from the literature, not from runs of its own."]
    notes += ["ANODE18 takes two Euler steps, which the paper leaves unstated."]
    return Table(columns, rows, notes)


def words(solver: str) -> str:
    """A solver in the paper's words, from the key of a result."""
    name, number = solver.split()
    return f"{(FIXED | ADAPTIVE)[name]} {number}"


def table_of(kind: str, paper: Mapping[str, tuple[float, ...]], own: str, results: Results) -> Table:
    """The increase of the error under every solver over that of the solver that it was trained with."""
    columns = ["solver", "step or tolerance", "error (%)", "increase", "increase, paper"]
    rows: list[list[Any]] = []
    data = next(iter(sets_of(results)), "")
    one = found(results, data, kind)
    for name, told in (FIXED | ADAPTIVE).items():
        for number, printed in zip(STEPS if name in FIXED else TOLERANCES, paper[name], strict=True):
            key = f"{name} {number:g}"
            error = None if one is None else 100 * one["solvers"][key]
            increase = None if one is None or error is None else error - 100 * one["solvers"][own]
            rows.append([told, number, error, increase, printed])
    notes = [f"In per cent of the test images of {data}; trained with {words(own)}."] if data else []
    return Table(columns, rows, notes)


def cells_of(kind: str, quick: bool) -> list[Cell]:
    """One training, scored by all solvers, on CIFAR-10."""
    return images.cells({kind: "paper-350"}, (0,), quick, solvers=True)[:1]


def cells6(quick: bool) -> list[Cell]:
    """ResNet18 on CIFAR-10."""
    return cells_of("resnet18", quick)


def cells7(quick: bool) -> list[Cell]:
    """NODE18 by ACA on CIFAR-10."""
    return cells_of("node18-aca", quick)


def table6(results: Results) -> Table:
    """Table 6 beside the paper's."""
    return table_of("resnet18", PAPER6, "euler 1", results)


def table7(results: Results) -> Table:
    """Table 7 beside the paper's."""
    return table_of("node18-aca", PAPER7, "heun_euler 0.01", results)


def picture(table: Table) -> Figure | None:
    """The increase against the step or the tolerance, ours as lines and the paper's as crosses."""
    from physid.plots.look import LIGHT, look, new_figure

    rows = [row for row in table.rows if row[3] is not None]
    if not rows:
        return None
    with look(LIGHT) as colours:
        figure = new_figure(9.0, 3.4)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, names, label in zip(panels, (FIXED, ADAPTIVE), ("step", "rtol = atol"), strict=True):
            for number, name in enumerate(names.values()):
                points = [row for row in rows if row[0] == name]
                x, colour = [row[1] for row in points], colours.body(number)
                axes.plot(x, [row[3] for row in points], "o-", color=colour, markersize=4.5, label=name)
                axes.plot(x, [row[4] for row in points], "x", color=colour, markersize=6)
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.axhline(0.0, color=colours.muted, linewidth=0.9)
            axes.legend(loc="best")
        panels[0].set_ylabel("increase of the error (%)")
        panels[0].set_title("lines: here, crosses: paper")
    return figure


EXHIBIT2 = Exhibit(
    name="table2",
    title="Table 2: test errors on CIFAR-10 and CIFAR-100, also under solvers of other orders",
    setting=f"{SETTING} Adjoint and naive: Dopri5 at 1e-5, 90 epochs at a rate of 0.01, naive with batches of 32.",
    left_out=LEFT_OUT,
    cells=cells2,
    table=table2,
    paper={"table2": {name: list(row) for name, row in PAPER2.items()}},
)
EXHIBIT6 = Exhibit(
    name="table6",
    title="Table 6: ResNet18 under solvers that it was not trained with",
    setting=SETTING,
    left_out=LEFT_OUT,
    cells=cells6,
    table=table6,
    figure=lambda results: picture(table6(results)),
    paper={"table6": {name: list(row) for name, row in PAPER6.items()}},
)
EXHIBIT7 = Exhibit(
    name="table7",
    title="Table 7: NODE18 under solvers that it was not trained with",
    setting=SETTING,
    left_out=LEFT_OUT,
    cells=cells7,
    table=table7,
    figure=lambda results: picture(table7(results)),
    paper={"table7": {name: list(row) for name, row in PAPER7.items()}},
)
