"""The errors a user meets: each says what was found, what is expected, and what to do; each carries its exit code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Controls but tab and newline, marks that turn the direction of writing or are not seen, halves of pairs, line ends.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """A text of strangers as it may be shown: what would steer a terminal, or turn the writing, is written as \\x1b."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PhysidError(Exception):
    """Base of every error that physid raises on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(PhysidError, ValueError):
    """Something the user handed in cannot work (exit code 2)."""

    exit_code = 2


class ModelError(InputError):
    """A mistake in a model of the user's own, with its file and line (exit code 2)."""


class NotConverged(PhysidError):
    """A fit stopped before it converged (exit code 3)."""

    exit_code = 3


class Diverged(PhysidError):
    """A solve or a fit left the finite numbers (exit code 4)."""

    exit_code = 4


class MissingError(PhysidError):
    """Something of the machine is missing: a compiler, a library, an extra (exit code 5)."""

    exit_code = 5


class CheckFailed(PhysidError):
    """A check that was asked for did not hold (exit code 6)."""

    exit_code = 6


class TimeLimit(PhysidError):
    """The time limit ran out before the work was done (exit code 124)."""

    exit_code = 124


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> InputError:
    """The error for a `name` that is not among the `allowed` ones, with the nearest of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return InputError(f"unknown {kind} '{name}'.{hint} Allowed: {', '.join(names)}.")
