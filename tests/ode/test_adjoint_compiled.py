"""The continuous adjoint with compiled reverse solves gives what it gives by torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from variants import some

from physid.datasets import load
from physid.models import build
from physid.ode import Adjoint, Integrator
from physid.ode.gradients.adjoint_field import augmented


class Net(nn.Module):
    """A small network with a parameter that does nothing and time in its field."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer = nn.Linear(3, 5, dtype=torch.float64), nn.Linear(5, 3, dtype=torch.float64)
        self.idle = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.outer(torch.tanh(self.inner(y) + t)) - 0.1 * y
        return found


def gradients(
    f: nn.Module, y0: Tensor, t: Tensor, gradient: Adjoint | str, engine: str
) -> tuple[list[Tensor], str, int]:
    start = y0.clone().requires_grad_()
    solution = Integrator("dopri5", 1e-6, 1e-8, gradient=gradient, engine=engine).solve(f, start, t)
    wanted = [start, *f.parameters()]
    found = torch.autograd.grad(torch.as_tensor(solution.y).square().sum(), wanted, allow_unused=True)
    zeros = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)]
    return zeros, solution.engine, solution.statistics.backward_evaluations


@pytest.mark.parametrize("name", some(["network", "gravity"], "network"))
def test_same_gradients_and_evaluations(name: str) -> None:
    if name == "network":
        f: nn.Module = Net()
        y0, t = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64), torch.linspace(0, 3, 7)
    else:
        experiment = load("threebody")
        f, y0, t = build(experiment, "full"), experiment.initial, torch.linspace(0, 0.5, 5)
    ours, ran, count = gradients(f, y0, t, "adjoint", "auto")
    theirs, other, expected = gradients(f, y0, t, "adjoint", "eager")
    assert (ran, other) == ("native", "eager")
    assert count == expected > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))
    reference, *_ = gradients(f, y0, t, "aca", "eager")
    for a, b in zip(ours, reference, strict=True):  # another gradient, that of the discrete map
        assert torch.allclose(a, b, rtol=0.0, atol=1e-2 * float(b.abs().max()))


def test_what_is_not_compiled_still_runs() -> None:
    y0, t = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64), torch.linspace(0, 1, 3)
    seminorm, *_ = gradients(Net(), y0, t, Adjoint(seminorm=True), "auto")
    exact, *_ = gradients(Net(), y0, t, "adjoint", "eager")
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(seminorm, exact, strict=True))
    rate = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)
    solution = Integrator(gradient="adjoint").solve(lambda t, y: rate * y, y0, [0.0, 1.0])
    (slope,) = torch.autograd.grad(torch.as_tensor(solution.y)[-1].sum(), rate)
    assert float(slope) == pytest.approx(float((y0 * torch.exp(torch.tensor(-0.5))).sum()), rel=1e-5)


def test_only_modules_that_hold_their_parameters() -> None:
    y0, t = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64), torch.linspace(0, 1, 3)
    f = Net()
    assert augmented(Integrator().pose(f, y0, t, None, False), list(f.parameters())) is not None
    assert augmented(Integrator().pose(f, y0, t, None, False), [torch.zeros(1)]) is None
    assert augmented(Integrator().pose(lambda t, y: -y, y0, t, None, False), []) is None
    assert augmented(Integrator().pose(f, y0[None], t, None, True), list(f.parameters())) is None
