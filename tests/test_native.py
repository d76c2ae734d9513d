"""The native engine's front: which right-hand sides become C, that they agree with torch, and what is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from native_tools import assert_agree, kernel_of
from torch import Tensor, nn

from physid.models.classics import Exponential, LotkaVolterra, Pendulum, VanDerPol
from physid.models.gravity import NewtonGravity, PlanetaryGravity
from physid.ode.native import build
from physid.ode.native.kernel import Kernel, Refusal, kernel_for
from physid.ode.problem import Problem, pose
from physid.spec import Model

DOUBLE = torch.float64
TIME = torch.tensor(0.3, dtype=DOUBLE)
Y0 = torch.tensor([1.0, 0.5], dtype=DOUBLE)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compiled code of these tests goes to a folder of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHYSID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def problem(f: Callable[..., Any], y0: Any = Y0, **options: Any) -> Problem:
    return pose(f, y0, [0.0, 1.0], solver="dopri5", rtol=1e-6, atol=1e-6, **options)


def native(f: Callable[..., Any], y0: Any = Y0, **options: Any) -> Kernel:
    found = kernel_for(problem(f, y0, **options))
    assert isinstance(found, Kernel), found
    return found


def refused(f: Callable[..., Any], y0: Any = Y0, **options: Any) -> str:
    found = kernel_for(problem(f, y0, **options))
    assert isinstance(found, Refusal)
    return found.reason


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


@pytest.mark.parametrize("name", SMALL)
def test_models_agree(name: str) -> None:
    model = SMALL[name]()
    torch.manual_seed(1)
    y0 = torch.rand(model.state_shape, dtype=DOUBLE) + 0.1
    kernel = native(model, y0)
    captured = list(model.parameters())
    f = problem(model, y0).field
    assert_agree(f, kernel, TIME, y0.reshape(-1), captured)


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
    assert "for (int i" in kernel.unit.source
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


@settings(max_examples=20, deadline=None)
@given(programs(), st.integers(0, 1000))
def test_random_programs_agree(program: tuple[int, list[tuple[int, int, int]]], seed: int) -> None:
    size, steps = program
    random = torch.Generator().manual_seed(seed)
    y, weights = torch.randn(2, size, generator=random, dtype=DOUBLE)
    matrix = torch.randn(size, size, generator=random, dtype=DOUBLE) / size
    captured = [weights.requires_grad_(), matrix.requires_grad_()]
    f = partial(run, steps, weights, matrix)
    assert_agree(f, kernel_of(f, TIME, y, captured, ("-O1",)), TIME, y, captured)


# --- what is refused


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda t, y: -y if float(t) > 0.5 else y, "branch"),
        (lambda t, y: -y if (y > 0).all() else y, "branch"),
        (lambda t, y: -y * y.sum().item(), "Python number"),
        (lambda t, y: -y * torch.rand(2, dtype=DOUBLE), "random numbers"),
        (lambda t, y: nn.functional.dropout(y, 0.5), "random numbers"),
        (lambda t, y: -y.float().double(), "torch.float32"),
        (lambda t, y: torch.linalg.inv(torch.outer(y, y) + torch.eye(2, dtype=DOUBLE)) @ y, "unsupported operation"),
        (lambda t, y: y.sort().values, "unsupported operation sort"),
        (lambda t, y: y[(3 * t).long().clamp(0, 1)] * y, "state"),
        (lambda t, y: -torch.from_numpy(y.detach().numpy().copy()), "mismatch"),
    ],
)
def test_refusals_name_the_cause(f: Callable[..., Any], why: str) -> None:
    assert why in refused(f)


def test_refused_states() -> None:
    assert "complex128" in refused(lambda t, y: -y, Y0.to(torch.complex128))
    assert "float16" in refused(lambda t, y: -y, Y0.half())
    table = {"factor": torch.rand(5, 1, dtype=DOUBLE)}
    found = refused(lambda t, y: -table["factor"] * y, torch.rand(5, 2, dtype=DOUBLE), batched=True)
    assert "of one sample" in found
    norm = nn.BatchNorm1d(2, dtype=DOUBLE)
    assert "batch norm" in refused(lambda t, y: norm(y), torch.rand(5, 2, dtype=DOUBLE))
    norm.eval()
    native(lambda t, y: norm(y), torch.rand(5, 2, dtype=DOUBLE))


def test_a_closure_over_a_row_per_sample_is_cut_to_one() -> None:
    factor = torch.rand(5, 1, dtype=DOUBLE)
    assert native(lambda t, y: -factor * y, torch.rand(5, 2, dtype=DOUBLE), batched=True).own_constants == (True,)


class Counting(nn.Module):
    calls = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return -y


def test_a_field_that_counts_its_calls_stays_eager() -> None:
    assert "changes 'calls'" in refused(Counting())


# --- what is noticed


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=DOUBLE))
        self.register_buffer("shift", torch.tensor([0.0, 3.0], dtype=DOUBLE))
        self.power, self.kinds = {"value": 2}, [["sin"]]

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        value = self.scale * self.weight * y ** self.power["value"] + self.get_buffer("shift")
        return value.sin() if "sin" in self.kinds[0] else value


def start(f: Scaled) -> Tensor:
    posed = problem(f)
    kernel = kernel_for(posed)
    assert isinstance(kernel, Kernel)
    value = kernel.field(torch.zeros(1), Y0, *kernel.pack(posed.captured))
    assert torch.allclose(value, f(TIME, Y0), rtol=1e-13)
    return value


def test_changes_are_noticed() -> None:
    f = Scaled()
    seen = [start(f)]

    def changed() -> None:
        seen.append(start(f))
        assert not torch.equal(seen[-1], seen[-2])

    f.scale = 3.0
    changed()
    f.power["value"] = 3
    changed()
    f.kinds[0][0] = "none"
    changed()
    f.shift = torch.tensor([0.0, 5.0], dtype=DOUBLE)
    changed()
    f.get_buffer("shift")[1] = 6.0
    changed()
    f.get_buffer("shift")[0] = 0.5  # a zero that was written into the code
    changed()
    kernel = native(f)
    f.get_buffer("shift")[0] = 0.0  # from now on it is read
    changed()
    assert native(f) is kernel
    with torch.no_grad():
        f.weight.mul_(2)
    changed()
    f.weight = nn.Parameter(torch.tensor([0.3, 0.4], dtype=DOUBLE))
    changed()


FACTOR = 2.0


def test_globals_and_cells_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = 1.0

    def f(t: Tensor, y: Tensor) -> Tensor:
        return FACTOR * cell * y

    def slope() -> float:
        posed = problem(f)
        kernel = kernel_for(posed)
        assert isinstance(kernel, Kernel)
        return float(kernel.field(torch.zeros(1), Y0, *kernel.pack(posed.captured))[0])

    assert slope() == 2.0
    cell = 4.0
    assert slope() == 8.0
    monkeypatch.setitem(globals(), "FACTOR", 0.5)
    assert slope() == 2.0


# --- compiler and cache

PROGRAM = """
import sys, torch
from physid.ode.native.kernel import Kernel, kernel_for
from physid.ode.problem import pose
y = torch.tensor([1.0, 2.0], dtype=torch.float64)
found = kernel_for(pose(lambda t, y: y.sin() * 1.25, y, [0.0, 1.0], solver="dopri5", rtol=1e-6, atol=1e-6))
print(found.field(torch.zeros(1), y, *found.pack([])).tolist() if isinstance(found, Kernel) else found.reason)
"""


def start_process(cache: Path, **environment: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "PHYSID_CACHE": str(cache), **environment}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=variables, stdout=subprocess.PIPE, text=True)


def test_processes_share_the_cache_and_survive_damage(tmp_path: Path) -> None:
    expected = f"{(torch.tensor([1.0, 2.0], dtype=DOUBLE).sin() * 1.25).tolist()}\n"
    both = [start_process(tmp_path) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == [expected] * 2
    (library,) = (tmp_path / "native").glob("*.so")
    assert len(list((tmp_path / "native").iterdir())) == 2  # and its sum: nothing half made is left
    library.write_bytes(library.read_bytes()[:5000])
    assert start_process(tmp_path).communicate(timeout=120)[0] == expected
    assert len(library.read_bytes()) > 5000


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return y.cos() * 0.123

    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert refused(f) == "no C compiler (CC=/nonexistent/cc is not on the path)"
    monkeypatch.delenv("CC")
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert "the C compiler failed" in refused(lambda t, y: y.cos() * 0.124)


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "file"))
    native(lambda t, y: y.cos() * 0.321)
    assert build.native_folder().is_dir()
