"""The options and arguments that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from physid.cli.sections import option

F = TypeVar("F", bound=Callable[..., Any])

DATA, METHOD, SOLVER, OUTPUT = "Data", "Method", "Solver", "Output"

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
atol_option = option("--atol", section=SOLVER, type=float, metavar="X", help="Absolute tolerance of a step.")

seed_option = option(
    "--seed", section=DATA, type=int, default=0, show_default=True, metavar="N", help="Seed of noise and random starts."
)

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
}


def experiment_options(command: F) -> F:
    """Add the options of the data sets to `command`, which gets them as strings or None, and `settings` from --set."""
    text = "Any other option of the data set; may be repeated."
    command = option("--set", "settings", section=DATA, metavar="NAME=VALUE", multiple=True, help=text)(command)
    for name, text in reversed(EXPERIMENT_OPTIONS.items()):
        command = option(f"--{name.replace('_', '-')}", name, section=DATA, metavar="VALUE", help=text)(command)
    return command
