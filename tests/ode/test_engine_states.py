"""Modules with a memory, random numbers, samples with steps of their own, torch.func, second processes, memory."""

from __future__ import annotations

import gc
import resource
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from physid.errors import InputError
from physid.ode import METHODS, Fixed, Integrator, Solution, Status, gradcheck, odeint_adjoint, solve, toy

STEPS = 8


class Convolutional(nn.Module):
    """A field with batch norm, counted by its running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(y)))


@pytest.mark.parametrize(
    ("name", "gradient"),
    [
        *(("heun_euler", "aca"), ("bosh3", "naive"), ("bosh3", "adjoint"), ("dopri5", "aca")),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in [("heun_euler", "naive"), ("heun_euler", "adjoint")]),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in [("bosh3", "aca"), ("dopri5", "naive")]),
        pytest.param("dopri5", "adjoint", marks=pytest.mark.slow),
    ],
)
def test_forward_statistics_move_once_for_every_stage_of_an_accepted_step(name: str, gradient: str) -> None:
    torch.manual_seed(0)
    field, y0 = Convolutional(), torch.randn(4, 2, 5, 5)
    tolerance = 1e-5 if name == "dopri5" else 1e-3
    found = solve(
        field, y0, [0.0, 0.3, 1.0], solver=name, rtol=tolerance, atol=tolerance, gradient=gradient, first_step=0.9
    )
    tableau = METHODS[name]
    moved = int(field.norm.num_batches_tracked)  # type: ignore[arg-type]
    fresh = (
        found.statistics.accepted * (tableau.stages - 1) if tableau.fsal else found.statistics.accepted * tableau.stages
    )
    assert found.statistics.rejected > 0
    assert fresh <= moved <= fresh + 1
    mean = field.norm.running_mean.clone()  # type: ignore[union-attr]
    found.y.square().sum().backward()  # type: ignore[union-attr]
    assert int(field.norm.num_batches_tracked) == moved  # type: ignore[arg-type]
    assert torch.equal(field.norm.running_mean, mean)  # type: ignore[arg-type]
    assert field.conv.weight.grad is not None


def test_one_dropout_mask_for_a_whole_solve() -> None:
    field = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Tanh(), nn.Linear(64, 4)).double()
    seen: list[Tensor] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        hidden = field[1](torch.ones(64, dtype=torch.float64))
        seen.append(hidden)
        return torch.as_tensor(field(y))

    y0 = torch.ones(4, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    solution = solve(f, y0, [0.0, 1.0], rtol=1e-6, atol=1e-6)
    state = torch.get_rng_state()
    (slope,) = torch.autograd.grad(solution.y[-1].sum(), y0)
    assert torch.equal(torch.get_rng_state(), state), "the backward pass draws nothing that others would miss"
    assert all(torch.equal(mask, seen[0]) for mask in seen)
    torch.manual_seed(3)
    again = solve(f, y0, [0.0, 1.0], rtol=1e-6, atol=1e-6)
    assert torch.equal(again.y[-1], solution.y[-1])
    assert torch.equal(torch.autograd.grad(again.y[-1].sum(), y0)[0], slope)


def batch_field(k: Tensor) -> Any:
    def f(t: Tensor, y: Tensor) -> Tensor:
        x, v = y[..., 0], y[..., 1]
        return torch.stack([v, k * (1 - x**2) * v - x + torch.cos(t)], -1)

    return f


@pytest.mark.parametrize("name", [name for name, tableau in METHODS.items() if tableau.adaptive])
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str) -> None:
    k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([[2.0, 0.0], [0.1, -3.0], [1e-3, 1.0]], dtype=torch.float64, requires_grad=True)
    t = torch.stack([torch.linspace(0, end, 6, dtype=torch.float64) for end in (2.0, 3.0, 0.5)], 1)
    options: dict[str, Any] = {"solver": name, "rtol": 1e-5, "atol": 1e-5}
    together = solve(batch_field(k), y0, t, batched=True, **options)
    assert isinstance(together.y, Tensor)
    weights = torch.linspace(1, 2, together.y.numel(), dtype=torch.float64).view(together.y.shape)
    found = torch.autograd.grad((together.y * weights).sum(), [y0, k])
    total = torch.zeros_like(k)
    for sample in range(3):
        alone = solve(batch_field(k), y0[sample], t[:, sample], **options)
        assert isinstance(alone.y, Tensor)
        assert float((alone.y - together.y[:, sample]).detach().abs().max()) < 1e-13
        assert isinstance(together.grid, list)
        assert torch.equal(together.grid[sample], torch.as_tensor(alone.grid))
        slopes = torch.autograd.grad((alone.y * weights[:, sample]).sum(), [y0, k])
        assert float((slopes[0][sample] - found[0][sample]).abs().max()) <= 1e-12 * float(found[0].abs().max())
        total = total + slopes[1]
    assert float((total - found[1]).detach().abs()) <= 1e-12 * float(found[1].abs())


def test_a_failing_sample_leaves_its_neighbours_alone_and_says_so() -> None:
    y0 = torch.tensor([[0.5], [3.0], [-1.0]], dtype=torch.float64, requires_grad=True)
    found = solve(lambda t, y: y**2, y0, [0.0, 0.4, 1.0], rtol=1e-8, atol=1e-8, batched=True, throw=False)
    assert isinstance(found.y, Tensor)
    assert found.statuses == [Status.SUCCESS, Status.BLOW_UP, Status.SUCCESS]
    assert "1 of 3 samples failed, first sample 1" in found.message
    truth = (y0 / (1 - y0)).detach()
    assert found.y[-1, [0, 2]].tolist() == [pytest.approx(truth[i].tolist(), rel=1e-6) for i in (0, 2)]
    assert bool(torch.isnan(found.y[1:, 1]).all())
    slopes = torch.autograd.grad(found.y[-1, [0, 2]].sum(), y0)[0]
    assert slopes[[0, 2], 0].tolist() == pytest.approx([(1 - 0.5) ** -2, (1 + 1.0) ** -2], rel=1e-6)
    assert float(slopes[1]) == 0.0


def test_batch_norm_in_training_and_steps_of_their_own_exclude_each_other() -> None:
    with pytest.raises(InputError, match=r"mixes the samples"):
        solve(Convolutional(), torch.randn(4, 2, 5, 5), [0.0, 1.0], batched=True)
    assert solve(Convolutional().eval(), torch.randn(2, 2, 5, 5), [0.0, 1.0], batched=True).ok


@given(seed=st.integers(0, 10_000), lanes=st.integers(1, 5))
def test_lanes_are_permuted_with_their_samples(seed: int, lanes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    y0 = torch.randn(lanes, 2, generator=generator, dtype=torch.float64)
    order = torch.randperm(lanes, generator=generator)
    k = torch.tensor(0.7, dtype=torch.float64)
    plain, mixed = (solve(batch_field(k), y, [0.0, 1.5], rtol=1e-4, atol=1e-4, batched=True).y for y in (y0, y0[order]))
    assert torch.allclose(plain[:, order], mixed, rtol=1e-13, atol=1e-13)  # type: ignore[arg-type, call-overload]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, at the first torch.func call
@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_torch_func_sees_the_discrete_map(engine: str) -> None:
    y0 = torch.tensor([0.4, 1.0], dtype=torch.float64)

    def last(y: Tensor) -> Any:
        return solve(lambda t, y: torch.stack([y[1], -torch.sin(y[0])]), y, [0.0, 2.0], rtol=1e-8, engine=engine).y[-1]

    tangent = torch.tensor([1.0, -2.0], dtype=torch.float64)
    moved = torch.func.jvp(last, (y0,), (tangent,))[1]
    jacobian = torch.autograd.functional.jacobian(last, y0)
    assert torch.allclose(moved, jacobian @ tangent, rtol=1e-11)
    with torch.autograd.forward_ad.dual_level():
        dual = last(torch.autograd.forward_ad.make_dual(y0, tangent))
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(dual).tangent, moved)
    batch = torch.stack([y0, 2 * y0])
    assert torch.allclose(torch.func.vmap(last)(batch), torch.stack([last(y) for y in batch]), rtol=1e-12)
    assert torch.allclose(torch.func.jacrev(last)(y0), jacobian, rtol=1e-11)


def test_checkpoints_take_the_state_and_little_more_for_every_step() -> None:
    size = 500
    rate = torch.full((size,), -0.5, dtype=torch.float64, requires_grad=True)
    for steps in (100, 1000, 10_000):
        with torch.no_grad():
            y0 = torch.ones(size, dtype=torch.float64)
        found = solve(
            lambda t, y: rate * y, y0, [0.0, 1.0], solver="euler", control=Fixed(1.0 / steps), max_steps=20_000
        )
        assert found.statistics.accepted == steps
        assert found.statistics.checkpoint_bytes / steps <= 1.2 * 8 * size + 64
        found.y[-1].sum().backward()
        exact = (1 - 0.5 / steps) ** (steps - 1)
        assert float(rate.grad[0]) == pytest.approx(exact, rel=1e-9)  # type: ignore[index]
        rate.grad = None


def test_solves_leak_nothing() -> None:
    k = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    y0 = torch.ones(1000, dtype=torch.float64)

    def once() -> None:
        found = solve(lambda t, y: -k * y, y0, [0.0, 1.0], rtol=1e-4, atol=1e-4)
        torch.autograd.grad(found.y[-1].sum(), k)

    for _ in range(20):
        once()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
    for _ in range(150):  # each would leave some 50 kB
        once()
    gc.collect()
    assert sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()) <= tensors + 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


WORKER = """
import sys, torch
import torch.distributed as dist
from physid.ode import odeint
OPTIONS = {"step_size": 0.25}
rank, port = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{port}", rank=rank, world_size=2)
torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.f = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    def forward(self, y):
        return odeint(lambda t, y: self.f(y), y, torch.tensor([0.0, 1.0]), method="rk4", options=OPTIONS)[-1]
