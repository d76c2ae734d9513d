"""The native engine's front: the right-hand sides that become C agree with torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from native_tools import DOUBLE, TIME, Y0, assert_abreast, assert_agree, kernel_of, native, problem
from torch import Tensor, nn

from physid.modelling.model import Model
from physid.models.classics import Exponential, LotkaVolterra, Pendulum, VanDerPol
from physid.models.gravity import NewtonGravity, PlanetaryGravity
from physid.ode.native.compiler.library import unit_of


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compiled code of these tests goes to a folder of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHYSID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# --- what agrees


class Network(nn.Module):
    """Accelerations of three bodies from features of their state."""

    def __init__(self, hidden: int, dtype: torch.dtype = DOUBLE) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(36, hidden), nn.Tanh(), nn.Linear(hidden, 9)] if hidden else [nn.Linear(36, 9)]
        self.net = nn.Sequential(*layers).to(dtype)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        r, v = y.unflatten(-1, (2, 3, 3)).unbind(-3)
        d = r[..., [1, 2, 2], :] - r[..., [0, 0, 1], :]
        pull = d / d.norm(dim=-1, keepdim=True) ** 3
        features = torch.cat([part.flatten(-2) for part in (r, v, d, pull)], -1)
        return torch.cat([y[..., 9:], self.net(features)], -1)


SMALL: dict[str, Callable[[], Model]] = {
    "exponential": lambda: Exponential(k=-0.5),
    "vanderpol": VanDerPol,
    "lotkavolterra": LotkaVolterra,
    "pendulum": Pendulum,
    "gravity": NewtonGravity,
    "gravity with units": lambda: NewtonGravity(coupling=0.2, velocity_scale=7.2, mass=[1.0, 2.0, 3.0, 4.0]),
    "planets": lambda: PlanetaryGravity(gm=[0.3, 0.0, 0.1]),
}


@pytest.mark.optimised
@pytest.mark.parametrize("name", SMALL)
def test_models_agree(name: str) -> None:
    model = SMALL[name]()
    torch.manual_seed(1)
    y0 = torch.rand(model.state_shape, dtype=DOUBLE) + 0.1
    kernel = native(model, y0)
    captured = list(model.parameters())
    f = problem(model, y0).field
    assert_agree(f, kernel, TIME, y0.reshape(-1), captured)


@pytest.mark.optimised
@pytest.mark.parametrize("hidden", [0, 64])
def test_networks_agree_and_loop(hidden: int) -> None:
    f = Network(hidden)
    torch.manual_seed(2)
    y0 = torch.randn(18, dtype=DOUBLE)
    kernel = native(f, y0)
    assert kernel.unit.operations < 150  # products are loops
    assert_agree(f, kernel, TIME, y0, list(f.parameters()))


def test_many_bodies_agree_in_loops() -> None:
    model = NewtonGravity(mass=[1.0 + i for i in range(7)])
    torch.manual_seed(3)
    y0 = torch.randn(model.state_shape, dtype=DOUBLE)
    kernel = native(model, y0)
    assert "for (int i" in unit_of(kernel.graph).body
    assert_agree(problem(model, y0).field, kernel, TIME, y0.reshape(-1), list(model.parameters()))


def test_single_precision() -> None:
    f = Network(16, torch.float32)
    y0 = torch.randn(18, generator=torch.Generator().manual_seed(4))
    kernel = native(f, y0)
    assert_agree(f, kernel, TIME.float(), y0, list(f.parameters()), tol=2e-4)


def test_parameters_of_a_closure_of_time_and_of_a_tuple() -> None:
    k = torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)
    rate = k.exp() * torch.ones(2, dtype=DOUBLE)  # not a leaf

    def f(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return -rate * y[1] * torch.sin(3 * t), y[0] * t**2 + k.sigmoid()

    y0 = (Y0, Y0 + 1)
    posed = problem(f, y0)
    assert {id(tensor) for tensor in posed.captured} == {id(k), id(rate)}
    kernel = native(f, y0)
    still = rate.detach().requires_grad_()  # so that torch does not go on from it to k

    def g(t: Tensor, y: Tensor) -> Tensor:
        return torch.cat([-still * y[2:] * torch.sin(3 * t), y[:2] * t**2 + k.sigmoid()])

    order = [k if tensor is k else still for tensor in posed.captured]
    assert_agree(g, kernel, TIME, posed.y0, order)


def test_lanes_of_a_batch() -> None:
    f = Network(0)
    y0 = torch.randn(5, 18, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))
    kernel, posed = native(f, y0, batched=True), problem(f, y0, batched=True)
    values = kernel.field(torch.zeros(5), y0, *kernel.pack(posed.captured))
    assert torch.allclose(values, posed.derivative.view(5, 18), rtol=1e-13)


# --- random expressions

UNARY: list[Callable[[Tensor], Tensor]] = [
    torch.sin,
    torch.tanh,
    torch.sigmoid,
    lambda x: (1 + x * x).sqrt(),
    lambda x: x.roll(1),
    lambda x: x.flip(0) * x,
    lambda x: x.softmax(0),
    lambda x: x.clamp(-1, 0.8),
    lambda x: x.cumsum(0).cos(),
    lambda x: x / (1 + x.norm()),
    lambda x: torch.cat([x[1:], x.sum()[None]]),
    lambda x: torch.where(x > 0.1, x, x.square()),
    lambda x: (torch.outer(x, x) @ x).tanh(),
    lambda x: x.reshape(2, -1).T.reshape(-1).exp().log1p(),
]
BINARY: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.add,
    torch.sub,
    torch.mul,
    torch.maximum,
    lambda x, y: x / (2 + y * y),
    lambda x, y: torch.atan2(x, y + 3),
    lambda x, y: (1 + x * x) ** (0.5 * y.tanh()),
    lambda x, y: x.index_add(0, torch.tensor([0, 0, 1]), y[:3]),
]


@st.composite
def programs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]]]:
    """A size, and steps (operation, first argument, second argument) on what there is so far."""
    size = 2 * draw(st.integers(2, 12))
    count = draw(st.integers(2, 10))
    everything = len(UNARY) + len(BINARY)
    return size, [
        (draw(st.integers(0, everything - 1)), draw(st.integers(0, 3 + i)), draw(st.integers(0, 3 + i)))
        for i in range(count)
    ]


def run(steps: Sequence[tuple[int, int, int]], weights: Tensor, matrix: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The program on (y, W y, weights, t)."""
    made = [y, matrix @ y, weights.exp(), torch.sin(t) * weights]
    for op, i, j in steps:
        made.append(UNARY[op](made[i]) if op < len(UNARY) else BINARY[op - len(UNARY)](made[i], made[j]))
    return made[-1] + 0.1 * made[-2]


Steps = list[tuple[int, int, int]]


def program_agrees(program: tuple[int, Steps], seed: int) -> None:
    size, steps = program
    random = torch.Generator().manual_seed(seed)
    y, weights = torch.randn(2, size, generator=random, dtype=DOUBLE)
    matrix = torch.randn(size, size, generator=random, dtype=DOUBLE) / size
    captured = [weights.requires_grad_(), matrix.requires_grad_()]
    f = partial(run, steps, weights, matrix)
    kernel = kernel_of(f, TIME, y, captured, ("-O1",), batched=True)
    assert_agree(f, kernel, TIME, y, captured)
    if "#define ABREAST" in unit_of(kernel.graph, batched=True).body:
        assert_abreast(kernel, TIME, y, captured)


@settings(max_examples=6)  # each is compiled
@given(programs(), st.integers(0, 1000))
def test_random_programs_agree(program: tuple[int, Steps], seed: int) -> None:
    program_agrees(program, seed)


@pytest.mark.slow
@settings(max_examples=30)
@given(programs(), st.integers(0, 1000))
def test_many_more_random_programs_agree(program: tuple[int, Steps], seed: int) -> None:
    program_agrees(program, seed)
