"""Doubts in files of measurements, refused rather than guessed: columns that look like errors, gaps of inputs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from physid.arrays import Array

ERRORS = frozenset(
    [
        "sigma",
        "σ",
        "sd",
        "std",
        "stdev",
        "stddev",
        "stderr",
        "se",
        "sem",
        "err",
        "error",
        "errors",
        "uncertainty",
        "unc",
        "var",
        "variance",
        "weight",
        "weights",
        "±",
    ]
)
FEWEST = 3  # samples that have a usual distance
GAP = 3.0  # times the usual distance of an input's samples, from which on a stretch without any is a gap


def tokens(name: str) -> list[str]:
    """The words of a column's name in small letters: `c_stdErr` gives c, std, err."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [part for part in re.split(r"[^0-9A-Za-zσ±µμ]+", apart.lower()) if part]


def errors_of(name: str, others: Iterable[str]) -> str | None:
    """The one of the `others` whose errors or weights a column `name` seems to hold, "" for all; None if it does not.

    So do a column that is called like them, `sigma`, and one that has another's name before or behind: `c_sigma`.
    """
    words = tokens(name)
    if words and all(word in ERRORS for word in words):
        return ""
    for other in sorted(others, key=len, reverse=True):
        own = tokens(other)
        if not own or len(own) >= len(words):
            continue
        rests = ([words[len(own) :]] if words[: len(own)] == own else []) + (
            [words[: -len(own)]] if words[-len(own) :] == own else []
        )
        if any(all(word in ERRORS for word in rest) for rest in rests):
            return other
    return None


def error_columns(names: Iterable[str], settled: Iterable[str | None], channels: Iterable[str]) -> dict[str, str]:
    """Those of a table's columns that seem to hold errors of the `channels`, and whose: "" for all of them.

    `settled` are columns whose role is no such guess.
    """
    given, known = list(names), set(settled)
    found: dict[str, str] = {}
    for name in given:
        others = [one for one in dict.fromkeys([*channels, *given]) if one != name and one not in found]
        whose = None if name in known else errors_of(name, others)
        if whose is not None and any(one != name for one in channels):
            found[name] = whose
    return found


def error_sentence(name: str, whose: str, channels: Iterable[str]) -> str:
    """The question about a column that seems to hold errors, after its name."""
    kept = ",".join(one for one in channels if one != name)
    of = f"of {whose}" if whose else "of the measurements"
    return (
        f"looks like the errors or weights {of}, which are not read row by row. Give one for all, sigma=, --sigma; or "
        f"leave the column out by naming what was measured: channels=, --channels {kept}."
    )


def input_gap(times: Array, values: Array) -> tuple[int, int, int] | None:
    """The first gap among the `values` [T] of an input: its first and last row, how many cells are empty; or None.

    Cells that are empty between samples at their usual distance, as of an input that is measured less often, are none.
    """
    there = np.flatnonzero(np.isfinite(values))
    if len(there) < FEWEST or len(there) == len(values):
        return None
    usual = float(np.median(np.diff(times[there])))
    ends = np.append(there, len(values) - 1) if there[-1] < len(values) - 1 else there
    for before, after in pairwise(ends.tolist()):
        empty = int((~np.isfinite(values[before : after + 1])).sum())
        if empty and times[after] - times[before] > GAP * usual:
            return before + 1, after, empty
    return None


def gap_sentence(name: str, times: Array, gap: tuple[int, int, int]) -> str:
    """The question about a gap of an input, after its name."""
    first, last, empty = gap
    return (
        f"the input has no value in {empty} row{'s' if empty > 1 else ''}, between t = {times[first - 1]:g} and "
        f"{times[last]:g}. Fill them in, or say how it goes there: interpolation=, --interpolation {name}=hold (the "
        f"last value stays), {name}=linear or {name}=cubic."
    )
