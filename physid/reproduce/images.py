"""Shared parts of the exhibits on images: networks, data, recipes and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physid.reproduce.exhibit import Cell, Work

if TYPE_CHECKING:
    from physid.api.train import Trained

# solver, and the step or the tolerance; Zhuang et al. (2020), tables 6 and 7
STEPS = (1.0, 0.5, 0.2, 0.1)
TOLERANCES = (1e-1, 1e-2, 1e-3)
FIXED = {"euler": "Euler", "midpoint": "RK2", "rk4": "RK4"}
ADAPTIVE = {"heun_euler": "HeunEuler", "bosh3": "RK23", "dopri5": "RK45"}
SOLVERS: tuple[tuple[str, Mapping[str, float]], ...] = (
    *((name, {"step": step}) for name in FIXED for step in STEPS),
    *((name, {"rtol": x, "atol": x}) for name in ADAPTIVE for x in TOLERANCES),
)
DATASETS = ("cifar10", "cifar100")

# a narrow network on few images, which a processor trains in a minute; every gradient method by ACA's solver
QUICK = {"epochs": 3, "batch": 50, "lr": 0.05, "rate": {"rule": "one-cycle"}}
QUICK_WIDTH, QUICK_IMAGES, QUICK_TEST = 8, 1000, 400
LEFT_OUT = (
    f"A network of width {QUICK_WIDTH} in place of 64, {QUICK['epochs']} epochs on the first {QUICK_IMAGES} images of "
    f"CIFAR-10 (on synthetic stripes where it is not at hand), {QUICK_TEST} test images, and no CIFAR-100: errors far "
    "above the paper's, which show that everything runs and nothing more. All gradient methods take HeunEuler at 1e-2."
)
MODELS = {
    "node18-aca": ("node18", {"gradient": "aca"}),
    "node18-adjoint": ("node18", {"gradient": "adjoint"}),
    "node18-naive": ("node18", {"gradient": "naive"}),
    "anode18": ("anode18", {}),
    "resnet18": ("resnet18", {}),
}


def name_of(solver: str, how: Mapping[str, float]) -> str:
    """A solver with its step or tolerance, as the key of a result."""
    return f"{solver} {how.get('step', how.get('rtol')):g}"


def at_hand() -> str:
    """The data of a quick run: CIFAR-10 if it is there, without fetching it, else the synthetic images."""
    from physid.datasets import cifar

    return "images-toy" if cifar.present(cifar.CIFAR10) is None else "cifar10"


def cell(kind: str, data: str, protocol: str, seed: int, quick: bool, solvers: bool = False) -> Cell:
    """The training of one network, and its scores; by all `solvers` too."""
    model, options = MODELS[kind]
    settings: dict[str, Any] = {
        "model": model,
        "options": dict(options),
        "data": data,
        "seed": seed,
        "solvers": solvers,
    }
    if quick:
        how = {"solver": "heun_euler", "rtol": 1e-2} if model == "node18" else {}
        settings["options"] |= {"width": QUICK_WIDTH, **how}
        settings |= {"data_options": {"images": QUICK_IMAGES, "test_images": QUICK_TEST}, "recipe": QUICK}
    else:
        naive = protocol == "paper-gradients" and kind == "node18-naive"
        settings |= {"data_options": {}, "protocol": "paper-gradients-naive" if naive else protocol}
    return Cell(f"{data}-{kind}-{seed}", compute, settings)


def cells(kinds: Mapping[str, str], seeds: Sequence[int], quick: bool, solvers: bool = False) -> list[Cell]:
    """The trainings of the networks `kinds` by their protocols, for all data sets and seeds."""
    sets = (at_hand(),) if quick else DATASETS
    return [cell(kind, data, kinds[kind], seed, quick, solvers) for data in sets for kind in kinds for seed in seeds]


def compute(work: Work, *, solvers: bool, **training: Any) -> dict[str, Any]:
    """Train a network, or resume its training; its history, predicted classes, and errors under every solver.

    Errors: Diverged when the training does; TimeUp and KeyboardInterrupt leave a run that can be resumed.
    """
    from physid.training.classifying import predicted, scores_with

    trained = _trained(work, **training)
    answers, truth = predicted(trained)
    wrong = answers != truth
    found: dict[str, Any] = {
        "history": trained.history,
        "error": float(wrong.mean()),
        "answers": answers.tolist(),
        "truth": truth.tolist(),
        "device": str(next(trained.learner.parameters()).device),
        "seconds": trained.seconds,
    }
    if solvers:
        found["solvers"] = {}
        for solver, how in SOLVERS:
            work.tell({"solver": solver, **how})
            found["solvers"][name_of(solver, how)] = scores_with(trained, solver=solver, **how)["error"]
    return found


def _trained(
    work: Work,
    model: str,
    options: Mapping[str, Any],
    data: str,
    data_options: Mapping[str, Any],
    seed: int,
    protocol: str = "default",
    recipe: Mapping[str, Any] | None = None,
) -> Trained:
    """The training in the cell's folder, finished."""
    import torch

    from physid.api.train import train
    from physid.datasets import collect
    from physid.models import NETWORKS, network
    from physid.training import Rate, Recipe

    def begin(out: Path, **how: Any) -> Trained:
        collection = collect(data, **data_options)
        torch.manual_seed(seed)
        learner = network(model, collection, **options)
        learner.to("cuda" if torch.cuda.is_available() else "cpu")
        if recipe is None:
            chosen = NETWORKS[model].choose(protocol)
        else:
            sgd = {"momentum": 0.9, "weight_decay": 5e-4}
            chosen = Recipe(**{**recipe, "rate": Rate(**recipe["rate"]), "optimizer": "sgd", "options": sgd})
        out.parent.mkdir(parents=True, exist_ok=True)
        return train(learner, collection, Recipe.of({**chosen.data(), "seed": seed}), out=out, **how)

    return work.run(begin)
