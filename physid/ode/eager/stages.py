"""The stages of one Runge-Kutta step, in place for speed or traced for autograd.

Stage values are kept scaled by the step, hk_i = h f(t + c_i h, u_i), so that every combination
u_i = y + sum_j a_ij hk_j is one matrix-vector product on flat states, shared step or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from physid.ode.methods.catalogue import Tableau
from physid.ode.rhs import StateLayout


@dataclass(frozen=True)
class Coefficients:
    """A tableau as tensors of the state's dtype on its device; rows of `a` reach over stages and dense stages."""

    tableau: Tableau
    a: tuple[Tensor, ...]
    b: Tensor
    error: Tensor | None
    error3: Tensor | None
    dense: Tensor
    ends: Tensor
    c: Tensor

    @staticmethod
    def of(tableau: Tableau, layout: StateLayout) -> Coefficients:
        """The tensors of `tableau` for states laid out as `layout`."""
        return Coefficients._made(tableau, layout.dtype, layout.device)

    @staticmethod
    @lru_cache(maxsize=32)
    def _made(tableau: Tableau, dtype: torch.dtype, device: torch.device) -> Coefficients:
        def tensor(values: object) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return Coefficients(
            tableau,
            tuple(tensor(row) for row in (*tableau.a, *tableau.extra_a)),
            tensor(tableau.b),
            None if tableau.error is None else tensor(tableau.error),
            None if tableau.error3 is None else tensor(tableau.error3),
            torch.tensor(tableau.dense, dtype=torch.float64),
            torch.tensor((*tableau.b, *(0.0 for _ in tableau.extra_c)), dtype=torch.float64),
            torch.tensor((*tableau.c, *tableau.extra_c), dtype=torch.float64),
        )

    def basis(self, theta: Tensor, width: int) -> Tensor:
        """b_i(theta) [m, width] for theta [m]; at theta = 1 the dense stages beyond `width` weigh nothing."""
        powers = theta[:, None] ** torch.arange(1, self.dense.shape[1] + 1)
        weights = (powers @ self.dense.T)[:, :width]
        # the polynomials meet b to 6e-14 only, so the end of the step is put in as it is; its slope stays theirs
        at_end = (theta == 1)[:, None]
        return torch.where(at_end, self.ends[:width] + (weights - weights.detach()), weights)

    def slope(self, theta: Tensor, width: int) -> Tensor:
        """b_i'(theta) [m, width]: the derivative of the dense output's weights."""
        degree = torch.arange(1, self.dense.shape[1] + 1)
        return ((degree * theta[:, None] ** (degree - 1)) @ self.dense.T)[:, :width]


class StageTimes:
    """t + c_i h in the state's real dtype, never outside of the interval of the solve."""

    def __init__(self, layout: StateLayout, start: Tensor, end: Tensor) -> None:
        self.layout = layout
        low, high = torch.minimum(start, end), torch.maximum(start, end)
        self.low, self.high = inward(low, layout.real, up=True), inward(high, layout.real, up=False)

    def __call__(
        self, c: Tensor, t: Tensor, h: Tensor, after: Tensor | None = None, before: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """One time per stage, [] or, with steps of their own, [L]; `after` and `before` [L] keep clear of jumps.

        The bounds only take off round-off, so that derivatives pass as if they were not there.
        """
        wanted = (c[:, None] * h + t).to(self.layout.real)
        times = torch.clamp(wanted, self.low, self.high)
        if after is not None and before is not None:
            times = torch.clamp(times, after, before)
        if torch.is_grad_enabled():
            times = pinned(times, wanted)
        if not self.layout.batched:
            times = times[:, 0]
        return times.to(self.layout.device).unbind()


def pinned(value: Tensor, graph: Tensor) -> Tensor:
    """This value, with the derivatives of `graph`."""
    return value.detach() + (graph - graph.detach())


def inward(value: Tensor, dtype: torch.dtype, *, up: bool) -> Tensor:
    """`value` rounded to `dtype` upwards or downwards."""
    rounded = value.to(dtype)
    towards = torch.full_like(rounded, float("inf") if up else -float("inf"))
    off = rounded.double() < value.double() if up else rounded.double() > value.double()
    return torch.where(off, torch.nextafter(rounded, towards), rounded)


class InPlace:
    """Stage storage [stages, L * N] that is written over at every step; for solves without a graph."""

    def __init__(self, coefficients: Coefficients, layout: StateLayout) -> None:
        total = len(coefficients.a)
        self.a = coefficients.a
        self.hk = torch.zeros(total, layout.lanes * layout.width, dtype=layout.dtype, device=layout.device)
        self._rows = list(self.hk.unbind())
        self._lanes = [row.view(layout.lanes, layout.width) for row in self._rows]
        self._until = [self.hk[:i].T for i in range(total + 1)]
        self.layout = layout

    def put(self, i: int, k: Tensor, h: float | Tensor) -> None:
        """Store h k as stage i; h is a number or a column [L, 1]."""
        if isinstance(h, float):
            torch.mul(k, h, out=self._rows[i])
        else:
            torch.mul(k.view(self.layout.lanes, -1), h, out=self._lanes[i])

    def combine(self, y: Tensor, i: int) -> Tensor:
        """u_i = y + sum_{j < i} a_ij hk_j."""
        return torch.addmv(y, self._until[i], self.a[i]) if i else y

    def weigh(self, weights: Tensor) -> Tensor:
        """sum_j weights_j hk_j over the first len(weights) stages."""
        return self._until[len(weights)] @ weights

    def kept(self, count: int) -> Tensor:
        """The first `count` stages [count, L * N], safe from the next step."""
        return self.hk[:count].clone()


class Traced:
    """Stage storage that autograd can follow, through h as well."""

    def __init__(self, coefficients: Coefficients, layout: StateLayout) -> None:
        self.a, self.layout = coefficients.a, layout
        self._rows: list[Tensor] = []

    def put(self, i: int, k: Tensor, h: float | Tensor) -> None:
        """Store h k as stage i; stage 0 starts a new step."""
        if i == 0:
            self._rows = []
        scaled = k * h if isinstance(h, float) else (k.view(self.layout.lanes, -1) * h).reshape(-1)
        self._rows.append(scaled)

    def combine(self, y: Tensor, i: int) -> Tensor:
        """u_i = y + sum_{j < i} a_ij hk_j."""
        return y + torch.stack(self._rows[:i], dim=1) @ self.a[i] if i else y

    def weigh(self, weights: Tensor) -> Tensor:
        """sum_j weights_j hk_j over the first len(weights) stages."""
        return torch.stack(self._rows[: len(weights)], dim=1) @ weights

    def kept(self, count: int) -> Tensor:
        """The first `count` stages [count, L * N]."""
        return torch.stack(self._rows[:count])


Stages = InPlace | Traced


def evaluate(
    stages: Stages,
    field: Callable[[Tensor, Tensor], Tensor],
    times: tuple[Tensor, ...],
    y: Tensor,
    h: float | Tensor,
    which: range,
) -> tuple[Tensor, Tensor]:
    """Evaluate the stages `which`; returns the last stage's state and derivative."""
    u = k = y
    for i in which:
        u = stages.combine(y, i)
        k = field(times[i], u)
        stages.put(i, k, h)
    return u, k
