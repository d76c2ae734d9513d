"""Table 3 and figure 7: how repeated trainings agree, and how the gradient methods learn.

Source: Zhuang et al. (2020), section 4.2, figure 7 and table 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from physid.reproduce import images
from physid.reproduce.exhibit import Cell, Exhibit, Results, Table
from physid.reproduce.images import DATASETS, LEFT_OUT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = 10
QUICK_RUNS = 3
NAMES = {"resnet18": "ResNet18", "node18-aca": "NODE18"}
# data, model -> ICC1 and ICC1k of all images, then of the misclassified ones, each as the ends of an interval
PAPER3 = {
    ("cifar10", "resnet18"): ("0.932-0.935", "0.992-0.993", "0.581-0.608", "0.933-0.939"),
    ("cifar10", "node18-aca"): ("0.943-0.945", "0.993-0.994", "0.650-0.675", "0.949-0.954"),
    ("cifar100", "resnet18"): ("0.759-0.768", "0.969-0.971", "0.553-0.571", "0.925-0.930"),
    ("cifar100", "node18-aca"): ("0.767-0.776", "0.971-0.972", "0.570-0.587", "0.930-0.934"),
}
GRADIENTS = ("aca", "adjoint", "naive")
# test error in per cent and hours of 90 epochs on a GTX 1080 Ti
PAPER7 = {"aca": ("about 5", "about 9"), "adjoint": ("about 10", "about 18"), "naive": ("about 10", "more than 30")}


def seeds(quick: bool) -> range:
    """The seeds of the repeated runs."""
    return range(QUICK_RUNS if quick else RUNS)


def cells3(quick: bool) -> list[Cell]:
    """Repeated trainings of both networks."""
    return images.cells(dict.fromkeys(NAMES, "paper-90"), seeds(quick), quick)


def group(results: Results, data: str, kind: str) -> list[Any]:
    """The finished runs of a network on a data set."""
    return [one for key, one in results.items() if key.startswith(f"{data}-{kind}-") and "diverged" not in one]


def table3(results: Results) -> Table:
    """ICC1 and ICC1k with their 95 % intervals, beside the paper's."""
    from physid.training.classifying import reliability

    columns = ["data", "network", "runs", "error (%)"]
    columns += [f"{what}, {where}" for where in ("all", "misclassified") for what in ("ICC1", "ICC1k")]
    rows: list[list[Any]] = []
    for data in (*DATASETS, "images-toy"):
        for kind, name in NAMES.items():
            runs = group(results, data, kind)
            if len(runs) < 2:
                continue
            found = reliability([np.array(one["answers"]) for one in runs], np.array(runs[0]["truth"]))
            parts = [found[where][what] for where in ("all", "misclassified") for what in ("icc1", "icc1k")]
            told = [f"{part.low:.3f}-{part.high:.3f}" if math.isfinite(part.value) else None for part in parts]
            rows.append([data, name, len(runs), 100 * fmean(one["error"] for one in runs), *told])
            if (data, kind) in PAPER3:
                rows.append([data, f"{name}, paper", RUNS, None, *PAPER3[data, kind]])
    return Table(columns, rows, [
        "Intraclass correlation of the number of the class that each run gives to an image, with its 95 % interval; "
        "misclassified are the images that any of the runs got wrong. The paper states neither."
    ])  # fmt: skip


def cells7(quick: bool) -> list[Cell]:
    """NODE18 by every gradient method; the repeated runs of panels (c) and (d) too, unless quick."""
    kinds = {f"node18-{gradient}": "paper-gradients" for gradient in GRADIENTS}
    sets: Sequence[str] = (images.at_hand(),) if quick else ("cifar10",)
    made = [
        images.cell(kind, data, kinds[kind], 100 + seed, quick)
        for data in sets
        for kind in kinds
        for seed in range(1 if quick else 3)
    ]
    return made if quick else [*made, *cells3(False)]


def compared(results: Results, gradient: str) -> list[Any]:
    """The finished runs of a gradient method in panels (a) and (b), whose seeds start at 100."""
    return [
        one
        for key, one in results.items()
        if f"-node18-{gradient}-" in key and int(key.rpartition("-")[2]) >= 100 and "diverged" not in one
    ]


