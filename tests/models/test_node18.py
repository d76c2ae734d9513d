"""NODE18 and its kin: sizes, gradients against autograd over the accepted grid, running statistics, swapped solvers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from variants import some

from physid.errors import InputError
from physid.models.node18 import ANODE18, NODE18, TRAINING, ResNet18, Strided
from physid.models.odeblock import ConvField, OdeBlock
from physid.ode.methods import catalogue

SMALL = {"width": 4}


def images(count: int = 6, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 10


def made(kind: Any = NODE18, **options: Any) -> NODE18:
    torch.manual_seed(0)
    net: NODE18 = kind(**{**SMALL, **options})
    return net


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("kind", [NODE18, ResNet18, ANODE18])
def test_parameters_are_those_of_the_paper(kind: Any) -> None:
    assert parameters(kind()) == 11_173_962


def test_parameters_of_a_hundred_classes() -> None:
    assert parameters(NODE18(100)) == 11_173_962 + 90 * 513


def stepped(field: nn.Module, x: Tensor, grid: Tensor, solver: str) -> Tensor:
    """The discrete map over given times, by nothing but the tableau."""
    tableau = catalogue.lookup(solver)
    for start, end in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        slopes: list[Tensor] = []
        for row in tableau.a:
            slopes.append(field(x + (end - start) * sum((a * k for a, k in zip(row, slopes, strict=True)), 0 * x)))
        x = x + (end - start) * sum((b * k for b, k in zip(tableau.b, slopes, strict=True)), 0 * x)
    return x


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("solver", ["heun_euler", "bosh3", "dopri5", "rk4"])
def test_gradient_of_a_block_is_that_of_the_accepted_grid(solver: str, channels_last: bool) -> None:
    torch.manual_seed(1)
    field = ConvField(4)
    block = OdeBlock(field, TRAINING, channels_last)
    block.integrator = NODE18(width=1).integrate(solver=solver, step=0.25 if solver == "rk4" else None).integrator
    x, seed = torch.randn(3, 4, 6, 6), torch.randn(3, 4, 6, 6)
    found, expected = [], []  # type: ignore[var-annotated]
    for results, solve in ((found, block), (expected, lambda x: stepped(field, x, block.grid, solver))):
        start = x.clone().requires_grad_()
        end = solve(start)
        results.append(end.detach())
        results.extend(torch.autograd.grad((end * seed).sum(), [start, *field.parameters()]))
    assert len(block.grid) > 3
    for one, other in zip(found, expected, strict=True):
        assert torch.linalg.norm(one - other) <= 1e-5 * torch.linalg.norm(other)


class Smooth(nn.Module):
    """A field without corners, through which every method's gradient comes close to the exact one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 2, 3, 1, 1), nn.Conv2d(2, 2, 3, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.conv2(torch.tanh(self.conv1(z)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("gradient", ["naive", "adjoint"])
def test_other_gradients_agree_at_a_tight_tolerance(gradient: str) -> None:
    torch.manual_seed(2)
    block = OdeBlock(Smooth(), TRAINING).double()
    x, seed = torch.randn(2, 2, 2, 4, 4, dtype=torch.float64)
    grads = {}
    for method in ("aca", gradient):
        block.integrator = replace(TRAINING, solver="dopri5", rtol=1e-6, atol=1e-6, gradient=method)
        start = x.clone().requires_grad_()
        found = torch.autograd.grad((block(start) * seed).sum(), [start, *block.parameters()])
        grads[method] = torch.cat([g.flatten() for g in found])
    assert torch.linalg.norm(grads["aca"] - grads[gradient]) <= 1e-4 * torch.linalg.norm(grads["aca"])


@pytest.mark.parametrize(("inputs", "width", "stride"), [(4, 8, 2), (3, 5, 3), (8, 16, 1)])
def test_the_shortcut_is_a_strided_convolution(inputs: int, width: int, stride: int) -> None:
    torch.manual_seed(3)
    plain, ours = nn.Conv2d(inputs, width, 1, stride, bias=False), Strided(inputs, width, stride)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(32, inputs, 9, 9, requires_grad=True)
    found = []
    for layer, layout in ((plain, torch.contiguous_format), (ours, torch.channels_last)):
        y = layer.to(memory_format=layout)(x.to(memory_format=layout))  # type: ignore[call-overload]
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, layer.weight))))
    for expected, got in zip(*found, strict=True):
        assert torch.allclose(got, expected, rtol=1e-5, atol=1e-4)


