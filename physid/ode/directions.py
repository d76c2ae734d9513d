"""Probe directions in the unknowns and initial states of a problem, and the sizes of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.probes import Probes
from physid.ode.problem import ODEProblem


@dataclass(frozen=True)
class Directions:
    """The directions of K probes: `start` [K, L * N] of the initial states, and [K, *shape] of every parameter."""

    start: Tensor
    params: tuple[Tensor, ...]

    @staticmethod
    def of(problem: ODEProblem, probes: Probes) -> Directions:
        """The directions for a problem and the parameters that its f depends on."""
        layout, unknowns, k = problem.layout, problem.unknowns, probes.count
        initial = _initial(problem, probes).view(1, layout.lanes, -1)
        start = initial * _drawn(k, layout.width, probes.seed).to(initial)[:, None]
        params = [
            size.to(tensor) * _factors(tensor, k, probes.seed + 1 + i, layout.lanes if layout.batched else 0)
            for i, (tensor, size) in enumerate(zip(unknowns, _sizes(probes, unknowns), strict=True))
        ]
        return Directions(start.reshape(k, -1), tuple(params))


def column_sizes(problem: ODEProblem, probes: Probes, params: Sequence[Tensor]) -> Tensor:
    """The sizes [L, N + Q] of the columns that gradient "forward" carries."""
    lanes = problem.layout.lanes
    initial = _initial(problem, probes).view(lanes, -1)
    sizes = [size.reshape(1, -1).to(initial).expand(lanes, -1) for size in _sizes(probes, params)]
    return torch.cat([initial, *sizes], 1).contiguous()


def _initial(problem: ODEProblem, probes: Probes) -> Tensor:
    """The size of every component of the initial states [L, N]."""
    layout = problem.layout
    if probes.initial is None:
        return typical(problem.y0.detach().view(layout.lanes, -1))
    if len(probes.initial) != layout.width:
        raise InputError(
            f"probes with {len(probes.initial)} sizes of the initial state, which has {layout.width} components: give "
            "one for each."
        )
    return problem.y0.new_tensor(probes.initial).expand(layout.lanes, -1)


def _sizes(probes: Probes, params: Sequence[Tensor]) -> list[Tensor]:
    """The size of every element of every parameter."""
    if probes.sizes is None:
        return [typical(tensor.detach().reshape(1, -1)).view(tensor.shape) for tensor in params]
    counts = [tensor.numel() for tensor in params]
    if len(probes.sizes) != sum(counts):
        raise InputError(
            f"probes with {len(probes.sizes)} sizes of parameters, of which there are {sum(counts)}: name the "
            "parameters by params=, and give one size for each of their elements."
        )
    flat = torch.tensor(probes.sizes, dtype=torch.float64).split(counts)
    return [part.view(tensor.shape) for part, tensor in zip(flat, params, strict=True)]


def typical(rows: Tensor) -> Tensor:
    """The magnitude of every number of rows [R, n]; that of a zero is the rms of its row, or 1 in a row of zeros."""
    size = rows.abs()
    rms = size.square().mean(1, keepdim=True).sqrt()
    return torch.where(size > 0, size, torch.where(rms > 0, rms, torch.ones_like(rms)))


def _factors(tensor: Tensor, count: int, seed: int, lanes: int) -> Tensor:
    """The drawn factors [K, *shape] of a tensor; one with a row for every sample has the same in all rows."""
    shape = tensor.shape
    own = lanes > 0 and tensor.ndim > 0 and shape[0] == lanes
    row = shape[1:] if own else shape
    drawn = _drawn(count, row.numel(), seed).to(tensor).view(count, *row)
    return drawn[:, None].expand(count, *shape) if own else drawn


@lru_cache(maxsize=256)
def _drawn(count: int, numbers: int, seed: int) -> Tensor:
    """Factors [count, numbers] from +-[.5, 1.5]: none of them is small, and no two cancel but by chance."""
    random = torch.Generator().manual_seed(seed)
    drawn = 2 * torch.rand(count, numbers, generator=random, dtype=torch.float64) - 1
    return drawn + torch.where(drawn < 0, -0.5, 0.5)
