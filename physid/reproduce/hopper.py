"""Table 4 and figures 10 to 12: irregular series of the hopper, their test error with 10, 20 and 50 % observed.

Source: Zhuang et al. (2020), section 4.3, table 4 and appendix C; Rubanova, Chen and Duvenaud (2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from physid.reproduce.exhibit import Cell, Exhibit, Results, Table, Work

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from physid.api.train import Trained

PARTS = (0.1, 0.2, 0.5)
GRADIENTS = ("adjoint", "naive", "aca")
# the paper's test error times 100 with 10, 20 and 50 % observed
PAPER: Mapping[str, tuple[float, ...]] = {
    "rnn": (2.45, 1.71, 0.79),
    "gru": (1.97, 1.42, 0.75),
    "latent-ode adjoint": (0.47, 0.44, 0.40),
    "latent-ode naive": (0.36, 0.30, 0.29),
    "latent-ode aca": (0.31, 0.27, 0.26),
}
LATENT = "latent-ode aca"
FULL: Mapping[str, Any] = {"trajectories": 10_000, "epochs": 300, "width": 300, "depth": 3, "every": 5}
QUICK: Mapping[str, Any] = {"trajectories": 500, "epochs": 20, "width": 100, "depth": 1, "every": 1}
FEW = 3  # epochs of the quick comparison of gradient methods
SEEDS = 3


def compute(
    work: Work,
    network: str,
    observed: float,
    seed: int,
    trajectories: int,
    epochs: int,
    width: int,
    depth: int,
    every: int,
) -> dict[str, Any]:
    """One training: its history, and the error of the mean predictor. `network` has the gradient method behind it."""
    import torch

    from physid.api.train import train
    from physid.datasets import collect
    from physid.models import NETWORKS
    from physid.models import network as build

    device = "cuda" if torch.cuda.is_available() else "cpu"
    collection = collect("hopper", observed=observed, trajectories=trajectories)

    def begin(**how: Any) -> Trained:
        name, _, gradient = network.partition(" ")
        options = {"width": width, "depth": depth, "gradient": gradient} if gradient else {"width": width}
        torch.manual_seed(seed)
        learner = build(name, collection, **options).to(device)
        recipe = replace(NETWORKS[name].recipe, epochs=epochs, evaluate_every=every, seed=seed)
        return train(learner, collection, recipe, **how)

    trained = work.run(begin, work.folder)
    kept = ("epoch", "loss", "test_mse", "seconds", "evaluations")
    return {
        "steps": collection.steps(trained.recipe.batch),
        "weights": trained.size,
        "mean_predictor": trained.data["mean_predictor_mse"],
        "device": device,
        "history": [{name: row[name] for name in kept if name in row} for row in trained.history],
    }


def key(network: str, observed: float, seed: int, compared: bool = False) -> str:
    """The key of a training."""
    return f"{'compared-' if compared else ''}{network.replace(' ', '-')}-{100 * observed:g}-seed{seed}"


def cells_of(parts: Sequence[float]) -> Callable[[bool], list[Cell]]:
    """The list of trainings with these parts observed; a quick table compares the gradient methods for itself."""

    def cells(quick: bool) -> list[Cell]:
        size = QUICK if quick else FULL

        def cell(network: str, part: float, seed: int, **changes: Any) -> Cell:
            settings = {"network": network, "observed": part, "seed": seed, **size, **changes}
            return Cell(key(network, part, seed, bool(changes)), compute, settings)

        if not quick:
            seeds = {name: SEEDS if name.startswith("latent") else 1 for name in PAPER}
            order = sorted((s, part, name) for part in parts for name in PAPER for s in range(seeds[name]))
            return [cell(name, part, seed) for seed, part, name in order]
        found = [cell(name, part, 0) for part in parts for name in ("rnn", "gru", LATENT)]
        if len(parts) > 1:
            methods = [f"latent-ode {gradient}" for gradient in reversed(GRADIENTS)]
            found += [cell(name, parts[0], seed, epochs=FEW) for seed in range(SEEDS) for name in methods]
        return found

    return cells


def tested(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The epochs of a training after which the test was scored."""
    return [row for row in one.get("history", []) if "test_mse" in row]