def test_resnet_is_one_euler_step() -> None:
    batch = images()
    nets = [made(ResNet18), made().integrate(solver="euler"), made().integrate(solver="euler", step=1.0)]
    assert nets[0].blocks[0].is_residual
    assert not nets[1].blocks[0].is_residual
    results = []
    for net in nets:
        loss = net.loss(batch)
        loss.backward()
        results.append((loss.detach(), torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])))
    for loss, grad in results[1:]:
        assert torch.allclose(loss, results[0][0], atol=1e-6)
        assert torch.linalg.norm(grad - results[0][1]) <= 1e-4 * torch.linalg.norm(grad)


def moved(net: NODE18, backward: bool) -> tuple[int, dict[str, int]]:
    """How often the batch norm of the first block moved, and the costs of one step."""
    loss = net.loss(images())
    if backward:
        loss.backward()
    costs = {"stages": 2 * (net.blocks[0].cost("accepted")), "all": net.blocks[0].cost("evaluations")}
    costs["replay"] = net.blocks[0].cost("backward_evaluations")
    return int(net.blocks[0].field.bn1.num_batches_tracked), costs  # type: ignore[arg-type, union-attr]


def test_running_statistics_move_once_for_every_stage_of_an_accepted_step() -> None:
    tight = {"rtol": 1e-3, "atol": 1e-3, "first_step": 0.9}  # of which the first attempt is rejected
    net = made().integrate(**tight)
    count, costs = moved(net, backward=True)
    assert net.blocks[0].cost("rejected") > 0
    assert count == costs["stages"]
    compat = made(paper_compat=True).integrate(**tight)
    count, costs = moved(compat, backward=True)
    assert count == costs["all"] + costs["replay"]
    assert costs["replay"] > 0
    assert costs["all"] > costs["stages"]


def test_evaluation_moves_nothing_and_any_solver_serves_after_training() -> None:
    net = made().eval()
    batch = images()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        exact = net.integrate(solver="dopri8", rtol=1e-6, atol=1e-6)(batch[0])
        for solver in ("heun_euler", "bosh3", "dopri5", "tsit5"):
            found = net.integrate(solver=solver, rtol=1e-5, atol=1e-5)(batch[0])
            assert torch.allclose(found, exact, atol=1e-3), solver
        errors = [
            float((net.integrate(solver=solver, step=step)(batch[0]) - exact).norm())
            for solver, step in (("euler", 0.5), ("euler", 0.1), ("rk4", 0.1))
        ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.costs()["evaluations"] == 4 * 10 * 4


def test_the_layout_in_memory_changes_nothing() -> None:
    batch = images()
    losses = [made(channels_last=last).loss(batch).item() for last in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("gradient", some(["aca", "naive", "adjoint"], "aca"))
def test_under_autocast_convolutions_are_in_bfloat16_and_states_are_not(gradient: str) -> None:
    seen: list[torch.dtype] = []
    net, plain = (made(width=8).integrate(gradient=gradient) for _ in range(2))
    block, batch = net.blocks[0], images(16, 16)
    block.field.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))  # type: ignore[union-attr]
    block.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net.loss(batch)
    count = len(seen)
    assert seen.count(torch.float32) == 1  # the state at the end of the block
    loss.backward()
    assert set(seen[count:]) <= {torch.bfloat16}
    assert (len(seen) > count) == (gradient != "naive")  # the backward pass replays, or solves anew
    plain.loss(batch).backward()
    found, expected = (
        torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None]) for one in (net, plain)
    )
    assert torch.linalg.norm(found - expected) < 0.3 * torch.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch.compile looks at its inputs
def test_a_compiled_field_gives_the_same_loss_and_gradient() -> None:
    batch = images()
    plain, compiled = made(), made()
    for block in compiled.blocks:
        block.compile(backend="aot_eager")
    losses = []
    for net in (plain, compiled):
        loss = net.loss(batch)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5)  # type: ignore[arg-type]
    moved = [net.blocks[0].field.bn1.num_batches_tracked for net in (plain, compiled)]  # type: ignore[union-attr]
    assert torch.equal(*moved)  # type: ignore[arg-type]
    assert list(plain.state_dict()) == list(compiled.state_dict())


def test_scores_are_sums() -> None:
    net = made().eval()
    batch = images()
    with torch.no_grad():
        scores, logits = net.scores(batch), net(batch[0])
    assert scores["count"] == 6
    assert scores["error"] == (logits.argmax(1) != batch[1]).sum()
    assert scores["loss"] / 6 == pytest.approx(net.loss(batch).item(), rel=1e-5)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"num_classes": 0}])
def test_sizes_below_one_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="from 1 up"):
        NODE18(**wrong)
    with pytest.raises(InputError, match="from 1 up"):
        ANODE18(steps=0)


def test_an_unknown_solver_is_told_its_neighbour() -> None:
    with pytest.raises(InputError, match="heun_euler"):
        made().integrate(solver="heun_eular")
