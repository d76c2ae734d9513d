"""The sum of squares with its gradient: fused in the native engine, composed elsewhere."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from variants import some

from physid.errors import InputError
from physid.ode import ACA, Integrator, SolveError, misfit, solve

DOUBLE = torch.float64
T = torch.linspace(0, 2, 11, dtype=DOUBLE)


class Spiral(nn.Module):
    """A network as a right-hand side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2)).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y) * torch.cos(t).unsqueeze(-1)  # type: ignore[no-any-return]


def expected(f: Any, y0: Tensor, target: Tensor, weight: Tensor | None, leaves: list[Tensor], **options: Any) -> Any:
    y = solve(f, y0, T, rtol=1e-7, atol=1e-9, engine="eager", **options).y
    assert isinstance(y, Tensor)
    total = ((y - target) ** 2 * (1 if weight is None else weight)).sum()
    return total, torch.autograd.grad(total, leaves)


@pytest.mark.parametrize(
    ("engine", "batched", "weighted"),
    some(
        product(["native", "eager"], [False, True], [False, True]),
        *(("native", False, True), ("native", True, False), ("eager", True, True)),
    ),
)
def test_it_is_the_sum_and_its_gradient(engine: str, batched: bool, weighted: bool) -> None:
    f, shape = Spiral(), (3, 2) if batched else (2,)
    y0 = torch.randn(shape, dtype=DOUBLE, requires_grad=True)
    target = torch.randn(len(T), *shape, dtype=DOUBLE)
    weight = torch.rand(len(T), *[1] * len(shape), dtype=DOUBLE) if weighted else None
    leaves = [y0, *f.parameters()]
    integrator = Integrator(rtol=1e-7, atol=1e-9, engine=engine)
    for _ in range(2):  # the second time f is known
        total = misfit(f, y0, T, target, weight, integrator=integrator, batched=batched)
        value, slopes = expected(f, y0, target, weight, leaves, batched=batched)
        assert torch.allclose(total, value, rtol=1e-10)
        for a, b in zip(torch.autograd.grad(3 * total, leaves), slopes, strict=True):
            assert torch.allclose(a, 3 * b, rtol=1e-8, atol=1e-8)


def test_a_parameter_per_sample() -> None:
    rate, y0 = torch.tensor([0.5, 1.0, 2.0], dtype=DOUBLE, requires_grad=True), torch.ones(3, 1, dtype=DOUBLE)
    total = misfit(lambda t, y: -rate[:, None] * y, y0, T, torch.zeros(()), batched=True)
    (slope,) = torch.autograd.grad(total, [rate])
    assert torch.allclose(slope, -2 * (T[:, None] * torch.exp(-2 * T[:, None] * rate.detach())).sum(0), rtol=1e-6)


def test_what_is_not_fused_is_composed() -> None:
    f, y0, target = Spiral(), torch.ones(2, dtype=DOUBLE, requires_grad=True), torch.zeros(2, dtype=DOUBLE)
    total = misfit(f, y0, T, target)
    assert total.grad_fn is not None
    (plain,) = torch.autograd.grad(total, [y0])
    for gradient in (ACA(checkpoints=2), "naive", "forward"):
        found = torch.autograd.grad(misfit(f, y0, T, target, integrator=Integrator(gradient=gradient)), [y0])[0]
        assert torch.allclose(found, plain, rtol=1e-6)
    times = T.clone().requires_grad_()
    assert torch.autograd.grad(misfit(f, y0, times, target), [times])[0].abs().sum() > 0
    with torch.no_grad():
        assert not misfit(f, y0, T, target).requires_grad


def test_failures_are_those_of_a_solve() -> None:
    rate = torch.ones((), dtype=DOUBLE, requires_grad=True)
    y0 = torch.ones(1, dtype=DOUBLE)
    with pytest.raises(SolveError):
        misfit(lambda t, y: rate * y * y, y0, T, torch.zeros(1, dtype=DOUBLE))
    with pytest.raises(InputError, match=r"target has shape \(3,\)"):
        misfit(lambda t, y: -rate * y, torch.ones(2, dtype=DOUBLE), T, torch.zeros(3, dtype=DOUBLE))
    with pytest.raises(InputError, match="one state tensor"):
        misfit(lambda t, y: y, (y0, y0), T, y0)  # type: ignore[arg-type]
    total = misfit(lambda t, y: -rate * y, y0, T, torch.zeros(()))
    with pytest.raises(InputError, match="engine='eager'"):
        torch.autograd.grad(total, [rate], create_graph=True)


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_a_gap_in_the_target_is_refused_and_not_taken_for_a_loss(engine: str) -> None:
    y0 = torch.ones(2, dtype=torch.float64, requires_grad=True)
    target = torch.zeros(3, 2, dtype=torch.float64)
    target[1, 0] = math.nan
    weight = torch.ones_like(target)
    weight[1, 0] = 0.0
    with pytest.raises(InputError, match="target is not a number at 1 of 6 places"):
        misfit(lambda t, y: -y, y0, [0.0, 0.5, 1.0], target, weight, integrator=Integrator(engine=engine))
