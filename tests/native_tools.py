"""Kernels of plain functions, and their comparison with torch, for the tests of the native engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physid.ode.native.compile import Refusal, assemble, kernel_for
from physid.ode.native.compiler.all_rules import TABLE
from physid.ode.native.compiler.trace import trace
from physid.ode.native.kernel import Kernel
from physid.ode.native.reach import Surroundings
from physid.ode.native.witness import witness
from physid.ode.problem import ODEProblem, pose

Field = Callable[[Tensor, Tensor], Tensor]
DOUBLE = torch.float64
TIME = torch.tensor(0.3, dtype=DOUBLE)
Y0 = torch.tensor([1.0, 0.5], dtype=DOUBLE)


def problem(f: Callable[..., Any], y0: Any = Y0, **options: Any) -> ODEProblem:
    return pose(f, y0, [0.0, 1.0], solver="dopri5", rtol=1e-6, atol=1e-6, **options)


def native(f: Callable[..., Any], y0: Any = Y0, **options: Any) -> Kernel:
    found = kernel_for(problem(f, y0, **options))
    assert isinstance(found, Kernel), found
    return found


def refused(f: Callable[..., Any], y0: Any = Y0, **options: Any) -> str:
    found = kernel_for(problem(f, y0, **options))
    assert isinstance(found, Refusal)
    return found.reason


def kernel_of(
    f: Field,
    t: Tensor,
    y: Tensor,
    captured: Sequence[Tensor] = (),
    flags: tuple[str, ...] = ("-O0",),
    batched: bool = False,
) -> Kernel:
    """The compiled f: [N] -> [N], not compared with anything."""
    around = Surroundings(f, witness(lambda: f(t, y)))
    return assemble(trace(f, t, y, captured, TABLE.__contains__), around, flags, batched)


def cotangents(count: int) -> Tensor:
    """Rows w [M, N]: every unit vector of a small result, one random vector for each dozen of a large one."""
    if count <= 24:
        return torch.eye(count, dtype=torch.float64)
    random = torch.Generator().manual_seed(1)
    rows = torch.zeros(-(-count // 12), count, dtype=torch.float64)
    for i, row in enumerate(rows):
        row[12 * i : 12 * i + 12] = (
            torch.rand(len(row[12 * i : 12 * i + 12]), generator=random, dtype=torch.float64) + 0.5
        )
    return rows


def eager_products(f: Field, t: Tensor, y: Tensor, captured: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    """f [N] and w^T df/d(y, captured, t) [M, N + RAW + 1] for the rows w, from torch."""
    t, y = t.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    with torch.enable_grad():
        k = f(t, y)
        inputs, found = [y, *captured, t], []
        for w in rows:
            grads: Sequence[Tensor | None] = [None] * len(inputs)
            if k.requires_grad:
                grads = torch.autograd.grad((k * w.to(k.dtype)).sum(), inputs, retain_graph=True, allow_unused=True)
            flat = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]
            found.append(torch.cat([part.reshape(-1) for part in flat]))
    return k.detach(), torch.stack(found)


def native_products(kernel: Kernel, t: Tensor, y: Tensor, captured: Sequence[Tensor], rows: Tensor) -> Tensor:
    """The same products, from the kernel's vector-Jacobian product."""
    p, c = kernel.pack(captured)
    found = []
    for w in rows.to(y.dtype):
        gy, gp, gt = kernel.vjp(t, y, p, c, w)
        found.append(torch.cat([gy, *(g.reshape(-1) for g in kernel.pull(gp, captured)), gt]))
    return torch.stack(found)


def native_tangents(kernel: Kernel, t: Tensor, y: Tensor, captured: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """f [N] and df/d(y, captured) [N, N + RAW], from the kernel's Jacobian-vector product."""
    p, c = kernel.pack(captured)
    seeds = kernel.seeds(captured)
    dy = torch.cat([torch.eye(kernel.n, dtype=y.dtype), torch.zeros(kernel.n, seeds.shape[1], dtype=y.dtype)], 1)
    dp = torch.cat([torch.zeros(kernel.p, kernel.n, dtype=y.dtype), seeds], 1)
    k, dk = kernel.jvp(t, y, p, c, dy, dp)
    _, still = kernel.jvp(t, y, p, c, dy[:, : kernel.n], None)
    assert torch.allclose(still, dk[:, : kernel.n], rtol=1e-12, atol=1e-12, equal_nan=True)
    return k, dk


def assert_agree(
    f: Field, kernel: Kernel, t: Tensor, y: Tensor, captured: Sequence[Tensor] = (), tol: float = 1e-12
) -> None:
    """Values and products, backwards and forwards, agree with torch's, relative to the largest entry of a row."""
    rows = cotangents(kernel.n)
    k, products = eager_products(f, t, y, captured, rows)
    assert_close("f", kernel.field(t, y, *kernel.pack(captured))[:, None], k[:, None], tol)
    assert_close("w^T df", native_products(kernel, t, y, captured, rows), products, tol)
    again, tangents = native_tangents(kernel, t, y, captured)
    assert_close("f beside df v", again[:, None], k[:, None], tol)
    assert_close("df v", rows.to(y.dtype) @ tangents, products[:, :-1], tol)


def assert_close(what: str, ours: Tensor, theirs: Tensor, tol: float) -> None:
    """Row by row."""
    error, size = (ours - theirs).abs().amax(1), theirs.abs().amax(1)
    bad = torch.nonzero(~(error <= tol * (1 + size))).flatten().tolist()
    assert not bad, f"{what}: row {bad[0]} is {ours[bad[0]].tolist()}, torch has {theirs[bad[0]].tolist()}"


def assert_abreast(kernel: Kernel, t: Tensor, y: Tensor, captured: Sequence[Tensor] = (), tol: float = 1e-12) -> None:
    """What the lanes of vectors give is what one sample gives."""
    p, c = kernel.pack(captured)
    for w in cotangents(kernel.n):
        found = kernel.abreast(t, y, p, c, w)
        assert found, "f has no lanes"
        for ours, alone in zip(found, (kernel.field(t, y, p, c), *kernel.vjp(t, y, p, c, w)), strict=True):
            assert_close("abreast", ours[:, None], alone[:, None], tol)
