"""Hold-out: measurements that are not fitted but kept to test the fit on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from physid.data.experiment import Experiment
from physid.errors import InputError, unknown_name

AFTER = "after:"


def read(text: str | float | None) -> str | float | None:
    """A hold-out as it is written: a part below 1, "after:TIME", or the name of an experiment; InputError otherwise."""
    if text is None or (isinstance(text, str) and text.startswith(AFTER)):
        if text is not None and not _is_number(str(text).removeprefix(AFTER)):
            raise InputError(f"holdout={text}: a time belongs after the colon, as in after:12.5.")
        return text
    if isinstance(text, str) and not _is_number(text):
        return text
    part = float(text)
    if not 0.0 <= part < 1.0:
        raise InputError(
            f"holdout={text}: a part from 0 to below 1, after:TIME, or the name of an experiment is allowed."
        )
    return part or None


def split(experiments: Sequence[Experiment], holdout: str | float | None) -> tuple[list[Experiment], list[Experiment]]:
    """The experiments to fit, whose `test` is then what was held out of them, and those that are held out whole.

    A part holds out the last times of every experiment, "after:TIME" the times later than that.

    Errors: InputError when nothing would be left to fit or to test, for a name that no experiment has, and for a whole
    experiment whose initial state would have to be fitted.
    """
    given = list(experiments)
    if holdout is None:
        return given, []
    if isinstance(holdout, str) and not holdout.startswith(AFTER):
        names = [one.name for one in given]
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
        early = times <= float(holdout.removeprefix(AFTER))
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
