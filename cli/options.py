"""The options that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _flag(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, is_flag=True, help=text)


json_option = _flag("--json", "Print JSON lines and nothing else; the last has event 'done'.")
quiet_option = _flag("--quiet", "Print the result alone, without progress and notes.")
trust_option = _flag("--trust", "Import the model file that the run names; a stranger's code would run.")
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of starts and noise."
)
