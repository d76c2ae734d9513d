"""Kernel verification: compares values and products with the eager f, near the states of the solve, before first use.

A difference is measured by the largest component, and where terms cancel by what rounding leaves of them (`interpret`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from physid.ode.native.compiler.interpret import Products, products
from physid.ode.native.compiler.lower import lower
from physid.ode.native.compiler.record import in_short
from physid.ode.native.compiler.trace import Unsupported
from physid.ode.problem import ODEProblem
from physid.ode.rhs import Field

if TYPE_CHECKING:
    from physid.ode.native.kernel import Kernel

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
ROUNDINGS = 100.0  # how many times its bound the error of rounding may be, as the same sums run in another order
NUDGE = 1e-2  # how far the states are moved, relative to their size


def verify(kernel: Kernel, field: Field, problem: ODEProblem, captured: Sequence[Tensor], p: Tensor, c: Tensor) -> None:
    """Compare with autograd at the first state and at moved ones, within the times of the solve; else Unsupported."""
    shape = (1,) if problem.layout.batched else ()
    for moment, y, w in _points(problem, kernel.n):
        compare(kernel, field, moment.reshape(shape), y, w, captured, p, c)


def verify_tangents(kernel: Kernel, problem: ODEProblem) -> None:
    """Compare df v with the products that have been compared with autograd, at the same points; else Unsupported."""
    p, c = kernel.pack(problem.captured)
    raw = kernel.flat(problem.captured)
    p, c, raw = (rows[0].contiguous() if rows.ndim > 1 else rows for rows in (p, c, raw))
    for t, y, w in _points(problem, kernel.n):
        compare_tangents(kernel, t, y, w, raw, p, c)


def _points(problem: ODEProblem, n: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Times, states [N] and cotangents [N]."""
    grid, y0 = problem.grid, problem.y0.detach().view(-1, n)[0]
    random = torch.Generator().manual_seed(0)
    for share in (0.0, 0.37, 0.82):
        moment = (grid[0, 0] + share * (grid[-1, 0] - grid[0, 0])).to(y0.dtype)
        noise = torch.randn(n, generator=random, dtype=torch.float64).to(y0.dtype)
        y = y0 + (NUDGE if share else 0.0) * noise * (y0.abs() + y0.abs().mean())
        yield moment, y, torch.randn(n, generator=random, dtype=torch.float64).to(y0.dtype)


