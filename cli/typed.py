"""Typed values: NAME=VALUE, and numbers."""

from __future__ import annotations

import math

from physid.errors import InputError


def pair(option: str, text: str, said: str = "", hint: str = "Write it so.") -> tuple[str, str]:
    """Name and value of NAME=VALUE. Errors: InputError for anything else; `said` is the whole that was typed."""
    name, sign, value = (part.strip() for part in text.partition("="))
    if not (name and sign and value):
        found = f"{said}: '{text}'" if said else text
        raise InputError(f"--{option} {found} is not NAME=VALUE. {hint}")
    return name, value


def pairs(option: str, text: str) -> dict[str, str]:
    """`a=b,c=d` as a mapping. Errors: InputError for anything else."""
    return dict(pair(option, part, text, "Write it so, separated by commas.") for part in text.split(","))


def number(option: str, text: str, hint: str = "Write a finite one.") -> float:
    """The finite number in the last part of what was typed, as in x=1.5. Errors: InputError for anything else."""
    value = text.rpartition("=")[2].strip()
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"--{option} {text}: expected a number, got '{value}'. {hint}")
    return found