net = Net()
x = torch.arange(12, dtype=torch.float64).view(4, 3) / 10
whole = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
shared = torch.nn.parallel.DistributedDataParallel(net)
shared(x[2 * rank : 2 * rank + 2]).square().mean().backward()
for parameter, wanted in zip(net.parameters(), whole):
    assert torch.allclose(parameter.grad, wanted, rtol=1e-12, atol=1e-14), (parameter.grad, wanted)
dist.destroy_process_group()
print("same")
"""


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path: Path, python: str) -> None:
    command = [python, "-W", "ignore", "-c", WORKER]
    two = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    for process in two:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert "same" in out


def test_gradcheck_compares_every_method_and_says_what_limits() -> None:
    k = torch.tensor([0.8, 0.3], dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([1.0, 0.2], dtype=torch.float64, requires_grad=True)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -torch.sin(k[0] * y[0]) - k[1] * y[1]])

    audit = gradcheck(f, y0, [0.0, 2.0, 5.0], params=[k], integrator=Integrator("dopri5", 1e-8, 1e-8))
    assert audit.ok
    assert audit.verdict.startswith("Good")
    assert {"aca", "naive", "adjoint", "forward", "finite differences"} <= {row.method for row in audit.rows}
    assert all(row.difference < 1e-4 for row in audit.rows)
    assert all(row.evaluations > 0 for row in audit.rows)
    loose = gradcheck(f, y0, [0.0, 10.0], params=[k], integrator=Integrator("dopri5", 1e-2, 1e-2))
    assert "tolerance limits the gradient" in loose.verdict

    def hides(t: Tensor, y: Tensor) -> Tensor:
        return -float(k[0].detach()) * y + 0 * k.sum()

    wrong = gradcheck(hides, y0, [0.0, 1.0], params=[k])
    assert not wrong.ok
    assert "detach" in wrong.verdict


def test_the_toy_problem_shows_where_the_adjoint_fails() -> None:
    rows = {(row.k, row.horizon): row.errors for row in toy()}
    assert all(error < 1e-4 for error in rows[1.0, 10.0].values())
    decaying = rows[-1.0, 10.0]
    assert decaying["adjoint"] > 1.0 > 0.2 > decaying["aca"]
    assert decaying["aca"] == pytest.approx(decaying["forward"], rel=1e-6)


def test_adjoint_through_a_module_with_frozen_parameters() -> None:
    net = nn.Linear(2, 2).double()
    net.bias.requires_grad_(False)

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return torch.tanh(self.net(y))

    y = odeint_adjoint(Field(), torch.ones(2, dtype=torch.float64), torch.tensor([0.0, 1.0]), rtol=1e-8, atol=1e-8)
    y[-1].sum().backward()
    assert net.weight.grad is not None
    assert net.bias.grad is None
    assert isinstance(solve(Field(), torch.ones(2, dtype=torch.float64), [0.0, 1.0]), Solution)


@pytest.mark.parametrize("y0", [[1.0, 2.0], np.ones(2), 3.0, (), ([1.0],)], ids=str)
def test_a_state_that_is_no_tensor_is_refused(y0: Any) -> None:
    with pytest.raises(
        InputError, match=r"y0 is (list|ndarray|float|an empty tuple): expected a tensor, or a tuple of tensors"
    ):
        solve(lambda t, y: y, y0, [0.0, 1.0])
