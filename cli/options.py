"""The options and arguments that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from physid.cli.sections import option

F = TypeVar("F", bound=Callable[..., Any])

DATA, METHOD, NETWORK, SOLVER, OUTPUT = "Data", "Method", "Network", "Solver", "Output"

run_argument = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
experiment_argument = click.argument("experiment", metavar="EXPERIMENT")

knowledge_option = option(
    "--knowledge", section=DATA, metavar="LEVEL", help="How much physics is known. [default: full]"
)
model_option = option(
    "--model", section=DATA, metavar="NAME", help="A model of the catalogue, or FILE.py:CLASS of yours."
)

json_option = option(
    "--json", section=OUTPUT, is_flag=True, help="Print JSON lines and nothing else; the last has event 'done'."
)
quiet_option = option(
    "--quiet", section=OUTPUT, is_flag=True, help="Print the result alone, without progress or notes."
)
trust_option = option("--trust", is_flag=True, help="Import the model file that the run names, and so run its code.")

solver_option = option(
    "--solver",
    section=SOLVER,
    metavar="NAME",
    help="euler, midpoint, rk4, heun_euler, bosh3, dopri5, tsit5 or dopri8.",
)
gradient_option = option("--gradient", section=SOLVER, metavar="NAME", help="aca, naive, adjoint or forward.")
engine_option = option(
    "--engine", section=SOLVER, metavar="NAME", help="auto, native (f as compiled C) or eager. [default: auto]"
)
rtol_option = option("--rtol", section=SOLVER, type=float, metavar="X", help="Relative tolerance of a step.")
atol_option = option(
    "--atol",
    section=SOLVER,
    type=float,
    metavar="X",
    help="Absolute tolerance of a step. [default, in fits: rtol times the size of each state]",
)
max_steps_option = option(
    "--max-steps",
    section=SOLVER,
    type=click.IntRange(1),
    metavar="N",
    help="Most steps of a solve. [default: 100000, and 100 more for every interval of the record]",
)

probes_option = option(
    "--probes",
    section=SOLVER,
    type=click.IntRange(0, 64),
    metavar="N",
    help="Tangents held to the tolerances beside the state, so that these hold for the gradient: 0 for none, 1 for all "
    "columns of lm. [default: 1 in lm where the model is compiled and has no weights, else 0]",
)

seed_option = option(
    "--seed", section=DATA, type=int, default=0, show_default=True, metavar="N", help="Seed of noise and random starts."
)
fit_seed_option = option(
    "--seed", section=DATA, type=int, metavar="N", help="Seed of noise and random starts. [default: 0]"
)

# The options of the method: name, type, metavar, whether it may be repeated, help. Each has a key in a settings file.
METHOD_OPTIONS: tuple[tuple[str, Any, str, bool, str], ...] = (
    ("optimizer", str, "NAME", False, "lm, adam or lbfgs. [default: lm; adam as in the paper]"),
    (
        "strategy",
        str,
        "NAME",
        False,
        "auto, full, segments, grow, match, stages or rates. [default: the model's, or auto]",
    ),
    (
        *("protocol", str, "NAME", False),
        "default, paper-text or paper-code: the settings of the paper, as its text or its code has them.",
    ),
    ("epochs", click.IntRange(1), "N", False, "Epochs of adam or of a training, iterations of lbfgs."),
    ("lr", float, "X", False, "Learning rate of adam or of a training, at its beginning."),
    ("time-limit", float, "S", False, "Stop after S seconds (exit code 124)."),
    ("starts", int, "K", False, "Try K starts: the first guess and draws from priors and domains. [default: 1]"),
    (
        "ensemble",
        int,
        "K",
        False,
        "Fit a model with weights from K seeds, for bands and a mean. [default: the model's]",
    ),
    ("workers", int, "N", False, "Run the starts in N processes. [default: as one batch]"),
    (
        *("noise-model", str, "NAME", False),
        "equal, or with a sigma per channel normal, lognormal, student or student:NU. [default: the model's]",
    ),
    ("loss", str, "NAME", False, "linear, soft_l1, huber, cauchy or arctan. [default: linear]"),
    ("loss-scale", float, "X", False, "Error at which the loss bends. [default: from the noise]"),
    ("holdout", str, "WHAT", False, "Keep for the test: a part of the times, after:TIME, or an experiment's name."),
    ("fix", str, "NAME=VALUE", True, "Hold an unknown there (NAME alone: where it is)."),
    ("free", str, "NAME", True, "Identify an unknown that the model fixes or ties."),
    ("tie", str, "NAME=EXPR", True, "Compute an unknown from others, as in 'width=2 * length'."),
    (
        "settings",
        click.Path(path_type=Path),
        "FILE",
        False,
        "YAML file of these options; what is typed wins.",
    ),
)


def method_options(command: F) -> F:
    """Add the options of the method to `command`; what is not typed is None or empty, as a file may say it."""
    for name, kind, metavar, multiple, text in reversed(METHOD_OPTIONS):
        variable = "settings_file" if name == "settings" else name.replace("-", "_")
        command = option(
            f"--{name}", variable, section=METHOD, type=kind, metavar=metavar, multiple=multiple, help=text
        )(command)
    return command


# Options of a recipe, for networks that are trained by batches.
RECIPE_OPTIONS: tuple[str, ...] = ("lr", "batch", "amp")

# What a network may be asked for by an option of its own; one that does not take an option refuses it.
NETWORK_OPTIONS: dict[str, str] = {
    "width": "Channels of the first stage, or units of a layer.",
    "step": "Length of the solver's steps, which are then fixed.",
    "steps": "Number of steps of equal length.",
    "layout": "channels-last or channels-first, in memory.",
    "paper_compat": "yes: as the authors' code has it, where it differs from the paper.",
    "hidden": "Units of a recurrent layer.",
    "seeds": "Networks from seeds of their own, trained at once; their spread is the band of a forecast.",
}


def network_options(command: F) -> F:
    """Add the options of trainings to `command`."""
    for name, text in reversed(NETWORK_OPTIONS.items()):
        flag = f"--{name.replace('_', '-')}"
        command = option(flag, name, section=NETWORK, metavar="VALUE", help=text)(command)
    text = "Compile the field of an ODE by torch.compile."
    command = option("--compile", section=NETWORK, is_flag=True, flag_value="yes", default=None, help=text)(command)
    text = "Compute in bfloat16 where that is safe."
    command = option("--amp", section=NETWORK, is_flag=True, help=text)(command)
    text = "Samples of a step of the optimiser."
    return option("--batch", section=NETWORK, type=click.IntRange(1), metavar="N", help=text)(command)


# What a data set may be asked for by an option of its own; anything else goes through --set. `physid list` says which
# data set takes what; one that does not take an option refuses it.
EXPERIMENT_OPTIONS: dict[str, str] = {
    "noise": "Standard deviation of the noise to add.",
    "horizon": "End of the time that is fitted.",
    "points": "Number of times that are fitted.",
    "initial": "known or free: whether the initial state is fitted too; for --data also x=0,v=1.",
    "start": "Values the unknowns start from, as in 1,1,1.",
    "random_masses": "Seed of a random system in place of the paper's.",
    "bodies": "Bodies to keep, as in sun,jupiter,saturn.",
    "window": "Years to fit, as in 1970-2000.",
    "tables": "Folder of the measured tables.",
    "images": "Number of training images.",
    "test_images": "Number of test images.",
    "observed": "Part of the times of a series that a network is shown.",
}


def experiment_options(command: F) -> F:
    """Add the options of the data sets to `command`, which gets them as strings or None, and `settings` from --set."""
    text = "Any other option of the data set; may be repeated."
    command = option("--set", "settings", section=DATA, metavar="NAME=VALUE", multiple=True, help=text)(command)
    for name, text in reversed(EXPERIMENT_OPTIONS.items()):
        command = option(f"--{name.replace('_', '-')}", name, section=DATA, metavar="VALUE", help=text)(command)
    return command
