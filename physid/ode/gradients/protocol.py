"""Gradient methods: what one must do, and how it hangs a derivative on the states of a solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from physid.ode.backend import Backend
from physid.ode.eager.outcome import Outcome
from physid.ode.problem import ODEProblem

Pull = Callable[[Tensor, Tensor, Sequence[bool]], Sequence[Tensor | None]]


@runtime_checkable
class Gradient(Protocol):
    """A gradient method: turns a problem into states [T, L * N] that autograd can follow, by solves on a backend.

    Where it has an attribute `probed` that is true, probes may be carried in its solves; where it has a field
    `checkpoints`, `solve(checkpoints=K)` sets it. `fused`: its gradient is that of the frozen steps alone, which the
    compiled misfit takes in one call.
    """

    @property
    def name(self) -> str:
        """The name in messages and reports."""
        ...

    def solve(self, problem: ODEProblem, backend: Backend) -> tuple[Tensor, Outcome]:
        """Solve, and arrange for the backward pass."""
        ...


def wants_gradient(problem: ODEProblem) -> bool:
    """Whether anything that the solve depends on asks for a gradient."""
    moves = problem.moved is not None
    tracked = problem.y0.requires_grad or problem.t.requires_grad or bool(problem.captured) or moves
    return torch.is_grad_enabled() and tracked


def with_pullback(problem: ODEProblem, march: Callable[[], Outcome], pull: Pull) -> tuple[Tensor, Outcome]:
    """The states [T, L * N] that `march` leaves, and its outcome; `pull` is their derivative.

    pull(values, g, needs) takes cotangents g [T, L * N] of the states `values` to those of `problem.inputs`: of y0
    [L * N], of t, of the captured tensors and of jumps that move; None, or anything, where `needs` is false.
    """
    left = Left()
    values = _Pulled.apply(march, pull, left, *problem.inputs)  # type: ignore[no-untyped-call]
    return values, left.the_outcome


class Left:
    """Results of a march for the caller of an autograd Function; no pytree, so that it is never copied."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    @property
    def the_outcome(self) -> Outcome:
        """The outcome of the march, which must have run."""
        if self.outcome is None:
            raise RuntimeError("the march has not run")
        return self.outcome


class _Pulled(torch.autograd.Function):
    """States [T, L * N] whose derivative is a function."""

    @staticmethod
    def forward(march: Callable[[], Outcome], pull: Pull, left: Left, *inputs: Tensor) -> Tensor:
        left.outcome = march()
        return left.outcome.values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.pull, _, *tensors = inputs
        ctx.save_for_backward(output, *tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        values, *_ = ctx.saved_tensors
        return (None, None, None, *ctx.pull(values, g, ctx.needs_input_grad[3:]))


def fold_times(tbar: Tensor | None, t: Tensor) -> Tensor | None:
    """Cotangents [T, L] as those of t [T] or [T, L]."""
    if tbar is None:
        return None
    return tbar if t.ndim == 2 else tbar.sum(1)
