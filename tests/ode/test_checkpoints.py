"""A bounded number of states in memory: the same gradient, the least number of steps taken again."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from variants import some

from physid import ode
from physid.errors import InputError
from physid.ode import ACA
from physid.ode.eager.revolve import Shelf, advances

DOUBLE = torch.float64
ENGINES = ("eager", "native")


class Spring(nn.Module):
    """A damped Duffing spring that is driven."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor([1.3, 0.4, 0.1], dtype=DOUBLE))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y[..., 0], y[..., 1]
        force = torch.cos(2 * t) - self.k[0] * x - self.k[1] * x**3 - self.k[2] * v
        return torch.stack([v, force], -1)


class Jumping(Spring):
    """The same with times at which steps must land."""

    switches = torch.tensor([0.5, 1.7], dtype=DOUBLE)


@cache
def least(steps: int, slots: int) -> int:
    """The fewest steps taken forward, by trying every place for the next state."""
    if steps == 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    return min(m + least(steps - m, slots - 1) + least(m, slots) for m in range(1, steps))


def solved(
    engine: str, checkpoints: int | None, f: nn.Module | None = None, **options: Any
) -> tuple[Any, list[Tensor]]:
    """A solve and the gradient of its squares by y0, parameters and times."""
    torch.manual_seed(0)
    f = Spring() if f is None else f
    y0 = options.pop("y0", torch.tensor([1.0, 0.2], dtype=DOUBLE)).clone().requires_grad_()
    t = torch.linspace(0, 4, 23, dtype=DOUBLE).requires_grad_()
    settings: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5, "engine": engine, "checkpoints": checkpoints}
    solution = ode.solve(f, y0, t, **(settings | options))
    grads = torch.autograd.grad((solution.y**2 * torch.arange(1.0, 24).view(-1, *[1] * y0.ndim)).sum(), [y0, t, f.k])  # type: ignore[operator]
    return solution, list(grads)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("solver", "checkpoints"),
    some(
        product(["dopri5", "dopri8", "rk4"], [1, 5, 10_000]),
        *(("dopri5", 1), ("dopri8", 5), ("rk4", 5), ("dopri5", 10_000)),
    ),
)
def test_the_gradient_is_that_of_all_checkpoints(engine: str, solver: str, checkpoints: int) -> None:
    solution, ours = solved(engine, checkpoints, solver=solver)
    _, plain = solved(engine, None, solver=solver)
    assert solution.engine == engine
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12 * float(b.abs().max()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("checkpoints", [2, 4])
def test_samples_of_their_own_steps(engine: str, checkpoints: int) -> None:
    y0 = torch.tensor([[1.0, 0.2], [3.0, -2.0], [0.1, 0.0]], dtype=DOUBLE)
    options: dict[str, Any] = {"batched": True, "y0": y0, "rtol": 1e-4, "atol": 1e-4}
    for a, b in zip(solved(engine, checkpoints, **options)[1], solved(engine, None, **options)[1], strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-12 * float(b.abs().max()))


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_that_land_on_jumps_are_rebuilt(engine: str) -> None:
    ours, plain = solved(engine, 3, Jumping())[1], solved(engine, None, Jumping())[1]
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12 * float(b.abs().max()))


@pytest.mark.parametrize("slots", range(1, 7))
def test_the_schedule_takes_the_fewest_steps(slots: int) -> None:
    taken = [0]

    def advance(y: Tensor, first: int, last: int) -> Tensor:
        taken[0] += last - first
        return y + (last - first)

    for steps in range(1, 40):
        taken[0], shelf = 0, Shelf(slots, advance, [(0, torch.zeros(()))])
        for w in range(steps - 1, -1, -1):
            assert float(shelf.state(w)) == w
            assert len(shelf.held) <= slots
        assert taken[0] == advances(steps, slots) == least(steps, slots)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("checkpoints", some([1, 3, 60], 3))
def test_evaluations_and_memory_are_bounded(engine: str, checkpoints: int) -> None:
    steps = 64
    f, y0 = Spring(), torch.randn(8, 2, dtype=DOUBLE)
    t = torch.linspace(0, 4, steps + 1, dtype=DOUBLE)
    solution = ode.solve(f, y0, t, solver="euler", engine=engine, checkpoints=checkpoints)
    torch.autograd.grad(solution.y.square().sum(), list(f.parameters()))  # type: ignore[union-attr]
    found = solution.statistics
    assert found.accepted == steps
    assert found.backward_evaluations == advances(steps, checkpoints) + steps
    assert found.checkpoint_bytes <= checkpoints * y0.numel() * 8 + 100 * steps + 1024
    adaptive = ode.solve(f, y0, t[[0, -1]], rtol=1e-6, atol=1e-6, engine=engine, checkpoints=checkpoints)
    torch.autograd.grad(adaptive.y.square().sum(), list(f.parameters()))  # type: ignore[union-attr]
    count = adaptive.statistics.accepted
    assert adaptive.statistics.backward_evaluations <= 7 * (advances(count, checkpoints) + count)


@pytest.mark.parametrize("engine", ENGINES)
def test_second_derivatives_with_few_checkpoints(engine: str) -> None:
    found = []
    for checkpoints in (None, 2):
        f, y0 = Spring(), torch.tensor([1.0, 0.2], dtype=DOUBLE)
        y = ode.solve(f, y0, [0.0, 2.0], engine=engine, checkpoints=checkpoints).y
        (slope,) = torch.autograd.grad(y[-1, 0], [f.k], create_graph=True)  # type: ignore[call-overload]
        found.append(torch.autograd.grad(slope[0], [f.k])[0])
    assert torch.allclose(found[0], found[1], rtol=1e-13)


def test_odeint_and_the_integrator_take_the_budget() -> None:
    f, y0, t = Spring(), torch.tensor([1.0, 0.2], dtype=DOUBLE), torch.tensor([0.0, 3.0], dtype=DOUBLE)
    grads = []
    for y in (
        ode.odeint(f, y0, t, options={"checkpoints": 2}),
        ode.odeint(f, y0, t),
        ode.Integrator(control=ode.PID(), checkpoints=2).solve(f, y0, t).y,
        ode.Integrator(control=ode.PID(), gradient=ACA(checkpoints=3)).solve(f, y0, t).y,
    ):
        grads.append(torch.autograd.grad(y.sum(), [f.k])[0])  # type: ignore[union-attr]
    assert all(torch.allclose(grad, grads[1], rtol=1e-12) for grad in grads)


@pytest.mark.parametrize("value", [0, -3, 2.5, True, "all"])
def test_a_budget_that_cannot_be_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="a whole number from 1 on"):
        ode.solve(Spring(), torch.ones(2, dtype=DOUBLE), [0.0, 1.0], checkpoints=value)


def test_only_aca_has_checkpoints() -> None:
    for gradient in ("naive", "adjoint", "forward"):
        with pytest.raises(InputError, match="use gradient='aca'"):
            ode.solve(Spring(), torch.ones(2, dtype=DOUBLE), [0.0, 1.0], checkpoints=3, gradient=gradient)
    with pytest.raises(InputError, match="use gradient='aca'"):
        ode.odeint_adjoint(Spring(), torch.ones(2, dtype=DOUBLE), [0.0, 1.0], options={"checkpoints": 3})
    with pytest.raises(InputError, match="step_aware"):
        ACA(step_aware=True, checkpoints=3)