def table_of(parts: Sequence[float]) -> Callable[[Results], Table]:
    """The function that makes the table of these parts."""

    def table(results: Results) -> Table:
        columns = ["network", "% observed", "paper, x 1e-2", "test mse, x 1e-2", "sd", "least, x 1e-2", "seeds"]
        columns += ["mean predictor, x 1e-2", "iterations", "evaluations a step", "s a step"]
        rows: list[list[Any]] = []
        for part in parts:
            for name, printed in PAPER.items():
                if found := runs(results, name, part):
                    rows.append([name, 100 * part, printed[PARTS.index(part)], *_numbers(found)])
        for gradient in GRADIENTS:
            if found := runs(results, f"latent-ode {gradient}", parts[0], compared=True):
                rows.append([f"compared: {gradient}", 100 * parts[0], None, *_numbers(found)])
        return Table(columns, rows, notes(results, parts))

    return table


def runs(results: Results, network: str, part: float, compared: bool = False) -> list[Mapping[str, Any]]:
    """The trainings of a network that were scored, by seed."""
    found = (results.get(key(network, part, seed, compared), {}) for seed in range(SEEDS))
    return [one for one in found if tested(one)]


def _numbers(found: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Last error with its sd, least error, seeds, error of the mean predictor; iterations and costs of a step."""
    from statistics import mean, stdev

    last = [100 * tested(one)[-1]["test_mse"] for one in found]
    least = min(100 * row["test_mse"] for one in found for row in tested(one))
    ends = [one["history"][-1] for one in found]
    counts = [end["epoch"] * one["steps"] for end, one in zip(ends, found, strict=True)]
    seconds = mean(end["seconds"] / count for end, count in zip(ends, counts, strict=True))
    spread = stdev(last) if len(last) > 1 else None
    predictor = 100 * found[0]["mean_predictor"]
    return [mean(last), spread, least, len(last), predictor, counts[0], ends[0].get("evaluations"), seconds]


def notes(results: Results, parts: Sequence[float]) -> list[str]:
    """Units of the errors, and the comparison of gradient methods."""
    found = [
        "The error is the mean squared error over all times of the test's series, in the scaled units of the source "
        "experiment; the scale depends on the throws, so the error of the training series' mean stands beside it."
    ]
    for compared in (True, False):
        by_method = {
            gradient: [
                100 * tested(one)[-1]["test_mse"] for one in runs(results, f"latent-ode {gradient}", part, compared)
            ]
            for gradient in GRADIENTS
            for part in parts[:1]
        }
        if all(len(errors) == SEEDS for errors in by_method.values()):
            found.append(verdict(by_method))
    return found


def verdict(by_method: Mapping[str, Sequence[float]]) -> str:
    """Whether ACA is better, over the same iterations and seeds."""
    from statistics import mean, stdev

    told = ", ".join(f"{name} {mean(errors):.4g} +- {stdev(errors):.2g}" for name, errors in by_method.items())
    sentences = []
    for rival in ("naive", "adjoint"):
        gaps = [a - b for a, b in zip(by_method["aca"], by_method[rival], strict=True)]
        wins = sum(gap < 0 for gap in gaps)
        size = mean(map(abs, gaps)) / mean(by_method[rival])
        sentences.append(
            f"ACA is below {rival} in {wins} of {len(gaps)} seeds, and {size:.2%} apart from it on average"
        )
    spread = stdev(by_method["aca"]) / mean(by_method["aca"])
    return (
        f"Gradient methods over the same iterations, test mse x 1e-2: {told}. {'; '.join(sentences)}. The seeds of one "
        f"method differ by {spread:.1%}: a difference between methods that is smaller than that is none."
    )


def figure_of(parts: Sequence[float]) -> Callable[[Results], Figure | None]:
    """The function that draws the curves of these parts, against iterations and against seconds."""

    def figure(results: Results) -> Figure | None:
        from physid.plots.look import look, new_figure

        if not any(tested(one) for one in results.values()):
            return None
        with look("light") as theme:
            made = new_figure(3.6 * max(2, len(parts)), 5.4)
            grid = made.subplots(2, len(parts), sharey=True, squeeze=False)
            for column, part in enumerate(parts):
                for row, by_time in enumerate((False, True)):
                    _curves(grid[row, column], theme, results, part, by_time)
                grid[0, column].set_title(f"{100 * part:g} % observed")
            for row in range(2):
                grid[row, 0].set_ylabel("test mse")
            handles, labels = grid[0, 0].get_legend_handles_labels()
            made.legend(handles, labels, loc="outside upper right", ncols=min(4, len(labels)), fontsize=8.5)
        return made

    return figure


def _curves(axes: Axes, theme: Any, results: Results, part: float, by_time: bool) -> None:
    """The error of every network with one part observed; the paper's last values as ticks at the edge."""
    mean = None
    for place, (name, printed) in enumerate(PAPER.items()):
        one = results.get(key(name, part, 0), {})
        rows = tested(one)
        if not rows:
            continue
        x = [row["seconds"] if by_time else row["epoch"] * one["steps"] for row in rows]
        axes.plot(x, [row["test_mse"] for row in rows], color=theme.body(place), label=name, linewidth=1.6)
        axes.axhline(printed[PARTS.index(part)] / 100, xmin=0.96, color=theme.body(place), linewidth=2.4)
        mean = one["mean_predictor"]
    if mean is not None:
        axes.axhline(mean, color=theme.muted, linewidth=1.0, linestyle=(0, (1, 2)), label="mean predictor")
        axes.plot([], [], color=theme.muted, linewidth=2.4, label="paper, at the end")
    axes.set(yscale="log", xlabel="seconds" if by_time else "iterations")


SETTING = (
    "10,000 throws of dm_control's hopper, 8000 for training; windows of 100 samples, of which a part is kept at "
    "random whenever a series is drawn; the networks predict all 100. 300 epochs of Adamax in batches of 50, rate 0.01 "
    "falling by 0.999 an iteration to 0.001. The latent ODE is that of the source experiment (617,619 weights), its "
    "decoder dopri5 at rtol 1e-3 and atol 1e-4. RNN has the time gaps as inputs, RNN-GRU (here gru) decays. The paper "
    "does not say whether its numbers are the last or the least of a training: both are given, scored every fifth "
    "epoch. "
    "The latent ODE is trained from three seeds."
)
LEFT_OUT = (
    "500 throws, 20 epochs (160 iterations) of one seed, and networks of width 100 with two hidden layers in their "
    "fields, so that errors stay far above the paper's; the table compares the gradient methods in 24 iterations of "
    "three seeds."
)


def _exhibit(name: str, title: str, parts: Sequence[float]) -> Exhibit:
    places = [PARTS.index(part) for part in parts]
    printed = {network: [values[place] for place in places] for network, values in PAPER.items()}
    paper = {"observed": list(parts), "test mse x 1e-2": printed}
    return Exhibit(name, title, SETTING, LEFT_OUT, cells_of(parts), table_of(parts), figure_of(parts), paper)


TABLE4 = _exhibit("table4", "Table 4: test error of irregularly sampled series", PARTS)
FIG10 = _exhibit("fig10", "Figure 10: test error, 10 % observed", PARTS[:1])
FIG11 = _exhibit("fig11", "Figure 11: test error, 20 % observed", PARTS[1:2])
FIG12 = _exhibit("fig12", "Figure 12: test error, 50 % observed", PARTS[2:])
