"""The options and arguments that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from physid.cli.sections import option
from physid.inference.fit_options import DATA as DATA
from physid.inference.fit_options import METHOD, SOLVER, TYPED, default_words, flags_of, key_of

F = TypeVar("F", bound=Callable[..., Any])

NETWORK, OUTPUT = "Network", "Output"
REPEATED = ("fix", "free", "tie")  # options of a fit that may be typed several times

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
seed_option = option(
    "--seed", section=DATA, type=int, default=0, show_default=True, metavar="N", help="Seed of noise and random starts."
)


def flag_of(name: str) -> str:
    """The flag of an option of a fit, as messages name it."""
    return flags_of(name)[0]


def dest_of(name: str) -> str:
    """The name under which click hands over an option of a fit; `noise` is that of the data set."""
    return key_of(flag_of(name))


def fit_options(command: F) -> F:
    """Add the options of a fit to `command`, which gets them as text; what is not typed is None or empty."""
    for name, one in reversed(TYPED.items()):
        text = f"{one.help[:1].upper()}{one.help[1:]}.{default_words(name)}"
        command = option(
            *flags_of(name),
            dest_of(name),
            section=one.section,
            aliases=one.aliases,
            metavar=one.metavar,
            multiple=name in REPEATED,
            help=text,
        )(command)
    text = "YAML file of these options; what is typed wins."
    kind = click.Path(path_type=Path)
    return option("--settings", "settings_file", section=METHOD, type=kind, metavar="FILE", help=text)(command)


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
