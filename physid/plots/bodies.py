"""Bodies among channels: which of them are the coordinates of one body."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# x1, y1, z1 or x_1; jupiter.x, jupiter_y; never a bare x, which may be anything
_AXIS_FIRST = re.compile(r"([xyz])[_.]?(\d+)")
_AXIS_LAST = re.compile(r"(.+)[_.]([xyz])")


@dataclass(frozen=True)
class Body:
    """One body: its name, and the places of its two or three coordinates among the channels."""

    name: str
    places: tuple[int, ...]


def find_bodies(channels: Sequence[str]) -> list[Body]:
    """The bodies whose coordinates x, y and perhaps z the channels are; empty when one channel is anything else."""
    found: dict[str, dict[str, int]] = {}
    for place, channel in enumerate(channels):
        first, last = _AXIS_FIRST.fullmatch(channel), _AXIS_LAST.fullmatch(channel)
        if first is not None:
            axis, name = first.group(1), f"body {first.group(2)}"
        elif last is not None:
            axis, name = last.group(2), last.group(1)
        else:
            return []
        if axis in found.setdefault(name, {}):
            return []
        found[name][axis] = place
    if any(set(axes) not in ({"x", "y"}, {"x", "y", "z"}) for axes in found.values()):
        return []
    return [Body(name, tuple(axes[axis] for axis in sorted(axes))) for name, axes in found.items()]


def color_index(channels: Sequence[str], place: int) -> int:
    """Colour of the channel at `place`: that of its body, or its own."""
    for index, body in enumerate(find_bodies(channels)):
        if place in body.places:
            return index
    return place