def table_fig7(results: Results) -> Table:
    """Ends of the curves: error, time, and memory, evaluations of a step."""
    columns = ["gradient", "runs", "error (%)", "sd", "error, paper", "seconds an epoch", "hours, paper (90 epochs)"]
    columns += ["evaluations a step", "backward", "memory, MB"]
    rows: list[list[Any]] = []
    for gradient in GRADIENTS:
        runs = compared(results, gradient)
        if not runs:
            continue
        errors, last = [100 * one["error"] for one in runs], [one["history"][-1] for one in runs]
        error, hours = PAPER7[gradient]
        spread = stdev(errors) if len(errors) > 1 else None
        pace = fmean(row["seconds"] / row["epoch"] for row in last)
        costs = (fmean(row[name] for row in last) for name in ("evaluations", "backward_evaluations", "memory_mb"))
        rows.append([gradient, len(runs), fmean(errors), spread, error, pace, hours, *costs])
    notes = ["Memory is the peak of the GPU's, or of the process where there is none, earlier cells included."]
    return Table(columns, rows, notes)


def figure7(results: Results) -> Figure | None:
    """Test error of the gradient methods against epochs and seconds, the first run of each."""
    from physid.plots.curves import learning_curves

    shown = {gradient: compared(results, gradient) for gradient in GRADIENTS}
    rows = {name: runs[0]["history"] for name, runs in shown.items() if runs}
    return learning_curves(rows, level=(90.0, "chance")) if rows else None


def figure3(results: Results) -> Figure | None:
    """Test errors of the repeated runs as dots, figure 7 (c) and (d)."""
    from physid.plots.look import LIGHT, look, new_figure

    found = {
        f"{NAMES[kind]}\n{data}": [100 * one["error"] for one in group(results, data, kind)]
        for data in (*DATASETS, "images-toy")
        for kind in NAMES
    }
    found = {name: errors for name, errors in found.items() if errors}
    if not found:
        return None
    with look(LIGHT) as colours:
        figure = new_figure(1.6 + 1.5 * len(found), 3.2)
        axes = figure.subplots()
        for place, errors in enumerate(found.values()):
            axes.plot([place] * len(errors), errors, "o", color=colours.body(place % 2), alpha=0.7, markersize=5)
            axes.plot([place - 0.18, place + 0.18], [fmean(errors)] * 2, color=colours.ink, linewidth=1.4)
        axes.set_xticks(range(len(found)), list(found))
        axes.set_xlim(-0.6, len(found) - 0.4)
        axes.set_ylabel("test error (%)")
    return figure


EXHIBIT3 = Exhibit(
    name="table3",
    title="Table 3: test-retest reliability of NODE18 and ResNet18",
    setting=f"{RUNS} trainings of each network from other random weights, 90 epochs at a rate of 0.1 that falls to a "
    "tenth after 30 and 60 epochs, batches of 128; NODE18 by ACA, HeunEuler at 1e-2.",
    left_out=f"{LEFT_OUT} {QUICK_RUNS} runs in place of {RUNS}.",
    cells=cells3,
    table=table3,
    figure=figure3,
    paper={"table3": {f"{data} {kind}": list(row) for (data, kind), row in PAPER3.items()}},
)
FIG7 = Exhibit(
    name="fig7",
    title="Figure 7: NODE18 by ACA, the adjoint and naive, test error against epochs and time",
    setting="90 epochs at a rate of 0.01 that falls to a tenth after 30 and 60 epochs, three runs each; ACA by "
    "HeunEuler at 1e-2, adjoint and naive by Dopri5 at 1e-5, batches of 128, of naive 32. The repeated runs of panels "
    "(c) and (d) are those of table 3.",
    left_out=f"{LEFT_OUT} One run each, and neither panel (c) nor (d).",
    cells=cells7,
    table=table_fig7,
    figure=figure7,
    paper={"fig7": {name: list(values) for name, values in PAPER7.items()}},
)
