"""Inputs u(t) of a driven system, interpolated as piecewise polynomials that a right-hand side reads at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from physid.arrays import Array
from physid.errors import InputError, unknown_name

KINDS = ("hold", "linear", "cubic")
FEWEST = {"hold": 1, "linear": 2, "cubic": 4}
CLOSEST = 1e-100  # of two times: the rate between nearer ones, and its square, is beyond the numbers


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs u(t) [m]: in piece k, from breaks[k] to breaks[k + 1], sum_d coefficients[k, d] (t - breaks[k])^d.

    breaks [K + 1], coefficients [K, degree + 1, m], float64. With a lane for each experiment of a batch (`stack`) the
    coefficients have one more axis in front, [L, ...], and t is [..., L]. Made by `through` from samples.
    `switches` are the times at which an input or a derivative of it jumps: steps land on them.

    Before the first break, where no sample is known, each input keeps its value there: that is what u(t - delay) means
    while t - delay lies before the record. A held input keeps its last value for ever; the others are known up to their
    last sample.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    breaks: Tensor
    coefficients: Tensor
    switches: Tensor

    @classmethod
    def through(
        cls, times: object, values: object, names: Sequence[str], kind: str = "hold", land: bool = True
    ) -> Inputs:
        """The inputs through samples `values` [K, m] (or [K]) at increasing `times` [K].

        kind: "hold" (zero-order hold: a sample's value lasts until the next), "linear", or "cubic" (the not-a-knot
        spline). A value that is not-a-number was not measured: its sample is left out. Steps land on the samples where
        the function or a derivative jumps, which keeps their error within the tolerance; `land=False` lets them run
        across, for inputs sampled much faster than the state moves.

        Errors: InputError for an unknown kind, times that do not increase, shapes that do not match, an infinite value
        or too few samples. Source of the spline: de Boor (1978), as in scipy.interpolate.CubicSpline.
        """
        if kind not in KINDS:
            raise unknown_name("kind of interpolation", kind, KINDS)
        try:
            t, u = (torch.as_tensor(part, dtype=torch.float64).detach().cpu().numpy() for part in (times, values))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError("times and values of an input are arrays of numbers. Give such.") from error
        u = u[:, None] if u.ndim == 1 else u
        if t.ndim != 1 or not np.isfinite(t).all() or (np.diff(t) <= 0).any():
            raise InputError("the times of an input must be finite and increase. Sort the rows and drop repeated ones.")
        if (np.diff(t) < CLOSEST).any():
            raise InputError(f"two times of an input are less than {CLOSEST:g} apart. Choose a smaller unit of time.")
        if u.shape != (len(t), len(names)) or not names:
            raise InputError(f"inputs have shape {list(u.shape)}, with {len(t)} times and the names {list(names)}.")
        if np.isinf(u).any():
            raise InputError("an input is infinite: expected finite numbers, or not-a-number for 'not measured'.")
        return cls.join([_one(name, t, column, kind, land) for name, column in zip(names, u.T, strict=True)])

    @classmethod
    def join(cls, parts: Sequence[Inputs]) -> Inputs:
        """Several inputs as one, on the breaks of them all: the pieces are split and moved, which changes no value.

        Errors: InputError when they have no time in common, or two have one name.
        """
        names = tuple(name for part in parts for name in part.names)
        if len(set(names)) < len(names):
            raise InputError(f"two inputs have one name: {', '.join(names)}. Rename one.")
        first = max(float(part.breaks[0]) for part in parts)
        held = [part for part in parts if set(part.kinds) == {"hold"}]
        ends = [float(part.breaks[-1]) for part in parts]
        last = (
            max(ends) if len(held) == len(parts) else min(e for e, p in zip(ends, parts, strict=True) if p not in held)
        )
        if not first < last:
            raise InputError(f"the inputs {', '.join(names)} have no time in common. Give samples over one time.")
        breaks = torch.unique(
            torch.cat([*(part.breaks for part in parts), torch.tensor([first, last], dtype=torch.float64)])
        )
        breaks = breaks[(breaks >= first) & (breaks <= last)]
        degree = max(part.coefficients.shape[1] for part in parts)
        moved = [part._moved(breaks, degree) for part in parts]
        switches = torch.unique(torch.cat([part.switches for part in parts]))
        kinds = tuple(kind for part in parts for kind in part.kinds)
        return cls(names, kinds, breaks, torch.cat(moved, -1), switches[(switches > first) & (switches < last)])

    @classmethod
    def stack(cls, lanes: Sequence[Inputs]) -> Inputs:
        """The inputs of several experiments, a lane for each, for a batched solve with t [..., L].

        Errors: InputError when their names differ.
        """
        if any(one.names != lanes[0].names for one in lanes):
            raise InputError(
                f"experiments have the inputs {', '.join(str(list(one.names)) for one in lanes)}: one set."
            )
        degree = max(one.coefficients.shape[1] for one in lanes)
        breaks = torch.unique(torch.cat([one.breaks for one in lanes]))
        table = torch.stack([one._moved(breaks, degree) for one in lanes])
        switches = torch.unique(torch.cat([one.switches for one in lanes]))
        return cls(lanes[0].names, lanes[0].kinds, breaks, table, switches)

    def select(self, names: Sequence[str]) -> Inputs:
        """The inputs of these names, in their order. Errors: InputError for a name that is not there."""
        for name in names:
            if name not in self.names:
                raise unknown_name("input", name, self.names)
        if tuple(names) == self.names:
            return self
        places = [self.names.index(name) for name in names]
        kinds = tuple(self.kinds[i] for i in places)
        return Inputs(tuple(names), kinds, self.breaks, self.coefficients[..., places], self.switches)

    def __call__(self, t: Tensor) -> Tensor:
        """u(t) [*t.shape, m] in the dtype of t, differentiable by t.

        At a break the piece after it counts, before all of them the first value.
        """
        time = t.to(torch.float64)
        breaks, table = self._on(t.device)
        if table.ndim == 4 and time.ndim == 0:
            time = time.expand(len(table))
        piece = torch.searchsorted(breaks[1:-1], time.detach().contiguous(), right=True)
        start = breaks[piece]
        found = table[piece] if table.ndim == 3 else table[torch.arange(len(table), device=t.device), piece]
        value = found[..., -1, :]
        if found.shape[-2] > 1:
            since = (time - start).clamp(min=0.0).unsqueeze(-1)  # of which the slope at 0 is 1: that of the piece
            for power in range(found.shape[-2] - 2, -1, -1):
                value = value * since + found[..., power, :]
        return value.to(t.dtype)

    @cached_property
    def landings(self) -> Tensor:
        """The times [S] at which an input or a derivative of it jumps, the first sample among them where one does."""
        first = self.breaks[:1] if len(self.switches) and set(self.kinds) != {"hold"} else self.breaks[:0]
        found: Tensor = torch.cat([first, self.switches]).unique()
        return found

    @cached_property
    def jumps(self) -> bool:
        """Whether the value of an input jumps anywhere."""
        return bool(len(self._jump_times()))

    @cached_property
    def unlanded(self) -> bool:
        """Whether the value of an input jumps where steps do not land."""
        return not bool(torch.isin(self._jump_times(), self.switches).all())

    def _jump_times(self) -> Tensor:
        held = torch.tensor([kind == "hold" for kind in self.kinds])
        values = self.coefficients[..., 0, :][..., held]
        changes = (values.diff(dim=-2) != 0).any(-1)
        return self.breaks[1:-1][changes if changes.ndim == 1 else changes.any(0)]

    def covers(self, first: float, last: float) -> bool:
        """Whether every input is known from `first` to `last`."""
        end = math.inf if set(self.kinds) == {"hold"} else float(self.breaks[-1])
        return float(self.breaks[0]) <= first and last <= end

    def need(self, first: float, last: float) -> None:
        """Errors: InputError unless every input is known from `first` to `last`."""
        if not self.covers(first, last):
            raise InputError(
                f"the inputs {', '.join(self.names)} are known from {float(self.breaks[0]):g} to "
                f"{float(self.breaks[-1]):g}, but they are needed from {first:g} to {last:g}. Give samples over all of "
                "that time, or stay within them; only a held input keeps its last value."
            )

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """breaks and coefficients on a device."""
        if self.breaks.device == device:
            return self.breaks, self.coefficients
        return self.breaks.to(device), self.coefficients.to(device)

    def _moved(self, breaks: Tensor, width: int) -> Tensor:
        """The coefficients [K', width, m] of the same function on finer `breaks`."""
        piece = torch.searchsorted(self.breaks[1:-1].contiguous(), breaks[:-1].contiguous(), right=True)
        old = self.coefficients[piece]
        early = breaks[:-1] < self.breaks[0]
        if bool(early.any()):  # the value at the first break, as `__call__` has it
            old = torch.where(early[:, None, None] & (torch.arange(old.shape[1]) > 0)[:, None], 0.0, old)
        shift = (breaks[:-1] - self.breaks[piece])[:, None]
        new = torch.zeros(len(piece), width, old.shape[-1], dtype=torch.float64)
        for power in range(old.shape[1]):
            for low in range(power + 1):
                new[:, low] += math.comb(power, low) * old[:, power] * shift ** (power - low)
        return new


def _one(name: str, times: Array, values: Array, kind: str, land: bool) -> Inputs:
    """One input through its samples."""
    there = np.isfinite(values)
    t, u = times[there], values[there]
    if len(t) < FEWEST[kind]:
        raise InputError(
            f"input '{name}' was measured {len(t)} times: {kind} interpolation needs {FEWEST[kind]} or more. "
            "Measure more, or choose another interpolation."
        )
    if kind == "hold":
        after = t[-1] - t[-2] if len(t) > 1 else 1.0
        breaks, table = np.append(t, max(times[-1], t[-1] + after)), u[:, None]  # the last piece goes on for ever
        switches = t[1:][np.diff(u) != 0]
    elif kind == "linear":
        breaks, table = t, np.stack([u[:-1], np.diff(u) / np.diff(t)], 1)
        switches = t[1:-1][np.diff(table[:, 1]) != 0]
    else:
        spline = CubicSpline(t, u)
        breaks, table = t, spline.c[::-1].T
        switches = t[2:-2]  # not the first and last knots inside, where the spline is smooth
    switches = switches if land else t[:0]
    coefficients = torch.from_numpy(np.ascontiguousarray(table))[..., None]
    return Inputs((name,), (kind,), torch.from_numpy(breaks.copy()), coefficients, torch.from_numpy(switches.copy()))


def moment(t: object, reader: str) -> Tensor:
    """A time that a model, the `reader`, gives as a number; InputError for what is none."""
    try:
        return torch.as_tensor(t, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{reader} reads its inputs at {t!r}, which is no time: expected numbers, as in self.inputs(t). What "
            "observe says depends on the state alone; make an input that it needs a state."
        ) from None
