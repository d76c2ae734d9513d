"""The options and arguments that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from physid.cli.sections import option
from physid.errors import visible
from physid.inference.fit_options import DATA as DATA
from physid.inference.fit_options import METHOD, SOLVER, TYPED, default_words, flags_of, key_of

F = TypeVar("F", bound=Callable[..., Any])

NETWORK, OUTPUT = "Network", "Output"
REPEATED = ("fix", "free", "tie")  # options of a fit that may be typed several times

run_argument = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))

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
out_option = option(
    "--out",
    section=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run directory. [default: runs/NAME-TIME]",
)
device_option = option(
    "--device", section=SOLVER, metavar="D", default="cpu", help="cpu, cuda or cuda:N. [default: cpu]"
)
dtype_option = option("--dtype", section=SOLVER, metavar="T", help="float64, or float32 as of networks.")
trust_option = option("--trust", is_flag=True, help="Import the model file that the run names, and so run its code.")

seed_option = option(
    "--seed", section=DATA, type=int, default=0, show_default=True, metavar="N", help="Seed of noise and random starts."
)


def flag_of(name: str) -> str:
    """The flag of an option of a fit, as messages name it."""
    return flags_of(name)[0]


def dest_of(name: str) -> str:
    """The name under which click hands over an option of a fit; `noise` is that of the data set."""
    return key_of(flag_of(name))


def fit_options(
    names: Collection[str] = tuple(TYPED), said: Mapping[str, str] | None = None, settings: bool = True
) -> Callable[[F], F]:
    """Adds options of a fit to a command, which gets them as text; what is not typed is None or empty.

    `said` are other words for what some of them mean; `settings` adds the option of a file of them.
    """

    def add(command: F) -> F:
        for name in reversed([one for one in TYPED if one in names]):
            one, flags = TYPED[name], flags_of(name)
            text = (said or {}).get(name) or f"{one.help[:1].upper()}{one.help[1:]}.{default_words(name)}"
            record = (f"{flags[0]} {one.metavar}", text)
            how: dict[str, Any] = {"section": one.section, "record": record, "metavar": one.metavar, "help": text}
            command = option(*flags, dest_of(name), multiple=name in REPEATED, **how)(command)
        if not settings:
            return command
        text = "YAML file of these options; what is typed wins."
        kind = click.Path(path_type=Path)
        return option("--settings", "settings_file", section=METHOD, type=kind, metavar="FILE", help=text)(command)

    return add


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


def network_options(hidden: bool = False) -> Callable[[F], F]:
    """Adds the options of networks and their trainings to a command; `hidden` ones are not in its help."""

    def add(command: F) -> F:
        how: dict[str, Any] = {"section": NETWORK, "hidden": hidden}
        for name, text in reversed(NETWORK_OPTIONS.items()):
            flag = f"--{name.replace('_', '-')}"
            command = option(flag, name, metavar="VALUE", help=text, **how)(command)
        text = "Compile the field of an ODE by torch.compile."
        command = option("--compile", is_flag=True, flag_value="yes", default=None, help=text, **how)(command)
        text = "Compute in bfloat16 where that is safe."
        command = option("--amp", is_flag=True, help=text, **how)(command)
        text = "Samples of a step of the optimiser."
        return option("--batch", type=click.IntRange(1), metavar="N", help=text, **how)(command)

    return add


# Options that several data sets have; `physid list options` says which. Any other goes through --set.
EXPERIMENT_OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "noise": (("--add-noise", "--noise"), "Standard deviation of the noise to add."),
    "points": (("--points",), "Number of times that are fitted; --horizon is their end."),
    "horizon": (("--horizon",), ""),
    "initial": (("--initial",), "Initial state: known or free; for --data also x=0,v=1."),
}
# Options of one data set, whose own flags are of the version before; now --set NAME=VALUE.
OLD_OPTIONS = ("start", "random_masses", "bodies", "window", "tables", "images", "test_images", "observed")


def _set_instead(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Say what is to be written in place of an old flag."""
    if value is not None:
        flag = parameter.opts[0]
        text = f"{flag} goes with the next version. Write --set {parameter.name}={value} instead."
        click.echo(f"physid: note: {visible(text)}", err=True)
    return value


def experiment_options(command: F) -> F:
    """Add the options of the data sets to `command`, which gets them as strings or None, and `settings` from --set."""
    for name in OLD_OPTIONS:
        flag = f"--{name.replace('_', '-')}"
        command = option(flag, name, metavar="VALUE", hidden=True, callback=_set_instead)(command)
    text = "An option of the data set, as in `physid list options`; may be repeated."
    command = option("--set", "settings", section=DATA, metavar="NAME=VALUE", multiple=True, help=text)(command)
    for name, (flags, text) in reversed(EXPERIMENT_OPTIONS.items()):
        record = (f"{flags[0]} VALUE", text)
        how: dict[str, Any] = {"section": DATA, "record": record, "metavar": "VALUE", "hidden": not text}
        command = option(*flags, name, help=text, **how)(command)
    return command


def data_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a command's options that are the data set's."""
    return {name: options[name] for name in ("settings", *EXPERIMENT_OPTIONS, *OLD_OPTIONS)}
