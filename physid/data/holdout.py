"""Hold-out: splits experiments into measurements to fit and measurements to test the fit on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from physid.data.experiment import Experiment
from physid.errors import InputError, unknown_name
from physid.option_readers import window

AFTER = "after:"  # as a window without an end was once written


def read(text: str | float | None) -> str | float | None:
    """A hold-out as it is written: a part below 1, a window, or the name of an experiment; InputError otherwise.

    A window of times is "A:B", and "A:" without an end, which may also be written "after:A".
    """
    if text is None:
        return None
    if isinstance(text, str) and not _is_number(text):
        _window(text)
        return text
    part = float(text)
    if not 0.0 <= part < 1.0:
        raise InputError(
            f"holdout={text}: expected a part from 0 to below 1, a window of times A:B, or the name of an experiment."
        )
    return part or None


def _window(text: str) -> tuple[float, float] | None:
    """First and last time of a window A:B, of which one may be missing; None for what is not written so.

    Errors: InputError for a first time that is not before the last, and for "after:" without a time.
    """
    ends = window(text.removeprefix(AFTER) + ":" * text.startswith(AFTER))
    if ends is None and not text.startswith(AFTER):
        return None
    low, high = ends or (-math.inf, math.inf)
    if not low < high or low == -high == -math.inf:
        raise InputError(f"holdout={text}: a window of times is written A:B, as in 12.5:20, or 12.5: without an end.")
    return low, high


def split(experiments: Sequence[Experiment], holdout: str | float | None) -> tuple[list[Experiment], list[Experiment]]:
    """The experiments to fit, whose `test` is then what was held out of them, and those that are held out whole.

    A part holds out the last times of every experiment, a window "A:B" those with A < t <= B, "A:" (or "after:A")
    those later than A. A name counts before a window that is written like it.

    Errors: InputError when nothing would be left to fit or to test, for a name that no experiment has, and for a whole
    experiment whose initial state would have to be fitted.
    """
    given = list(experiments)
    if holdout is None:
        return given, []
    names = [one.name for one in given]
    if isinstance(holdout, str) and (holdout in names or _window(holdout) is None):
        if holdout not in names:
            raise unknown_name("experiment to hold out", holdout, names)
        held = given.pop(names.index(holdout))
        if not given or bool(held.initial_free.any()):
            why = "its initial state is free" if given else "it is the only one"
            raise InputError(f"experiment {holdout} cannot be held out: {why}. Hold out a part of the times instead.")
        return given, [held]
    return [_cut(one, holdout) for one in given], []


def _cut(one: Experiment, holdout: str | float) -> Experiment:
    times = one.train.times
    if isinstance(holdout, str):
        low, high = _window(holdout) or (math.inf, math.inf)
        early = (times <= low) | (times > high)
    else:
        early = torch.arange(len(times)) < math.ceil(len(times) * (1.0 - holdout))
    train, test = (one.train.select(rows) if bool(rows.any()) else None for rows in (early, ~early))
    if train is None or test is None:
        raise InputError(
            f"holdout={holdout} leaves nothing of {one.name} to {'fit' if train is None else 'test'}: its times are "
            f"{float(times[0]):g} to {float(times[-1]):g}. Hold out {'less' if train is None else 'more'}."
        )
    return replace(one, train=train, test=test)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
