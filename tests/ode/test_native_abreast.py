"""Samples side by side in the lanes of vectors: each has the steps, states and gradients that it has alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_native_batches import Field, batch, oscillators
from torch import Tensor
from variants import some

from physid.machine import compiler_command
from physid.ode import ACA, METHODS, Fixed, Solution, Status, solve

pytestmark = [pytest.mark.skipif(compiler_command() is None, reason="no C compiler"), pytest.mark.optimised]

COUNT = 19  # more than two vectors, and no whole number of them
TIMES = torch.tensor([0.0, 0.11, 0.11, 0.4, 0.62, 0.63, 0.9, 1.3], dtype=torch.float64)


def spread(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Times [T, B], each sample's its own."""
    return (TIMES[:, None] * torch.linspace(0.6, 1.4, count, dtype=torch.float64)).to(dtype)


def loss(y: Tensor) -> Tensor:
    """A number that tells all entries [T, B, N] apart."""
    weight = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view(y.transpose(0, 1).shape).transpose(0, 1)
    return (weight * y.sin()).sum()


def switched(field: Field, switches: Sequence[float]) -> Field:
    """f that is solved as if it jumped at these times."""
    if switches:
        field.switches = torch.tensor(switches, dtype=torch.float64)  # type: ignore[attr-defined]
    return field


def together_and_alone(
    t: Tensor, dtype: torch.dtype = torch.float64, switches: Sequence[float] = (), **options: Any
) -> list[list[Any]]:
    """Statistics (evaluations, accepted, rejected), states and gradients: of a batch, and of its samples one by one."""
    found = []
    for alone in (False, True):
        damping, scale, y0 = (x.detach().to(dtype).requires_grad_() for x in batch(COUNT))
        t = t.detach().requires_grad_(t.requires_grad)
        parts = [slice(i, i + 1) for i in range(COUNT)] if alone else [slice(0, COUNT)]
        solved = [
            solve(
                switched(oscillators(damping[part].clone(), scale), switches),
                y0[part],
                t[:, part].squeeze(1) if alone else t,
                batched=not alone,
                engine="native",
                **options,
            )
            for part in parts
        ]
        y = torch.cat([one.y for one in solved], 1)  # type: ignore[misc]
        inputs = [damping, scale, y0] + [t] * t.requires_grad
        sums = [
            sum(getattr(one.statistics, name) for one in solved) for name in ("evaluations", "accepted", "rejected")
        ]
        found.append([sums, y.detach(), *torch.autograd.grad(loss(y), inputs)])
    return found


def assert_same(found: list[list[Any]], tol: float) -> None:
    (counts, *values), (expected, *others) = found
    assert counts == expected
    assert torch.equal(values[0], others[0]), "states are the same to the last bit"
    for ours, theirs in zip(values, others, strict=True):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < tol


@pytest.mark.parametrize("solver", some(METHODS, "euler", "rk4", "bosh3", "dopri5", "dopri8"))
def test_on_a_given_grid(solver: str) -> None:
    assert_same(together_and_alone(spread(COUNT), solver=solver, control=Fixed(0.07)), 1e-12)


OPTIONS: dict[str, dict[str, Any]] = {
    "heun_euler": {"solver": "heun_euler", "rtol": 1e-3},
    "bosh3": {"solver": "bosh3", "rtol": 1e-5, "control": "pid"},
    "dopri5": {"rtol": 1e-6},
    "dopri8": {"solver": "dopri8", "rtol": 1e-9, "atol": 1e-9},
    "exact": {"exact": True, "rtol": 1e-6},
    "jumps": {"switches": [0.35, 0.6], "rtol": 1e-6},
    "first step": {"first_step": 0.3, "max_step": 0.3},
    "tolerances": {"rtol": torch.tensor([1e-4, 1e-7], dtype=torch.float64), "atol": 1e-8},
    "checkpoints": {"checkpoints": 2},
    "step aware": {"gradient": ACA(step_aware=True), "rtol": 1e-4, "first_step": 1e-3, "max_step": 0.02},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_with_steps_of_their_own(name: str) -> None:
    assert_same(together_and_alone(spread(COUNT), **OPTIONS[name]), 1e-11)


def test_gradients_by_the_times() -> None:
    assert_same(together_and_alone(spread(COUNT).requires_grad_(), rtol=1e-6), 1e-11)


def test_backwards_in_time() -> None:
    assert_same(together_and_alone((0.2 * spread(COUNT)).flip(0), rtol=1e-6), 1e-11)


@pytest.mark.optimised(False)
def test_in_single_precision() -> None:
    options: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3, "control": Fixed(0.05)}
    assert_same(together_and_alone(spread(COUNT, torch.float32), torch.float32, **options), 2e-5)


def bursting() -> Field:
    """y' = y^2, which ends at t = 1 / y0, with what a vector takes apart number by number."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(y > 0, y * y, torch.maximum(y, -y) * y.abs() + 0 * torch.atan2(y, y + 3))

    return field


def test_failing_samples_make_room_for_the_next() -> None:
    y0 = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None].clone().requires_grad_()
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    solution: Solution = solve(bursting(), y0, t, batched=True, engine="native", throw=False, rtol=1e-8, atol=1e-10)
    start, fine = y0.detach()[:, 0], y0.detach()[:, 0] < 0.5
    assert [status is Status.SUCCESS for status in solution.statuses] == fine.tolist()
    assert set(solution.statuses) == {Status.SUCCESS, Status.BLOW_UP}
    assert isinstance(solution.y, Tensor)
    exact = start / (1 - start * t[:, None])
    assert torch.allclose(solution.y[:, fine, 0].detach(), exact[:, fine], rtol=1e-6)
    (by_start,) = torch.autograd.grad(solution.y[-1, fine].sum(), y0)
    assert torch.allclose(by_start[fine, 0], 1 / (1 - 2 * start[fine]) ** 2, rtol=1e-5)
    assert float(by_start[~fine].abs().max()) == 0


def test_steps_run_out_where_they_do_alone() -> None:
    damping, scale, y0 = batch(COUNT)
    t = [0.0, 5.0]
    options: dict[str, Any] = {"rtol": 1e-6, "max_steps": 40, "throw": False, "engine": "native"}
    together = solve(oscillators(damping, scale), y0, t, batched=True, **options)
    alone = [solve(oscillators(damping[i : i + 1], scale), y0[i : i + 1], t, **options) for i in range(COUNT)]
    assert [one.status for one in alone] == together.statuses
    assert {Status.SUCCESS, Status.MAX_STEPS} == set(together.statuses)