def check_start(kernel: Kernel, problem: ODEProblem) -> None:
    """Compare with the derivative that the engine has evaluated at the start, in every lane; else Unsupported."""
    p, c = kernel.pack(problem.captured)
    lanes = problem.layout.lanes
    eager = problem.derivative.detach().view(lanes, kernel.n)
    t = problem.start.detach().to(kernel.dtype).expand(lanes)
    y = problem.y0.detach().view(lanes, kernel.n)
    raw = kernel.flat(problem.captured)

    def at(lane: int) -> Rounding:
        mine, own = (rows[lane] if rows.ndim > 1 else rows for rows in (raw, c))
        return Rounding(kernel, t[lane], y[lane], mine, own, y[lane])

    if not kernel.sampled:
        agree(
            "f at the start",
            kernel.field(t, y, p, c),
            eager,
            bound=lambda: np.stack([at(lane).products.k[1] for lane in range(lanes)]),
        )
        return
    for lane in sorted({0, 1, lanes // 2, lanes - 1}):
        own = [rows[lane].contiguous() if rows.ndim > 1 else rows for rows in (p, c)]
        found = kernel.field(t[lane], y[lane], *own)
        agree("f at the start", found, eager[lane], bound=lambda lane=lane: at(lane).products.k[1])  # type: ignore[misc]


def compare(
    kernel: Kernel, field: Field, t: Tensor, y: Tensor, w: Tensor, captured: Sequence[Tensor], p: Tensor, c: Tensor
) -> None:
    """Values and w^T df at one point [N]; points where the eager f is not finite say nothing."""
    t, y = t.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            k = field(t, y)
    except Exception as error:
        raise Unsupported(f"f fails when it is evaluated once more ({in_short(error)})") from None
    if not bool(torch.isfinite(k).all()):
        return
    rounding = Rounding(kernel, t, y, kernel.flat(captured), c, w)
    agree("f", kernel.field(t, y, p, c), k, bound=lambda: rounding.products.k[1])
    inputs = [y, t, *captured]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if k.requires_grad:
        # a sum, since given cotangents make torch import its symbolic shapes, for a second
        with torch.enable_grad():
            product = (k * w).sum()
        found = torch.autograd.grad(product, inputs, allow_unused=True, retain_graph=True)
    eager = [torch.zeros_like(x) if g is None else g.detach() for x, g in zip(inputs, found, strict=True)]
    gy, gp, gt = kernel.vjp(t, y, p, c, w)
    agree("w^T df/dy", gy, eager[0], bound=lambda: rounding.products.gy[1])
    agree("w^T df/dt", gt, eager[1].reshape(1), bound=lambda: rounding.products.gt[1])
    for ours, alone in zip(kernel.abreast(t, y, p, c, w), (k, gy, gp, gt), strict=False):
        agree("f of samples side by side", ours, alone)
    first = 0
    made = any(tensor.grad_fn is not None for tensor in captured)
    for tensor, ours, theirs in zip(captured, kernel.pull(gp, captured), eager[2:], strict=True):
        if tensor.grad_fn is not None or not made:  # autograd also goes from a made tensor back to what it was made of
            part = slice(first, first + tensor.numel())
            agree("w^T df/dp", ours, theirs, bound=lambda part=part: rounding.products.graw[1][part])  # type: ignore[misc]
        first += tensor.numel()


def compare_tangents(kernel: Kernel, t: Tensor, y: Tensor, w: Tensor, raw: Tensor, p: Tensor, c: Tensor) -> None:
    """df v beside w^T df at one point [N]."""
    rounding = Rounding(kernel, t, y, raw, c, w)
    gy, gp, _ = kernel.vjp(t, y, p, c, w)
    v = torch.stack([w, 0.5 - w], 1)
    dp = torch.stack([torch.linspace(-1, 1, kernel.p, dtype=y.dtype), torch.ones(kernel.p, dtype=y.dtype)], 1)
    expected = v.T @ gy + dp.T @ gp
    size = float((v.abs().T @ gy.abs() + dp.abs().T @ gp.abs()).max())

    def bound() -> Any:
        """What rounding leaves in the sums over both."""
        found = v.abs().T @ torch.as_tensor(rounding.products.gy[1])
        same = kernel.p == len(rounding.products.graw[1])
        return found + dp.abs().T @ torch.as_tensor(rounding.products.graw[1]) if same else found

    agree("w^T df v", w @ kernel.jvp(t, y, p, c, v, dp)[1], expected, size, bound)


@dataclass(frozen=True)
class Rounding:
    """What rounding may leave in the functions of a kernel at a point; found when it is asked for."""

    kernel: Kernel
    t: Tensor
    y: Tensor
    raw: Tensor
    c: Tensor
    w: Tensor

    @cached_property
    def products(self) -> Products:
        """The program at this point; KeyError where it reads inputs, which are not known here."""
        t, y, raw, c, w = (x.detach().reshape(-1).numpy() for x in (self.t, self.y, self.raw, self.c, self.w))
        dtype = np.float32 if self.kernel.dtype == torch.float32 else np.float64
        return products(lower(self.kernel.graph), t, y, raw, c, w, dtype)


def agree(what: str, native: Tensor, eager: Tensor, size: float = 0.0, bound: Callable[[], Any] | None = None) -> None:
    """Refuse a difference beyond rounding: relative to the largest component, or to the `bound` of what cancels."""
    native, eager = native.detach(), eager.detach().reshape(native.shape)
    if not eager.numel() or not bool(torch.isfinite(eager).all()):
        return
    size = max(size, float(eager.abs().max()))
    error = (native - eager).abs()
    tolerance = max(TOLERANCE[native.dtype], TOLERANCE.get(eager.dtype, 0.0))
    allowed = torch.full_like(error, tolerance * size + 1e-300)
    if bool((error <= allowed).all()):
        return
    with suppress(KeyError):
        allowed = allowed + ROUNDINGS * torch.as_tensor(bound()).reshape(error.shape) if bound else allowed
    if not bool((error <= allowed).all()):
        worst = float(error.max())
        raise Unsupported(f"mismatch: {what} differs from the eager one by {worst:.2g} where it is {size:.2g}")
