"""`physid init`: a model of your own to start from, with settings and toy data that fit at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from physid.cli.console import Console
from physid.cli.options import json_option
from physid.store import check_writable, write

if TYPE_CHECKING:
    from physid.data.experiment import Experiment

SOURCES = ("exponential", "lotka-volterra", "pendulum", "vanderpol")
NOISE = 0.01  # of the toy data, as a part of their spread


@click.command(
    epilog="""\b
Examples:
  physid init swing --from pendulum
  physid fit --data swing.csv --model swing.py:Swing"""
)
@click.argument("name", metavar="NAME")
@click.option(
    "--from", "source", type=click.Choice(SOURCES), default="pendulum", show_default=True, help="Model to start from."
)
@json_option
def command(name: str, source: str, json: bool) -> int:
    """Write NAME.py, a model to change; NAME.yaml, the settings of its fit; and NAME.csv, toy data.

    The three fit at once; then put your own physics and your own measurements in their place. Nothing that is there is
    ever overwritten.
    """
    from physid.errors import InputError

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise InputError(f"the name '{name}' is none for a file and a class: expected letters, digits, - and _.")
    files = [Path(f"{name}{suffix}") for suffix in (".py", ".yaml", ".csv")]
    there = [str(path) for path in files if path.exists() or path.is_symlink()]
    if there:
        raise InputError(
            f"{', '.join(there)} is there already and is not overwritten. Choose another name, or move it."
        )
    check_writable(Path())
    cls = "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_]", name) if part)
    model, settings, table = files
    for path, text in (
        (model, model_text(source, cls)),
        (settings, settings_text(name, cls)),
        (table, table_text(source)),
    ):
        write(path, text.encode())
    console = Console(json=json)
    console.say(f"{model}: the model {cls}. Say in it what is known, and declare what is not.")
    console.say(f"{table}: toy data with {NOISE:.0%} noise. Put your own measurements in their place.")
    console.say(f"{settings}: the settings of the fit.")
    console.say()
    console.say("next:")
    for line in next_steps(name, cls):
        console.say(f"  {line}")
    console.event("done", status="ok", message=f"wrote {', '.join(map(str, files))}", files=files, model=cls)
    return 0


def next_steps(name: str, cls: str) -> list[str]:
    """The commands of a first session."""
    return [
        f"physid data {name}.csv --model {name}.py:{cls}",
        f"physid check {name}.py:{cls} --data {name}.csv",
        f"physid fit --data {name}.csv --model {name}.py:{cls} --out runs/{name}",
        f"physid forecast runs/{name} --trust",
    ]


def model_text(source: str, cls: str) -> str:
    """The source of a model of the catalogue as a file of its own, with the class renamed."""
    import inspect

    from physid.modelling.catalogue import MODELS

    known = MODELS[source]
    body = inspect.getsource(known).replace(f"class {known.__name__}(", f"class {cls}(", 1)
    imports = ["import torch", "from torch import Tensor", ""]
    homes = {"InputError": "physid.errors", "Mapping": "collections.abc", "ClassVar": "typing"}
    before = [f"from {home} import {name}" for name, home in sorted(homes.items(), key=lambda item: item[1])]
    standard = [line for line in before if "physid" not in line and line.rsplit(" ", 1)[1] in body]
    own = [name for name in ("Model", "Unknown", "between", "positive", "real") if re.search(rf"\b{name}\b", body)]
    errors = ["from physid.errors import InputError"] if "InputError" in body else []
    lines = [
        f'"""{cls}: a model to change; it began as {known.__name__} of physid."""',
        "",
        "from __future__ import annotations",
        "",
        *(line for line in [*standard, ""] if standard),
        *imports,
        f"from physid import {', '.join(own)}",
        *errors,
        "",
        "",
        body,
    ]
    return "\n".join(lines)


def settings_text(name: str, cls: str) -> str:
    """The settings of the fit: each key is an option of `physid fit`."""
    return f"""# The settings of a fit of {name}; every key is an option of `physid fit` (see physid fit --help).
data: {name}.csv
model: {name}.py:{cls}
initial: free # or known; or x=0,v=1 for states that are known
optimizer: lm
strategy: auto
seed: 0
"""


def table_text(source: str) -> str:
    """Toy data of a system of the catalogue as CSV."""
    from physid.datasets import load

    clean = load(source)
    spread = float(clean.train.observations.std())
    noisy: Experiment = load(source, noise=NOISE * spread, seed=1)
    time = f"t [{noisy.time_unit}]" if noisy.time_unit else "t"
    unit = f" [{noisy.unit}]" if noisy.unit else ""
    lines = [",".join([time, *(f"{channel}{unit}" for channel in noisy.channels)])]
    for t, row in zip(noisy.train.times.tolist(), noisy.train.observations.tolist(), strict=True):
        lines.append(",".join([f"{t:.6g}", *(f"{value:.5g}" for value in row)]))
    return "\n".join(lines) + "\n"
