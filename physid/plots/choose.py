"""Choice of channels for a figure: those asked for, or those that vary most and most independently."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from physid.arrays import Array
from physid.errors import InputError, unknown_name

TIE = 1e-9  # residual norms this close are the same: the first channel is taken


def choose_channels(
    values: Array, names: Sequence[str], asked: Sequence[str] | None, count: int, same_unit: bool = True
) -> tuple[list[int], str]:
    """The places of `count` or fewer channels of `values` [T, M], and a sentence if it was we who chose.

    Asked for by name: those, in that order. Otherwise, of more than `count`: one after another the channel of which
    most is left over after a linear fit on those before it (a QR decomposition with column pivoting, Golub, 1965).
    Channels without a common unit are first divided by their standard deviation.

    Errors: InputError for a name that is no channel, for one given twice, or for too many.
    """
    if asked is not None:
        return _asked(names, asked, count), ""
    if len(names) <= count:
        return list(range(len(names))), ""
    rest = np.nan_to_num(values - np.nanmean(values, axis=0))
    if not same_unit:
        size = np.sqrt((rest**2).mean(0))
        rest = rest / np.where(size > 0, size, 1.0)
    found: list[int] = []
    for _ in range(count):
        norms = np.linalg.norm(rest, axis=0)
        norms[found] = -1.0
        best = int(np.argmax(norms >= norms.max() * (1 - TIE)))
        found.append(best)
        direction = rest[:, best] / max(norms[best], np.finfo(float).tiny)
        rest = rest - np.outer(direction, direction @ rest)
    found.sort()
    shown = ", ".join(names[i] for i in found)
    return found, f"{shown} of {len(names)} channels: those that vary most and most independently"


def _asked(names: Sequence[str], asked: Sequence[str], count: int) -> list[int]:
    """The places of the channels asked for."""
    for name in asked:
        if name not in names:
            raise unknown_name("channel", name, names)
    if len(set(asked)) < len(asked) or not 0 < len(asked) <= count:
        raise InputError(f"channels {', '.join(asked) or 'none'} were asked for: expected 1 to {count}, each once.")
    return [list(names).index(name) for name in asked]
