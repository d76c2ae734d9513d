"""What the native engine refuses, what it notices, and how it keeps what it has compiled."""

from __future__ import annotations

import gc
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from native_tools import DOUBLE, TIME, Y0, native, problem, refused
from torch import Tensor, nn

from physid.ode import solve
from physid.ode.native.compile import kernel_for
from physid.ode.native.compiler import build
from physid.ode.native.kernel import Kernel


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compiled code of these tests goes to a folder of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHYSID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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
        (lambda t, y: torch.linalg.eigh(torch.outer(y, y)).eigenvalues, "unsupported operation"),
        (lambda t, y: y.sort().values, "unsupported operation sort"),
        (lambda t, y: y[(3 * t).long().clamp(0, 1)] * y, "state"),
        (lambda t, y: -torch.from_numpy(y.detach().numpy().copy()), "NumPy"),
    ],
)
def test_refusals_name_the_cause(f: Callable[..., Any], why: str) -> None:
    assert why in refused(f)


def test_what_hangs_on_the_collector_of_garbage_is_not_of_f() -> None:
    def told(phase: str, info: dict[str, int]) -> None:
        time.perf_counter()

    before = gc.get_threshold()
    gc.callbacks.append(told)
    gc.set_threshold(1)
    try:
        native(lambda t, y: -0.3 * y * y)
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(told)


def test_refused_states() -> None:
    assert "complex128" in refused(lambda t, y: -y, Y0.to(torch.complex128))
    with pytest.warns(UserWarning, match="with float16 states"):
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
        return -y if self.calls < 10**6 else y


def test_a_field_that_reads_how_often_it_was_called_stays_eager() -> None:
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
from physid.ode.native.kernel import Kernel
from physid.ode.native.compile import kernel_for
from physid.ode.problem import pose
y = torch.tensor([1.0, 2.0], dtype=torch.float64)
found = kernel_for(pose(lambda t, y: y.sin() * 1.25, y, [0.0, 1.0], solver="dopri5", rtol=1e-6, atol=1e-6))
print(found.field(torch.zeros(1), y, *found.pack([])).tolist() if isinstance(found, Kernel) else found.reason)
"""


def start_process(python: str, cache: Path) -> subprocess.Popen[str]:
    variables = {**os.environ, "PHYSID_CACHE": str(cache)}
    return subprocess.Popen([python, "-c", PROGRAM], env=variables, stdout=subprocess.PIPE, text=True)


def test_processes_share_the_cache_and_survive_damage(tmp_path: Path, python: str) -> None:
    expected = f"{(torch.tensor([1.0, 2.0], dtype=DOUBLE).sin() * 1.25).tolist()}\n"
    both = [start_process(python, tmp_path) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == [expected] * 2
    (library, *_) = (tmp_path / "native").glob("*.so")
    assert not [path for path in (tmp_path / "native").iterdir() if path.name.startswith(".")]  # nothing half made
    library.write_bytes(library.read_bytes()[:5000])
    assert start_process(python, tmp_path).communicate(timeout=120)[0] == expected


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
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    native(lambda t, y: y.cos() * 0.321)
    assert build.native_folder().parent == tmp_path


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_jumps_that_are_moved_in_place(engine: str) -> None:
    class Kicked:
        switches = torch.tensor([0.5], dtype=DOUBLE)

        def __call__(self, t: Tensor, y: Tensor) -> Tensor:
            one = torch.ones_like(y)
            return torch.where(t < self.switches, one, -3 * one)

    f, y0 = Kicked(), torch.zeros(1, dtype=DOUBLE)
    assert 0.5 in solve(f, y0, [0.0, 1.0], engine=engine).grid.tolist()  # type: ignore[union-attr]
    f.switches[0] = 0.3
    moved = solve(f, y0, [0.0, 1.0], engine=engine)
    assert {0.3, 0.5} & set(moved.grid.tolist()) == {0.3}  # type: ignore[union-attr]
    assert abs(float(moved.y[-1]) + 1.8) < 1e-12
