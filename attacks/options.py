"""Commands with options and values that nobody meant."""

from __future__ import annotations

import random
import time
from pathlib import Path

import click

from attacks.tally import Tally
from attacks.victim import Victim

WORDS = (
    *(
        "",
        "x",
        "0",
        "-1",
        "1",
        "3",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e-999",
        "9" * 400,
        "100000000",
        "0.5",
        "1,2",
        "a=b",
        "k=1",
    ),
    *(
        "k=",
        "=1",
        "x=1,v=0",
        "../x",
        "/dev/null",
        "/dev/zero",
        "/",
        "a\x1b[31m",
        "\u202e",
        "{",
        "k=k",
        "k=1/0",
        "k=9**9**9",
    ),
    *(
        "after:0",
        "after:nan",
        "student:0",
        "student:nan",
        "lm",
        "adam",
        "segments",
        "free",
        "known",
        "naive",
        "dopri5",
        "rk4",
    ),
    *(
        "cpu",
        "cuda:7",
        "meta",
        "float64",
        "float16",
        "full",
        "partial",
        "none",
        "pendulum",
        "lstm",
        "eager",
        "1970-1971",
        "sun",
    ),
)
SUBJECTS = (
    "exponential",
    "pendulum",
    "threebody",
    "vanderpol",
    "lynxhare",
    "images-toy",
    "series",
    "x.csv",
    "x.py:X",
    "",
)
QUICK = {"fit": ("--dry-run",), "train": ("--dry-run",), "simulate": ("--points", "8")}
LEFT_OUT = ("doctor", "reproduce", "view", "gradcheck", "init", "resume")  # slow, or tried elsewhere


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Every command with one to four of its options, and words from a list of bad ones."""
    from physid.cli.app import COMMANDS, group

    tally = Tally()
    context = click.Context(group)
    known = {name: group.get_command(context, name) for name in COMMANDS if name not in LEFT_OUT}
    with Victim(folder) as victim:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            name, command = draw.choice([(name, one) for name, one in known.items() if one is not None])
            options = [one for one in command.params if isinstance(one, click.Option)]
            words = [name, *([draw.choice(SUBJECTS)] if draw.random() < 0.9 else [])]
            for option in draw.sample(options, min(len(options), draw.randint(1, 4))):
                words += [option.opts[0], *([] if option.is_flag else [draw.choice(WORDS)])]
            victim.try_(tally, [*words, *QUICK.get(name, ())])
    return tally
