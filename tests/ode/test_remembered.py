"""Graphs of accepted steps, kept while they fit: the same gradient without a second evaluation of f."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from physid.ode import ACA, solve
from physid.ode.eager import remembered

WIDTH = 100


def network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(WIDTH, 40), nn.Tanh(), nn.Linear(40, WIDTH)).double()


def start() -> Tensor:
    return torch.linspace(-1, 1, WIDTH, dtype=torch.float64).requires_grad_()


def gradient(net: nn.Module, remember: bool | None, passes: int = 1) -> tuple[list[Tensor], int, int]:
    """Cotangents of y0 and the weights, accepted steps, and evaluations of the backward pass."""
    y0, calls = start(), []

    def f(t: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        return net(y)  # type: ignore[no-any-return]

    solution = solve(f, y0, [0.0, 1.0, 3.0], gradient=ACA(remember=remember), engine="eager")
    forward, value = len(calls), torch.as_tensor(solution.y).square().sum()
    for _ in range(passes):
        grads = torch.autograd.grad(value, [y0, *net.parameters()], retain_graph=True)
    assert solution.statistics.backward_evaluations == len(calls) - forward
    return list(grads), solution.statistics.accepted, len(calls) - forward


def test_nothing_but_the_first_stage_is_evaluated_again() -> None:
    net = network()
    plain, steps, evaluations = gradient(net, False)
    kept, _, again = gradient(net, None)
    assert again == 1
    assert evaluations == 6 * steps + 1 > 60
    assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))


def test_a_second_backward_pass_finds_the_graphs() -> None:
    net = network()
    assert all(torch.equal(a, b) for a, b in zip(gradient(net, None, 2)[0], gradient(net, False)[0], strict=True))


@pytest.mark.parametrize("fits", [0, 1, 5])
def test_what_does_not_fit_is_evaluated_again(monkeypatch: pytest.MonkeyPatch, fits: int) -> None:
    """Of every evaluation the input, the output of tanh, and the state and derivative themselves are kept."""
    net = network()
    plain, _, evaluations = gradient(net, False)
    monkeypatch.setattr(remembered, "ROOM", fits * 6 * 8 * (40 + 3 * WIDTH))
    monkeypatch.setattr("physid.ode.eager.engine.ROOM", remembered.ROOM)
    found, _, again = gradient(net, None)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    assert again == evaluations - 6 * fits + (fits > 0)
    assert gradient(net, True)[2] == 1


@pytest.mark.parametrize(("states", "hidden", "pays"), [(4, 4, True), (20, 4, True), (60, 300, False)])
def test_jacobians_are_for_cheap_fields(states: int, hidden: int, pays: bool) -> None:
    """The pullback of many steps at once costs a pass over what f saves for every component of the state."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(states, hidden), nn.Tanh(), nn.Linear(hidden, states)).double()
    solution = solve(lambda t, y: net(y), torch.ones(states).double(), [0.0, 1.0], engine="eager")
    torch.as_tensor(solution.y).sum().backward()
    products = solution.statistics.backward_vjps
    assert (products == 7 * solution.statistics.accepted) == pays


@pytest.mark.parametrize("hidden", [4, 3000])
def test_samples_with_steps_of_their_own(hidden: int) -> None:
    """One evaluation tells which pullback pays; both give the gradient of each sample alone."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2)).double()
    states = torch.tensor([[1.0, 0.2], [-0.3, 2.0], [0.1, 0.4]], dtype=torch.float64)
    found = []
    for rows in (states, states[1:2]):
        y0 = rows.clone().requires_grad_()
        y = solve(lambda t, y: net(y), y0, [0.0, 1.0], engine="eager", batched=True).y
        found.append(torch.autograd.grad(torch.as_tensor(y).square().sum(), y0)[0])
    torch.testing.assert_close(found[0][1:2], found[1], rtol=0, atol=1e-13)
