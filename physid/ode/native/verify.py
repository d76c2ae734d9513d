"""A kernel is trusted when it gives what the eager f gives: values and products, near the states of the solve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from physid.ode.field import Field
from physid.ode.native.trace import Unsupported
from physid.ode.problem import Problem

if TYPE_CHECKING:
    from physid.ode.native.kernel import Kernel

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
NUDGE = 1e-2  # how far the states are moved, relative to their size


def verify(kernel: Kernel, field: Field, problem: Problem, captured: Sequence[Tensor], p: Tensor, c: Tensor) -> None:
    """Compare with autograd at the first state and at moved ones, within the times of the solve; else Unsupported."""
    n, grid = kernel.n, problem.grid
    y0 = problem.y0.detach().view(-1, n)[0]
    shape = (1,) if problem.layout.batched else ()
    random = torch.Generator().manual_seed(0)
    for share in (0.0, 0.37, 0.82):
        moment = (grid[0, 0] + share * (grid[-1, 0] - grid[0, 0])).to(y0.dtype)
        noise = torch.randn(n, generator=random, dtype=torch.float64).to(y0.dtype)
        y = y0 + (NUDGE if share else 0.0) * noise * (y0.abs() + y0.abs().mean())
        w = torch.randn(n, generator=random, dtype=torch.float64).to(y0.dtype)
        compare(kernel, field, moment.reshape(shape), y, w, captured, p, c)


def compare(
    kernel: Kernel, field: Field, t: Tensor, y: Tensor, w: Tensor, captured: Sequence[Tensor], p: Tensor, c: Tensor
) -> None:
    """Values, w^T df and df v at one point [N]; points where the eager f is not finite say nothing."""
    t, y = t.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    with torch.enable_grad():
        k = field(t, y)
    if not bool(torch.isfinite(k).all()):
        return
    agree("f", kernel.field(t, y, p, c), k)
    inputs = [y, t, *captured]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if k.requires_grad:
        # a sum, since given cotangents make torch import its symbolic shapes, for a second
        with torch.enable_grad():
            product = (k * w).sum()
        found = torch.autograd.grad(product, inputs, allow_unused=True, retain_graph=True)
    eager = [torch.zeros_like(x) if g is None else g.detach() for x, g in zip(inputs, found, strict=True)]
    gy, gp, gt = kernel.vjp(t, y, p, c, w)
    agree("w^T df/dy", gy, eager[0])
    agree("w^T df/dt", gt, eager[1].reshape(1))
    for ours, alone in zip(kernel.abreast(t, y, p, c, w), (k, gy, gp, gt), strict=False):
        agree("f of samples side by side", ours, alone)
    made = any(tensor.grad_fn is not None for tensor in captured)
    for tensor, ours, theirs in zip(captured, kernel.pull(gp, captured), eager[2:], strict=True):
        if tensor.grad_fn is not None or not made:  # autograd also goes from a made tensor back to what it was made of
            agree("w^T df/dp", ours, theirs)
    v = torch.stack([w, 0.5 - w], 1)
    dp = torch.stack([torch.linspace(-1, 1, kernel.p, dtype=y.dtype), torch.ones(kernel.p, dtype=y.dtype)], 1)
    expected = v.T @ gy + dp.T @ gp
    size = float((v.abs().T @ gy.abs() + dp.abs().T @ gp.abs()).max())
    agree("w^T df v", w @ kernel.jvp(t, y, p, c, v, dp)[1], expected, size)


def agree(what: str, native: Tensor, eager: Tensor, size: float = 0.0) -> None:
    """Refuse a difference beyond rounding, relative to the largest component."""
    native, eager = native.detach(), eager.detach().reshape(native.shape)
    if not eager.numel() or not bool(torch.isfinite(eager).all()):
        return
    size = max(size, float(eager.abs().max()))
    error = (native - eager).abs().max()
    tolerance = max(TOLERANCE[native.dtype], TOLERANCE.get(eager.dtype, 0.0))
    if not float(error) <= tolerance * size + 1e-300:
        raise Unsupported(f"mismatch: {what} differs from the eager one by {float(error):.2g} where it is {size:.2g}")
