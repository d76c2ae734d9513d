"""What the comparisons with torchdiffeq share: problems, and runs of both packages with the same keywords."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from physid import ode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer = pytest.importorskip("torchdiffeq")

TOL = 1e-7
Solver = Callable[..., Any]


class Oscillator(nn.Module):
    """A forced van der Pol oscillator with two unknowns."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.damping = nn.Parameter(torch.tensor(0.5, dtype=dtype))
        self.force = nn.Parameter(torch.tensor([0.3, 0.7], dtype=dtype))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y[..., 0], y[..., 1]
        push = self.force[0] * torch.cos(self.force[1] * t)
        return torch.stack([v, self.damping * (1 - x**2) * v - x + push], dim=-1)


class Coupled(nn.Module):
    """A tuple state of parts with different shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

    def forward(self, t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = y
        return -self.rate * a + b.sum(), torch.cos(t) * b - 0.1 * a


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([1.2, -0.4], dtype=dtype, requires_grad=True)


def times(reverse: bool = False) -> Tensor:
    t = torch.tensor([0.0, 0.3, 0.31, 1.1, 2.0], dtype=torch.float64)
    return (t.flip(0) if reverse else t).requires_grad_()


def flat(y: Any) -> Tensor:
    return torch.cat([part.reshape(-1) for part in y]) if isinstance(y, tuple) else y.reshape(-1)


def run(solver: Solver, f: nn.Module, y0: Any, t: Tensor, **keywords: Any) -> tuple[Tensor, list[Tensor]]:
    """Values, and gradients of a fixed mixture of them with respect to y0, t and the parameters."""
    y = flat(solver(f, y0, t, **keywords))
    loss = (y * torch.linspace(1, 2, len(y), dtype=y.dtype)).sum()
    leaves = [*(y0 if isinstance(y0, tuple) else (y0,)), *f.parameters(), t]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    return y.detach(), list(torch.autograd.grad(loss, wanted))


TRUTHS: dict[str, tuple[Tensor, list[Tensor]]] = {}


def truth(f: nn.Module, y0: Any, t: Tensor, jumps: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """What `run` gives at tight tolerances, solved once for all comparisons of the same problem."""
    key = repr((type(f), dict(f.named_parameters()), y0, t, jumps))
    if key not in TRUTHS:
        options = {} if jumps is None else {"jump_t": jumps}
        TRUTHS[key] = run(peer.odeint, f, y0, t, method="dopri5", rtol=1e-11, atol=1e-11, options=options)
    return TRUTHS[key]


def agree(mine: Tensor, theirs: Tensor, tol: float, what: str = "result", truth: Tensor | None = None) -> None:
    """Within ten times the tolerance of the peer, or of the truth where the peer itself is further off."""
    assert mine.shape == theirs.shape
    assert mine.dtype == theirs.dtype
    allowed = 10 * tol * (1 + theirs.abs())
    error = (mine - theirs).abs()
    if truth is not None:
        allowed = torch.maximum(allowed, 2 * (theirs - truth).abs().max())
        error = torch.minimum(error, (mine - truth).abs())
    excess = float((error / allowed).max())
    assert excess <= 1, f"{what}: {excess:.3g} times what is allowed: {mine.tolist()} against {theirs.tolist()}"


def compare(
    f: nn.Module,
    y0: Any,
    t: Tensor,
    tol: float,
    name: str = "odeint",
    theirs: dict[str, Any] | None = None,
    against_truth: bool = False,
    **keywords: Any,
) -> None:
    """Run both with the same keywords; `theirs` replaces some of them for the peer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, gradients = run(getattr(peer, name), f, y0, t, **(keywords | (theirs or {})))
        best = truth(f, y0, t, (keywords.get("options") or {}).get("jump_t")) if against_truth else None
    have, slopes = run(getattr(ode, name), f, y0, t, **keywords)
    agree(have, values, tol, "values", best and best[0])
    for i, (mine, other) in enumerate(zip(slopes, gradients, strict=True)):
        agree(mine, other, 10 * tol, f"gradient {i}", best and best[1][i])
